"""README, guide and zoo.md show the figures that the models' files hold."""

from __future__ import annotations

import json
import re

import pytest
from documents import QUALITY, ROOT, card, mean, peers, percent, read, rows, section

from stlm_hub.model_folder.zoo import ZooEntry, list_models
from train.recipe import read_paper

ZOO = {entry.alias: entry for entry in list_models()}
FIVE = [alias for alias in ZOO if alias.startswith("mvtec-")]


def zoo_rows(document: str, heading: str) -> dict[str, list[str]]:
    """Cells of the rows about models of the zoo, by alias."""
    return {cells[0].partition("`")[0]: cells for cells in rows(section(document, heading)) if "-" in cells[0]}


def check_zoo_row(entry: ZooEntry, cells: list[str]) -> None:
    counts = card(entry.alias)
    joined = " | ".join(cells)
    assert " | ".join(percent(entry.metrics, QUALITY, 1)) in joined
    assert f"{entry.input_size[0]} px" in cells
    assert f"{counts.missed} of {counts.anomalous}" in cells
    assert f"{counts.rejected} of {counts.good}" in cells
    assert ("not the official split" in joined) == (entry.official_split is False)


@pytest.mark.parametrize(("document", "heading"), [("README.md", "The zoo"), ("docs/zoo.md", "Figures")])
def test_the_figures_of_the_zoo_are_those_of_the_models(document: str, heading: str) -> None:
    shown = zoo_rows(document, heading)
    for alias, entry in ZOO.items():
        check_zoo_row(entry, shown[alias])


def test_the_means_are_those_of_models_paper_and_peers() -> None:
    shown = {cells[0]: cells for cells in rows(section("docs/zoo.md", "Figures"))}
    assert len(FIVE) == 5
    assert shown["mean of the five MVTec categories"][3:7] == mean([ZOO[alias].metrics for alias in FIVE])
    paper = read_paper()["mvtec"]
    for alias in FIVE:
        category = alias.partition("-")[2]
        assert shown[f"the paper's {category}"][3:6] == mean([paper[category]], QUALITY[:3])
    of_these = [paper[alias.partition("-")[2]] for alias in FIVE]
    assert shown["the paper's mean of these five"][3:6] == mean(of_these, QUALITY[:3])
    named = {"memory-efficientnet": "a memory on EfficientNet-lite0", "memory-mobilesam": "a memory on MobileSAM"}
    for method, name in {**named, "padim": "PaDiM on EfficientNet-lite0"}.items():
        measured = [row["measured"]["metrics"] for row in peers() if row["facts"]["method"] == method]
        assert len(measured) == 5
        assert shown[f"mean of {name}"][3:7] == mean(measured)


def test_as_many_photographs_are_behind_thresholds_as_the_cards_say() -> None:
    text = " ".join(section("docs/zoo.md", "Thresholds"))
    names = ("toothbrush", "brick", "bottle", "grid", "pill", "screw")
    counted = {name: card(alias).held_out for alias in ZOO for name in names if alias.endswith(f"-{name}")}
    assert len(counted) == len(ZOO)
    for name, n in counted.items():
        assert re.search(rf"\b{n} {name}", text), name


def test_a_training_step_costs_what_was_measured() -> None:
    settings = json.loads((ROOT / "benchmarks" / "training.json").read_text())["settings"]
    measured = [
        [
            f"{row['before']['seconds_per_step']:.2f} s" if "before" in row else "-",
            f"{row['after']['seconds_per_step']:.2f} s",
            f"{row['after']['peak_gb']:.1f} GB",
        ]
        for row in settings
        if "crop" not in row["training"]  # windows are gone
    ]
    lines = section("docs/zoo.md", "What a training step costs")
    assert [cells[1:] for cells in rows(lines) if cells[0].startswith(("profile", "the"))] == measured


def test_what_falls_short_is_what_was_measured() -> None:
    text = " ".join(read("README.md").split()).partition("What falls short")[2]
    pill, screw = card("mvtec-pill"), card("mvtec-screw")
    for known in (pill, screw):
        assert f"{known.missed} of {known.anomalous}" in text
    assert f"{100 * screw.maps['aggregation']['i_auroc']:.1f}" in text
