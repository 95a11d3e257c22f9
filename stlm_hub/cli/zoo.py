"""`stlm zoo`: the models that load by name."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from .console import console, say

FIGURES = {"I-AUROC": "i_auroc", "P-AUROC": "p_auroc", "AUPRO": "aupro", "AP": "ap", "FNR": "fnr"}
"""Columns of `stlm zoo list`, and their names in zoo.json."""

AliasArgument = Annotated[str, typer.Argument(help="Name of a model, from `stlm zoo list`.")]

zoo_app = typer.Typer(no_args_is_help=True, help="The models that load by name.")


@zoo_app.command("list")
def zoo_list() -> None:
    """The models that can be loaded by name, with their figures on their test photographs, in percent."""
    from ..model_folder.zoo import list_models

    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)  # names stay whole in 80 columns
    table.add_column("alias", no_wrap=True)
    for title in ("data set", "px", *FIGURES):
        table.add_column(title)
    table.add_column("licence", overflow="fold")
    entries = list_models()
    for entry in entries:
        dataset = entry.dataset + ("*" if entry.official_split is False else "")
        figures = [f"{100 * entry.metrics[name]:.1f}" if name in entry.metrics else "-" for name in FIGURES.values()]
        table.add_row(entry.alias, dataset, "x".join(str(side) for side in entry.input_size), *figures, entry.license)
    console.print(table)
    say("FNR: share of the test photographs with a defect that the model misses at its threshold.")
    if any(entry.official_split is False for entry in entries):
        say("* Not on the data set's own split; the model's card says what differs.")


@zoo_app.command("pull")
def zoo_pull(
    alias: AliasArgument, force: Annotated[bool, typer.Option(help="Download again what is there but damaged.")] = False
) -> None:
    """Gets a model onto this machine, so that it loads without a network."""
    from ..model_folder.zoo_files import pull

    say(f"{alias}: {pull(alias, force=force).folder}")


@zoo_app.command("verify")
def zoo_verify(alias: AliasArgument) -> None:
    """Compares a model's files on this machine with the checksums of the zoo."""
    from ..model_folder.zoo_files import verify

    found = verify(alias)
    for problem in found.problems:
        say(f"[red]{escape(problem)}[/]", markup=True)
    if found.problems:
        raise typer.Exit(1)
    say(f"{alias} is whole: {found.folder}, {found.bytes / 1e6:.1f} MB.")
