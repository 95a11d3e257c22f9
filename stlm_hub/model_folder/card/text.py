"""What results.json says, found and put into words for a model card."""

from __future__ import annotations

import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any


def lookup(data: Any, path: str) -> Any:
    """The value at a dotted path, None where a part of it is missing."""
    for key in path.split("."):
        data = data.get(key) if isinstance(data, dict) else None
    return data


def official_split(results: Any) -> bool | None:
    """Whether the figures are of the data set's own split; None where it has none or nothing is known.

    The readers of `train/datasets` say "official", or "not the official one" and what differs.
    """
    split = lookup(results, "dataset.split")
    if not isinstance(split, str):
        return None
    return True if split == "official" else False if split.startswith("not the official one") else None


def markdown(value: Any) -> str:
    """One line that Markdown shows as it is, also in a table."""
    return "" if value is None else re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(str(value).split()))


def percent(fraction: float, digits: int = 6) -> str:
    """As short as it goes, with at most so many digits."""
    return f"{100 * fraction:.{digits}g} %"


def public_source(source: str) -> str:
    """Results are published: of a path on someone's machine, whichever system it has, the file's name is enough."""
    is_path = PurePosixPath(source).is_absolute() or PureWindowsPath(source).is_absolute()
    return PureWindowsPath(source).name if is_path else source
