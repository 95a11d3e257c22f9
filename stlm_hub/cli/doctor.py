"""`stlm doctor`: what is there, what is not, and how to mend it."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer
from rich.markup import escape

from .console import say

MARKS = {"ok": "[green]ok[/]     ", "optional": "[yellow]not here[/]", "missing": "[bold red]MISSING[/] "}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Says what this machine lacks and how to get it. Exit code 1: something is missing that every command needs."""
    from .health import installed
    from .surroundings import surroundings

    findings = [*installed(), *surroundings()]
    healthy = all(finding.state != "missing" for finding in findings)
    if as_json:
        typer.echo(json.dumps({"healthy": healthy, "findings": [dataclasses.asdict(finding) for finding in findings]}))
    else:
        for finding in findings:
            mend = f"  -> {finding.mend}" if finding.mend else ""
            words = f"{finding.name}: {finding.found}".rstrip(": ") + mend
            say(f"{MARKS[finding.state]} {escape(words)}", markup=True)
    if not healthy:
        raise typer.Exit(1)
