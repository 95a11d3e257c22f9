"""Rows of `benchmarks/quality.py`: which are kept from an earlier run, where STLM is behind, and the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

Row: TypeAlias = dict[str, Any]
"""{"facts": what decides the row, "command": that measured it, "measured": what came out}, plain data."""

TITLES = {
    "stlm": "STLM",
    "memory-mobilesam": "memory, MobileSAM",
    "memory-efficientnet": "memory, EfficientNet",
    "patchcore": "PatchCore (anomalib)",
    "padim": "PaDiM (anomalib)",
}
"""Methods and what the table calls them; all but the first two use EfficientNet-lite0."""

QUALITY = {"i_auroc": "I-AUROC", "p_auroc": "P-AUROC", "aupro": "AUPRO", "ap": "AP"}
LEVEL = 0.005
"""A quality figure this far below a peer's counts as level: half a percentage point."""

_PLACE = ("method", "category", "size", "photographs")  # two rows that share these are measurements of one thing


def find(rows: Sequence[Row], facts: dict[str, Any]) -> Row | None:
    """The row that was measured under exactly these facts."""
    return next((row for row in rows if row["facts"] == facts), None)


def with_row(rows: Sequence[Row], row: Row) -> list[Row]:
    """The rows with one more, which takes the place of an older measurement of the same thing."""
    place = [row["facts"][name] for name in _PLACE]
    rest = [other for other in rows if [other["facts"][name] for name in _PLACE] != place]
    return [*rest, row]


def behind(rows: Sequence[Row]) -> list[str]:
    """Sentences: for each category and each figure the peers that do better than STLM.

    Fit time is not compared, since STLM's is of whatever machine it was trained on. Of size and latency less is better,
    of quality a peer is better where it is more than `LEVEL` above.
    """
    sentences = []
    for own in (row for row in rows if row["facts"]["method"] == "stlm"):
        category = own["facts"]["category"]
        peers = [row for row in rows if _comparable(own, row)]
        for name, unit, of in _FIGURES:
            mine = of(own)
            for peer in peers:
                theirs = of(peer)
                if mine is None or theirs is None:
                    continue
                worse = theirs < mine if unit != "%" else theirs > mine + 100 * LEVEL
                if worse:
                    digits = 2 if unit == "%" else 1
                    sentences.append(
                        f"{category}: {TITLES[peer['facts']['method']]} has the better {name}, "
                        f"{theirs:.{digits}f} {unit} against STLM's {mine:.{digits}f} {unit}."
                    )
    return sentences


def not_compared(rows: Sequence[Row]) -> list[str]:
    """Sentences: the rows of peers that `behind` leaves out, since code, processor or threads are not STLM's."""
    own = {row["facts"]["category"]: row for row in rows if row["facts"]["method"] == "stlm"}
    return [
        f"{row['facts']['category']}: {TITLES[row['facts']['method']]} is not compared, its row is of other code or "
        "another machine than STLM's; measure both again."
        for row in rows
        if row["facts"]["method"] != "stlm"
        and (of := own.get(row["facts"]["category"])) is not None
        and row["facts"]["photographs"] == of["facts"]["photographs"]
        and not _comparable(of, row)
    ]


def _comparable(own: Row, row: Row) -> bool:
    """A peer's row of the same photographs and code, on the same machine with as many threads."""
    same = ("category", "photographs", "hardware", "threads", "code")
    return row["facts"]["method"] != "stlm" and all(row["facts"].get(n) == own["facts"].get(n) for n in same)


def table(category: str, rows: Sequence[Row]) -> Table:
    """A row for each method, narrow enough for 80 columns."""
    columns = ("px", "fit s", "ms", "disk MB", "RAM MB", *QUALITY.values())
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title=f"{category}, on the same photographs")
    shown.add_column("method", min_width=12)
    for column in columns:  # titles and methods may take two lines, a number may not
        shown.add_column(column, justify="right", min_width=max(map(len, column.split())) if " " in column else None)
    for row in rows:
        facts, measured = row["facts"], row["measured"]
        shown.add_row(
            TITLES[facts["method"]],
            str(facts["size"]),
            _number(measured["fit_seconds"], 0),
            _number(measured["latency_ms"]["median"], 0),
            _number(_megabytes(measured["size_bytes"]), 1),
            _number(_megabytes(measured["predict_memory_bytes"]), 0),
            *(_number(_percent(measured["metrics"][name]), 2) for name in QUALITY),
        )
    return shown


def show(rows: Sequence[Row], notes: Sequence[str], console: Console) -> None:
    """Prints a table for each category, and below it where STLM is behind and what was not measured.

    Args:
        rows: of this run.
        notes: sentences on rows that are missing.
    """
    for category in dict.fromkeys(row["facts"]["category"] for row in rows):
        console.print(table(category, [row for row in rows if row["facts"]["category"] == category]))
    sentences = behind(rows)
    if sentences:
        console.print("STLM is behind:", style="bold")
    elif any(_comparable(own, row) for own in rows if own["facts"]["method"] == "stlm" for row in rows):
        console.print(
            "STLM is nowhere behind: no peer measured here is smaller, faster or better by more than "
            f"{100 * LEVEL:.1f} points."
        )
    for sentence in [*sentences, *not_compared(rows), *notes]:
        console.print(f"- {sentence}", highlight=False, markup=False, soft_wrap=True)


def _megabytes(value: float | None) -> float | None:
    return None if value is None else value / 1e6


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


_FIGURES: list[tuple[str, str, Any]] = [
    ("size on disk", "MB", lambda row: _megabytes(row["measured"]["size_bytes"])),
    ("latency", "ms", lambda row: row["measured"]["latency_ms"]["median"]),
    ("memory while predicting", "MB", lambda row: _megabytes(row["measured"]["predict_memory_bytes"])),
    *((title, "%", lambda row, n=name: _percent(row["measured"]["metrics"][n])) for name, title in QUALITY.items()),
]
