"""README and docs show the figures that files of results hold; the repository holds no photographs of data sets."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from benchmarks.quality_report import TITLES
from stlm_hub.models.stlm.anomaly_maps import KINDS

ROOT = Path(__file__).resolve().parents[1]
CATEGORIES = ("bottle", "grid")
QUALITY = ("i_auroc", "p_auroc", "aupro", "ap")
PICTURES = (  # what Git may hold: plots, samples that may be shown anywhere, and the pictures of README
    "model_cards/*/curves.png",
    "model_cards/*/losses.png",
    "model_cards/*/scores.png",
    "model_cards/sample-brick/example_*.png",
    "docs/page.png",
    "docs/panel.png",
)


def section(document: str, heading: str) -> list[str]:
    """Lines from a heading to the next one of its level or above."""
    lines = (ROOT / document).read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("#") and line.lstrip("# ").startswith(heading))
    level = len(lines[start]) - len(lines[start].lstrip("#"))
    end = (i for i in range(start + 1, len(lines)) if lines[i].startswith("#") and lines[i].find(" ") <= level)
    return lines[start : next(end, len(lines))]


def rows(lines: list[str]) -> Iterator[list[str]]:
    """Cells of the tables' rows, without marks of emphasis."""
    for line in lines:
        if line.startswith("|") and not line.startswith("|---"):
            yield [cell.strip(" *") for cell in line.strip("|").split("|")]


def percent(metrics: dict[str, Any], names: tuple[str, ...], digits: int) -> list[str]:
    return [f"{100 * metrics[name]:.{digits}f}" for name in names]


def ablation(table: str) -> list[dict[str, Any]]:
    """Rows of a table's files, each with its category."""
    found = sorted((ROOT / "benchmarks" / "ablations").glob(f"mvtec-*-cpu-short-{table}*.json"))
    files = [json.loads(path.read_text()) for path in found]
    return [
        row | {"category": file["category"].partition("-")[2]}
        for file in files
        for row in file["rows"]
        if "metrics" in row
    ]


@pytest.mark.parametrize(
    ("heading", "table"),
    [("Table 4", "4"), ("Table 6", "6"), ("Table 11", "11"), ("Recipe", "recipe"), ("Options", "options")],
)
def test_the_tables_of_ablations_are_those_of_the_files(heading: str, table: str) -> None:
    measured = ablation(table)
    assert measured
    category = "bottle"
    shown = []
    for cells in rows(section("docs/ablations.md", heading)):
        figures = [cell for cell in cells if cell.replace(".", "").isdigit() and "." in cell]
        if len(figures) < 5:
            continue
        if cells[0] in CATEGORIES:
            category = cells[0]
        same = [
            row
            for row in measured
            if row["category"] == category and percent(row["metrics"], (*QUALITY, "fnr"), 2) == figures[:5]
        ]
        assert same, f"{heading}: no file has {cells}"
        streams = next((cell for cell in cells if cell.count(" / ") == 3), None)
        if streams is not None:
            others = [row["other_maps"]["metrics_without_aggregation"] for row in same]
            assert streams in [" / ".join(percent(other, QUALITY, 1)) for other in others], cells
        shown.append(figures[:5])
    assert all(percent(row["metrics"], (*QUALITY, "fnr"), 2) in shown for row in measured)


def test_the_table_of_peers_is_that_of_the_measurements() -> None:
    names = {**TITLES, "memory-efficientnet": "memory, EfficientNet-lite0"}
    names |= {method: f"{TITLES[method]}, EfficientNet-lite0" for method in ("patchcore", "padim")}
    expected = []
    for row in json.loads((ROOT / "benchmarks" / "quality.json").read_text())["rows"]:
        facts, measured = row["facts"], row["measured"]
        cost = (
            f"{measured['fit_seconds']:.0f}",
            f"{measured['latency_ms']['median']:.0f}",
            f"{measured['size_bytes'] / 1e6:.1f}",
            f"{measured['predict_memory_bytes'] / 1e6:.0f}",
        )
        place = [facts["category"], names[facts["method"]], str(facts["size"])]
        expected.append([*place, *cost, *percent(measured["metrics"], QUALITY, 1)])
    shown = [cells for cells in rows(section("docs/benchmarks.md", "What came out")) if cells[0] != "category"]
    assert sorted(shown) == sorted(expected)


def test_the_table_of_maps_is_that_of_the_cards() -> None:
    shown: dict[str, list[list[str]]] = {}
    for cells in rows(section("docs/benchmarks.md", "A memory beside the streams")):
        if cells[0].startswith("mvtec-"):
            alias = cells[0].partition(" ")[0]
            shown[alias] = []
        elif cells[0] in ("mean", "memory, combination"):
            break
        if shown:
            shown[alias].append(cells[2:])
    assert len(shown) == 5
    for alias, table in shown.items():
        results = json.loads((ROOT / "model_cards" / alias / "results.json").read_text())
        assert table == [percent(results[kind.figures], (*QUALITY, "fnr"), 1) for kind in KINDS.values()], alias


def test_readme_shows_the_means_of_the_peers() -> None:
    measured = json.loads((ROOT / "benchmarks" / "quality.json").read_text())["rows"]
    readme = (ROOT / "README.md").read_text()
    named = {"memory-efficientnet": "a memory on EfficientNet-lite0", "memory-mobilesam": "a memory on MobileSAM"}
    for method, name in {**named, "padim": "PaDiM on EfficientNet-lite0"}.items():
        five = [row["measured"]["metrics"] for row in measured if row["facts"]["method"] == method]
        means = [f"*{sum(100 * metrics[name] for metrics in five) / 5:.1f}*" for name in QUALITY]
        assert len(five) == 5
        assert f"| *mean of {name}* | *the same photographs* | *the same* | {' | '.join(means)} | | |" in readme


def test_readme_shows_what_a_training_step_costs() -> None:
    settings = json.loads((ROOT / "benchmarks" / "training.json").read_text())["settings"]
    measured = [
        [
            f"{row['before']['seconds_per_step']:.2f} s" if "before" in row else "-",
            f"{row['after']['seconds_per_step']:.2f} s",
            f"{row['after']['peak_gb']:.1f} GB",
        ]
        for row in settings
        if "crop" not in row["training"]
    ]
    lines = section("README.md", "Make the zoo yourself")
    assert [cells[1:] for cells in rows(lines) if cells[0].startswith(("profile", "the"))] == measured


def test_git_holds_no_photographs_of_data_sets() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is an unpacked archive, of which Git holds nothing")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    endings = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")
    pictures = [name for name in listed.stdout.split("\0") if name.lower().endswith(endings)]
    assert pictures and [name for name in pictures if not any(fnmatch(name, allowed) for allowed in PICTURES)] == []
