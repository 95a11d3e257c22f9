"""Other seeds of a model reach its results and its card, and those of another recipe do not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import train.__main__ as main
from stlm_hub.model_folder.card.card import write_card
from train.seeds import folder_of, tell_other_seeds

CODE = "89ab" * 10
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A finished model without its weights."""
    folder = tmp_path / "sample-brick"
    shutil.copytree(ROOT / "model_cards" / "sample-brick", folder, ignore=shutil.ignore_patterns("*.safetensors"))
    results = json.loads((folder / "results.json").read_text())
    results["versions"]["commit"] = CODE
    results.pop("trained", None)  # made and measured by the same code
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def run_with(model: Path, runs: Path, seed: int, ap: float, *, memory_entries: int = 0, **training: Any) -> None:
    results = json.loads((model / "results.json").read_text())
    results["memory_entries"] = memory_entries
    results["seed"] = seed
    results["training"] |= {"seed": seed, **training}
    results["metrics"]["ap"] = ap
    folder = folder_of(runs, "sample-brick", "cpu", seed) / "model"
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(results))


def test_the_card_shows_each_seed_their_mean_and_their_range(model: Path, tmp_path: Path) -> None:
    own = json.loads((model / "results.json").read_text())
    ap = own["metrics"]["ap"]
    runs = tmp_path / "runs"
    run_with(model, runs, 10, ap - 0.04)
    run_with(model, runs, 2, ap - 0.02)
    run_with(model, runs, 3, 0.99, steps=7)  # another recipe
    run_with(model, runs, 4, 0.99, memory_entries=4096)
    assert tell_other_seeds(model, runs, "sample-brick", "cpu") == 2
    results = json.loads((model / "results.json").read_text())
    assert [other["seed"] for other in results["other_seeds"]] == [2, 10]
    assert {name: value for name, value in results.items() if name != "other_seeds"} == {
        name: value for name, value in own.items() if name != "other_seeds"
    }
    card = (model / "README.md").read_text()
    cells = [
        line.split(" | ") for line in card.splitlines() if line.startswith(("| 0 |", "| 2 |", "| 10 |", "| **mean"))
    ]
    assert [cell[4] for cell in cells] == [f"{100 * (ap - loss):.2f} %" for loss in (0, 0.02, 0.04, 0.02)]
    assert "| highest - lowest, points | 0.00 | 0.00 | 0.00 | 4.00 | 0.00 | 0.00 |" in card
    assert "Trained 2 more times by the same recipe" in card and "99.00 %" not in card
    assert "commit of the code" not in card and "had the same code" not in card


def test_the_card_says_which_seeds_have_other_code(model: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    run_with(model, runs, 1, 0.5)
    path = folder_of(runs, "sample-brick", "cpu", 1) / "model" / "results.json"
    other = json.loads(path.read_text())
    other["versions"]["commit"] = "0123abcd"
    other["metrics"]["fnr"] = 0.25
    path.write_text(json.dumps(other))
    assert tell_other_seeds(model, runs, "sample-brick", "cpu") == 1
    results = json.loads((model / "results.json").read_text())
    table = [
        line
        for line in (model / "README.md").read_text().splitlines()
        if line.startswith(("| seed |", "| 0 |", "| 1 |"))
    ]
    assert [line.split(" | ")[-2:] for line in table] == [
        ["FNR at the threshold", "commit of the code |"],
        [f"{100 * results['metrics']['fnr']:.2f} %", f"{CODE} |"],
        ["25.00 %", "0123abcd |"],
    ]
    assert "Not all had the same code, or it is not known of all" in (model / "README.md").read_text()


def test_seeds_of_another_checkout_or_profile_stay_in_the_card(model: Path, tmp_path: Path) -> None:
    ap = json.loads((model / "results.json").read_text())["metrics"]["ap"]
    runs, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    run_with(model, runs, 2, ap - 0.02)
    run_with(model, runs, 3, ap - 0.03)
    assert tell_other_seeds(model, runs, "sample-brick", "cpu") == 2
    run_with(model, elsewhere, 3, ap - 0.05)  # trained once more: the newer figures count
    run_with(model, elsewhere, 7, ap - 0.07)
    folder_of(elsewhere, "sample-brick", "cpu", 2).mkdir()  # begun again: its figures stay until there are new ones
    assert tell_other_seeds(model, elsewhere, "sample-brick", "cpu") == 3
    told = json.loads((model / "results.json").read_text())["other_seeds"]
    assert [(other["seed"], round(ap - other["metrics"]["ap"], 3)) for other in told] == [
        (2, 0.02),
        (3, 0.05),
        (7, 0.07),
    ]
    before = (model / "results.json").read_bytes()
    assert tell_other_seeds(model, elsewhere, "sample-brick", "paper-gpu") == 0
    assert (model / "results.json").read_bytes() == before


def test_seeds_stay_where_the_model_itself_is_made_anew(model: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    own = (model / "results.json").read_text()
    run_with(model, runs, 2, 0.5)
    assert tell_other_seeds(model, runs, "sample-brick", "cpu") == 1
    before = json.loads((model / "results.json").read_text())
    nowhere = tmp_path / "another checkout"
    (model / "results.json").write_text(own)
    assert tell_other_seeds(model, nowhere, "sample-brick", "cpu", before={**before, "memory_entries": 7}) == 0
    assert tell_other_seeds(model, nowhere, "sample-brick", "cpu", before=before) == 1
    assert json.loads((model / "results.json").read_text())["other_seeds"] == before["other_seeds"]


def test_a_model_without_other_seeds_stays_as_it_is(model: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    assert tell_other_seeds(model, tmp_path, "sample-brick", "cpu") == 0
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before


def test_another_seed_goes_beside_the_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def run(split: Any, model: Any, training: Any, weights: Any, source: Any, **options: Any) -> dict[str, Any]:
        seen.update(training=training, command=source.command, **options)
        raise InterruptedError

    monkeypatch.setattr(main, "run", run)
    monkeypatch.setattr(main, "starting_weights", lambda *args, **options: None)
    runs = tmp_path / "runs"
    rest = (None, runs, tmp_path / "cards", "org", None, None, None, 0)
    for seed, work, output in (
        (5, "sample-brick-cpu-seed5", "runs/sample-brick-cpu-seed5/model"),
        (0, "sample-brick-cpu", "cards/sample-brick"),
    ):
        with pytest.raises(InterruptedError):
            main.make("sample-brick", "cpu", *rest, seed)
        assert seen["training"].seed == seed
        assert (seen["work"], seen["output"]) == (runs / work, tmp_path / output)
        assert ("--seed 5" in seen["command"]) == (seed == 5)


def test_seeds_from_before_the_memory_are_shown_by_a_map_that_all_have(model: Path, tmp_path: Path) -> None:
    run_with(model, tmp_path / "runs", 1, 0.5)
    assert tell_other_seeds(model, tmp_path / "runs", "sample-brick", "cpu") == 1
    results = json.loads((model / "results.json").read_text())
    results["metrics_combined"] = {**results["metrics"], "ap": 0.9}
    (model / "results.json").write_text(json.dumps(results))
    config = json.loads((model / "config.json").read_text()) | {"anomaly_map": "combined"}
    (model / "config.json").write_text(json.dumps(config))
    card = write_card(model, "me/brick").read_text()
    assert "with aggregation, which is not the map that judges, since not all of these trainings have it:" in card
    assert "| **mean** | " in card and f"{25 + 50 * results['metrics']['ap']:.2f} %" in card and "| - |" not in card
