"""Rows of `benchmarks/quality.py`: which ones are kept, where STLM is behind, and the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

Row: TypeAlias = dict[str, Any]
"""Plain data: {"facts": everything that determines the row, "command": how it was measured, "measured": figures}."""

TITLES = {
    "stlm": "STLM",
    "memory-mobilesam": "memory, MobileSAM",
    "memory-efficientnet": "memory, EfficientNet",
    "patchcore": "PatchCore (anomalib)",
    "padim": "PaDiM (anomalib)",
}
"""Names of the methods in the table. All but the first two use EfficientNet-lite0."""

QUALITY = {"i_auroc": "I-AUROC", "p_auroc": "P-AUROC", "aupro": "AUPRO", "ap": "AP"}
LEVEL = 0.005
"""STLM is not called behind where a peer's metric is higher by no more than this: half a percentage point."""

# Two rows that share these facts measure the same thing; the newer one replaces the older.
_IDENTITY = ("method", "category", "size", "photographs")


def find(rows: Sequence[Row], facts: dict[str, Any]) -> Row | None:
    """The row that was measured under exactly these facts."""
    return next((row for row in rows if row["facts"] == facts), None)


def with_row(rows: Sequence[Row], row: Row) -> list[Row]:
    """The rows and a new one, without an older measurement of the same thing."""
    identity = [row["facts"][name] for name in _IDENTITY]
    rest = [other for other in rows if [other["facts"][name] for name in _IDENTITY] != identity]
    return [*rest, row]


def behind(rows: Sequence[Row]) -> list[str]:
    """A sentence for each figure in which a peer is better than STLM, category by category.

    A peer is better where its size, latency or memory is lower, or where a metric is higher by more than `LEVEL`. Time
    to fit is not compared: STLM's was taken on the machine that trained it.
    """
    sentences = []
    for own in (row for row in rows if row["facts"]["method"] == "stlm"):
        category = own["facts"]["category"]
        peers = [row for row in rows if _comparable(own, row)]
        for name, unit, read in _FIGURES:
            mine = read(own)
            for peer in peers:
                theirs = read(peer)
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
    """A sentence for each peer that `behind` leaves out: its row is of other code, another machine or other threads."""
    own = {row["facts"]["category"]: row for row in rows if row["facts"]["method"] == "stlm"}
    return [
        f"{row['facts']['category']}: {TITLES[row['facts']['method']]} is not compared, its row is of other code or "
        "another machine than STLM's; measure both again."
        for row in rows
        if row["facts"]["method"] != "stlm"
        and (stlm := own.get(row["facts"]["category"])) is not None
        and row["facts"]["photographs"] == stlm["facts"]["photographs"]
        and not _comparable(stlm, row)
    ]


def _comparable(own: Row, row: Row) -> bool:
    """Whether a row is that of a peer, with STLM's photographs, code, machine and number of threads."""
    same = ("category", "photographs", "hardware", "threads", "code")
    return row["facts"]["method"] != "stlm" and all(row["facts"].get(n) == own["facts"].get(n) for n in same)


def table(category: str, rows: Sequence[Row]) -> Table:
    """A table with one row for each method, narrow enough for a terminal of 80 columns."""
    columns = ("px", "fit s", "ms", "disk MB", "RAM MB", *QUALITY.values())
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title=f"{category}, on the same photographs")
    shown.add_column("method", min_width=12)
    for column in columns:  # headings may take two lines, numbers may not
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
    """Prints a table for each category, then where STLM is behind and what was not measured.

    Args:
        rows: rows of this run.
        notes: sentences about missing rows.
        console: where to print.
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
"""Compared figures: name, unit, how to read it from a row."""
