"""Values on their way into Markdown: what comes from a file is escaped, what we wrote ourselves is `Ready`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any


class Ready(str):
    """Markdown of our own, shown as it is. Joined to anything, it is an ordinary text again and will be escaped."""

    __slots__ = ()


def shown(value: Any) -> Any:
    """What the template puts out for a value: numbers and `Ready` as they are, everything else escaped.

    Jinja calls it for each `{{ ... }}`, so that no text of results.json can be let through by oversight.
    """
    return value if isinstance(value, (Ready, int, float)) else markdown(value)


def markdown(value: Any) -> str:
    """One line that Markdown shows as it is, also in a table."""
    return "" if value is None else re.sub(r"([\\`*_\[\]<>|#~$&])", r"\\\1", " ".join(str(value).split()))


def table(rows: Sequence[Sequence[str]], *, left: int = 1) -> Ready:
    """A table in Markdown.

    Args:
        rows: cells, the heading first; escaped but where they are `Ready`.
        left: columns from the left that are text; numbers in the others are aligned on the right.
    """
    lines = ["| " + " | ".join(str(shown(cell)) for cell in row) + " |" for row in rows]
    rule = "|" + "---|" * left + "---:|" * (len(rows[0]) - left)
    return Ready("\n".join([lines[0], rule, *lines[1:]]))


def code_block(language: str, lines: Sequence[str]) -> Ready:
    """Code in a fence that none of its lines can close."""
    text = "\n".join(" ".join(line.split()) for line in lines)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return Ready(f"{fence}{language}\n{text}\n{fence}")


def slug(text: str) -> str:
    """Small letters, digits, dots and dashes."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def public_source(source: str) -> str:
    """Results are published: of a path on someone's machine, whichever system it has, the file's name is enough."""
    is_path = PurePosixPath(source).is_absolute() or PureWindowsPath(source).is_absolute()
    return PureWindowsPath(source).name if is_path else source
