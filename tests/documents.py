"""What the tests of documents share: tables and headings of Markdown, figures of result files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (
    *("README.md", "ARCHITECTURE.md", "space/README.md"),
    *sorted(f"docs/{path.name}" for path in ROOT.glob("docs/*.md")),
)
MAPS = ("aggregation", "cosine", "memory", "combined")
QUALITY = ("i_auroc", "p_auroc", "aupro", "ap")


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def section(document: str, heading: str) -> list[str]:
    """Lines from a heading to the next one of its level or above."""
    lines = read(document).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("#") and line.lstrip("# ").startswith(heading))
    level = len(lines[start]) - len(lines[start].lstrip("#"))
    end = (i for i in range(start + 1, len(lines)) if lines[i].startswith("#") and lines[i].find(" ") <= level)
    return lines[start : next(end, len(lines))]


def rows(lines: list[str]) -> Iterator[list[str]]:
    """Cells of the tables' rows, without marks of emphasis."""
    for line in lines:
        if line.startswith("|") and not line.startswith("|---"):
            yield [cell.strip(" *`") for cell in line.strip("|").split("|")]


def without_code(text: str) -> str:
    """The document without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def spans(text: str) -> list[str]:
    """What stands between single backticks, each on one line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", without_code(text))]


def card_maps(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Figures of each map that results.json holds. The only place that knows where they stand."""
    if "maps" in results:
        known = {name: results["maps"][name] for name in MAPS if name in results["maps"]}
        return {name: {k: v for k, v in figures.items() if v is not None} for name, figures in known.items()}
    keys = {"aggregation": "metrics", "cosine": "metrics_without_aggregation"}
    keys |= {"memory": "metrics_memory", "combined": "metrics_combined"}
    return {name: results[key] for name, key in keys.items() if results.get(key)}


@dataclass(frozen=True)
class Card:
    """Of a model in model_cards/: figures of each map, what it missed and rejected, and of how many photographs."""

    maps: dict[str, dict[str, float]]
    missed: int
    anomalous: int
    rejected: int
    good: int
    held_out: int


@cache
def card(alias: str) -> Card:
    folder = ROOT / "model_cards" / alias
    results = json.loads((folder / "results.json").read_text())
    judging = folder / "calibration.json"
    calibration = (json.loads(judging.read_text()) if judging.is_file() else results)["calibration"]
    good, anomalous = results["test_scores"]["good"], results["test_scores"]["anomalous"]
    return Card(
        maps=card_maps(results),
        missed=sum(score < calibration["threshold"] for score in anomalous),
        anomalous=len(anomalous),
        rejected=sum(score >= calibration["threshold"] for score in good),
        good=len(good),
        held_out=calibration["n"],
    )


def peers() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((ROOT / "benchmarks" / "quality.json").read_text())["rows"]
    return rows


def percent(metrics: dict[str, Any], names: tuple[str, ...], digits: int) -> list[str]:
    return [f"{100 * metrics[name]:.{digits}f}" for name in names]


def mean(figures: list[dict[str, float]], names: tuple[str, ...] = QUALITY) -> list[str]:
    return [f"{100 * sum(one[name] for one in figures) / len(figures):.1f}" for name in names]
