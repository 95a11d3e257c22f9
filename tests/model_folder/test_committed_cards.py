"""The cards in `model_cards/` are written from the files beside them, with their figures and no other."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from card_model import front_matter, numbers, section, table

from stlm_hub.calibration.threshold import order_statistic
from stlm_hub.model_folder import results as results_file
from stlm_hub.model_folder.card.card import render_card
from stlm_hub.model_folder.card.threshold import RATES
from stlm_hub.model_folder.figures import METRICS
from stlm_hub.model_folder.folder import read_folder
from stlm_hub.models.stlm.scales import MAP_LABELS

CARDS = sorted(path.parent for path in (Path(__file__).resolve().parents[2] / "model_cards").glob("*/results.json"))
CONSTANTS = {"0.3", "0", "1", "100"}  # AUPRO's limit, the smallest defect's share of a side, top K
CONSTANTS |= {"95", "99", "0.5"}  # how sure the bound is, photographs that carry 1 %, the limit of good parts


@pytest.fixture(params=CARDS, ids=lambda folder: folder.name)
def folder(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for name, item in value.items() for leaf in (name, *leaves(item))]
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, (list, tuple)) else [value]


def forms(value: Any) -> set[str]:
    """The ways in which a card may write a value."""
    if isinstance(value, str):
        return numbers(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return set()
    percent = {f"{100 * value:.2f}", f"{100 * value:.2g}", f"{100 * value:g}"}
    return percent | {f"{value:.6g}", str(value), f"{value / 60:.0f}", f"{value / 1e6:.1f}"}


def test_all_six_models_have_a_card() -> None:
    assert len(CARDS) == 6 and all((folder / "README.md").is_file() for folder in CARDS)


def test_the_card_is_the_one_that_its_files_give(folder: Path) -> None:
    results = results_file.load(folder / "results.json")
    images = sorted(path.name for path in folder.glob("*.png"))
    card = render_card(results, *read_folder(folder), repo_id=results.provenance.repo_id, images=images)
    assert (folder / "README.md").read_text(encoding="utf-8") == card


def test_each_figure_is_that_of_results_json(folder: Path) -> None:
    text, raw = (folder / "README.md").read_text(), json.loads((folder / "results.json").read_text())
    used = json.loads((folder / "calibration.json").read_text())["judge_by"]
    rows = table(section(text, "How good it is").split("\n| seed |")[0])
    assert rows[""][0] == f"**This model**, {MAP_LABELS[used]}"
    order = [used, *(name for name in MAP_LABELS if name != used and name in raw["maps"])]
    columns = [raw["maps"][name] for name in order] + ([raw["paper"]] if raw["paper"] else [])
    for key, (label, _) in METRICS.items():
        assert rows[label] == ["-" if part[key] is None else f"{100 * part[key]:.2f} %" for part in columns]
    index = {result.metric_name: result.metric_value for result in front_matter(text).eval_results or []}
    assert index == {label: raw["maps"][used][key] for key, (label, _) in METRICS.items()}


def test_each_seed_has_its_figures(folder: Path) -> None:
    text, raw = (folder / "README.md").read_text(), json.loads((folder / "results.json").read_text())
    used = json.loads((folder / "calibration.json").read_text())["judge_by"]
    runs = [(raw["training"]["settings"]["seed"], raw["maps"][used])]
    runs += [(other["seed"], other["maps"][used]) for other in raw["other_seeds"]]
    if len(runs) == 1:
        assert "| seed |" not in text
        return
    rows = table("| seed |" + text.split("| seed |")[1])
    for seed, figures in runs:
        assert rows[str(seed)] == [f"{100 * figures[key]:.2f} %" for key in METRICS]
    columns = [[figures[key] for _, figures in runs] for key in METRICS]
    assert rows["**mean**"] == [f"{100 * sum(values) / len(values):.2f} %" for values in columns]
    assert rows["highest - lowest, points"] == [f"{100 * (max(values) - min(values)):.2f}" for values in columns]


def test_each_threshold_counts_the_scores_of_results_json(folder: Path) -> None:
    text, raw = (folder / "README.md").read_text(), json.loads((folder / "results.json").read_text())
    judging = json.loads((folder / "calibration.json").read_text())
    own, scores = judging["calibration"]["threshold"], raw["test_scores"]
    part = section(text, "Threshold")
    head, _, *rows = (line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|"))
    assert head == [
        "threshold",
        "good parts rejected",
        "disturbed copies rejected",
        "painted defects missed",
        "good test parts rejected",
        "test defects missed",
    ]
    normal = np.sort([*judging["normal_scores"], *judging["disturbed_scores"]])
    thresholds = sorted({own, *(order_statistic(normal, rate) for rate in RATES)}, reverse=True)
    for threshold, (shown, *cells) in zip(thresholds, rows, strict=True):
        assert shown == (f"**{threshold:.4f}**" if threshold == own else f"{threshold:.4f}")
        kinds = (judging["normal_scores"], judging["disturbed_scores"], judging["probe_scores"])
        for kind, cell, missed in zip(
            (*kinds, scores["good"], scores["anomalous"]), cells, (False, False, True, False, True), strict=True
        ):
            reached = sum(score >= threshold for score in kind)
            assert cell == f"{len(kind) - reached if missed else reached} of {len(kind)}"
        if threshold == own:
            assert f"score is **{own:.6g}** or higher" in part
            assert f"it missed {cells[4]} anomalous test photographs and rejected {cells[3]} good ones" in part


def test_no_other_number_is_in_the_card(folder: Path) -> None:
    body = (folder / "README.md").read_text().split("\n---\n", 1)[1].split("\n## Licence")[0]
    config, judging = read_folder(folder)
    results = results_file.load(folder / "results.json")
    files = [dataclasses.asdict(results), config.to_dict(), judging.to_dict()]
    known = CONSTANTS.union(*(forms(leaf) for leaf in leaves(files)))
    known.add(str(config.network.input_size[0] // 8))  # the smallest defect, see `cell` in card.py
    prose = "\n".join(
        line
        for line in re.sub(r"\]\(.*?\)", "", body).splitlines()
        if not re.match(r"\| (\**\d|highest|\*\*mean)", line)
    )
    test = results.test_scores
    assert test is not None
    known |= {str(sum(score >= judging.threshold for score in test.good))}
    known |= {str(sum(score < judging.threshold for score in test.anomalous)), str(len(results.other_seeds))}
    assert numbers(prose) <= known | {"4.0"}  # of the licence's name


def test_the_threshold_comes_before_all_else(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    assert re.findall(r"^## (.*)", text, re.MULTILINE) == [
        "Threshold",
        "Use it",
        "How good it is",
        "Limits",
        "How it was trained",
        "Licence and citation",
    ]
