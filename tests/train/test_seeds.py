"""Other seeds of a model reach its results and its card, and those of another recipe do not."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from card_model import CONFIG, JUDGING, RESULTS, TRAINING

import train.__main__ as main
from stlm_hub.model_folder import results as model_results
from stlm_hub.model_folder.card.card import write_card
from stlm_hub.model_folder.folder import read_folder, write_config, write_judging
from stlm_hub.model_folder.provenance import Circumstances
from stlm_hub.model_folder.results import Results
from stlm_hub.models.stlm.config import PatchMemoryConfig
from stlm_hub.pseudo_anomalies.nuisance import Nuisance
from stlm_hub.samples.parts import write_samples
from stlm_hub.training.job import Job
from stlm_hub.training.observer import Observer
from stlm_hub.training.options import small_machine
from train import photographs
from train.seeds import folder_of, tell_other_seeds, told_before

CODE = "89ab" * 10


def load(folder: Path) -> Results:
    return model_results.load(folder / "results.json")


def save(results: Results, folder: Path) -> None:
    model_results.save(results, folder / "results.json")


def ap_of(results: Results) -> float:
    ap = results.maps["aggregation"].ap
    assert ap is not None
    return ap


def with_figures(results: Results, **figures: float) -> Results:
    """The same with other figures of the map with aggregation."""
    maps = {**results.maps, "aggregation": dataclasses.replace(results.maps["aggregation"], **figures)}
    return dataclasses.replace(results, maps=maps)


def made_by(results: Results, commit: str) -> Results:
    """The same, trained and measured by this code."""
    assert results.training is not None
    made = dataclasses.replace(results.provenance.made, versions={"commit": commit})
    return dataclasses.replace(
        results,
        provenance=dataclasses.replace(results.provenance, made=made),
        training=dataclasses.replace(results.training, made=None),
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A finished model of invented figures, without its weights."""
    folder = tmp_path / "sample-brick"
    folder.mkdir()
    write_config(folder, CONFIG)
    write_judging(folder, JUDGING)
    training = dataclasses.replace(TRAINING, settings=small_machine(1237).to_dict())
    nuisance = dataclasses.asdict(Nuisance())
    save(made_by(dataclasses.replace(RESULTS, training=training, nuisance=nuisance), CODE), folder)
    return folder


def run_with(
    model: Path,
    runs: Path,
    seed: int,
    ap: float,
    *,
    memory: PatchMemoryConfig | None = None,
    more: Mapping[str, Any] = MappingProxyType({}),
    **settings: Any,
) -> Path:
    """The folder of the same training with another seed, as far as cards look into it; `more` are other results."""
    results = with_figures(load(model), ap=ap)
    assert results.training is not None
    changed = {**results.training.settings, "seed": seed, **settings}
    training = dataclasses.replace(results.training, settings=changed)
    folder = folder_of(runs, "sample-brick", "cpu", seed) / "model"
    folder.mkdir(parents=True)
    config, judging = read_folder(model)
    write_config(folder, config.replace(patch_memory=memory))
    write_judging(folder, judging)
    save(dataclasses.replace(results, training=training, other_seeds=(), **more), folder)
    return folder


def test_the_card_shows_each_seed_their_mean_and_their_range(model: Path, tmp_path: Path) -> None:
    own = load(model)
    ap = ap_of(own)
    runs = tmp_path / "runs"
    run_with(model, runs, 10, ap - 0.04)
    run_with(model, runs, 2, ap - 0.02)
    run_with(model, runs, 3, 0.99, steps=7)  # another recipe
    run_with(model, runs, 4, 0.99, memory=PatchMemoryConfig())
    run_with(model, runs, 6, 0.99, more={"nuisance": None})
    broken = run_with(model, runs, 5, 0.99)
    (broken / "results.json").write_text("{")
    said: list[str] = []
    assert tell_other_seeds(model, runs, "sample-brick", "cpu", said.append) == 2
    assert len(said) == 4 and "is not what stlm_hub writes" in said[2]
    results = load(model)
    assert [other.seed for other in results.other_seeds] == [2, 10]
    assert dataclasses.replace(results, other_seeds=()) == own
    card = (model / "README.md").read_text()
    cells = [
        line.split(" | ") for line in card.splitlines() if line.startswith(("| 0 |", "| 2 |", "| 10 |", "| **mean"))
    ]
    assert [cell[4] for cell in cells] == [f"{100 * (ap - loss):.2f} %" for loss in (0, 0.02, 0.04, 0.02)]
    assert "| highest - lowest, points | 0.00 | 0.00 | 0.00 | 4.00 | 0.00 | 0.00 |" in card
    assert "Trained 2 more times by the same recipe" in card and "99.00 %" not in card
    assert "to have the same code" not in card


def test_the_card_says_that_seeds_have_other_code(model: Path, tmp_path: Path) -> None:
    folder = run_with(model, tmp_path / "runs", 1, 0.5)
    save(with_figures(made_by(load(folder), "0123abcd"), fnr=0.25), folder)
    assert tell_other_seeds(model, tmp_path / "runs", "sample-brick", "cpu") == 1
    fnr = load(model).maps["aggregation"].fnr
    table = [
        line
        for line in (model / "README.md").read_text().splitlines()
        if line.startswith(("| seed |", "| 0 |", "| 1 |"))
    ]
    assert [line.split(" | ")[-1] for line in table] == [
        "FNR at the threshold |",
        f"{100 * (fnr or 0):.2f} % |",
        "25.00 % |",
    ]
    assert [other.made.commit for other in load(model).other_seeds] == ["0123abcd"]
    assert "Not all are known to have the same code" in (model / "README.md").read_text()


def test_a_seed_is_of_the_code_that_trained_it(model: Path, tmp_path: Path) -> None:
    folder = run_with(model, tmp_path / "runs", 1, 0.5)
    results = made_by(load(folder), "measured later")
    assert results.training is not None
    trained = Circumstances("2026-01-02", "a machine", {"commit": "0123abcd"})
    save(dataclasses.replace(results, training=dataclasses.replace(results.training, made=trained)), folder)
    assert tell_other_seeds(model, tmp_path / "runs", "sample-brick", "cpu") == 1
    assert [other.made for other in load(model).other_seeds] == [trained]


def test_seeds_of_another_checkout_or_profile_stay_in_the_card(model: Path, tmp_path: Path) -> None:
    ap = ap_of(load(model))
    runs, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    run_with(model, runs, 2, ap - 0.02)
    run_with(model, runs, 3, ap - 0.03)
    assert tell_other_seeds(model, runs, "sample-brick", "cpu") == 2
    run_with(model, elsewhere, 3, ap - 0.05)  # trained once more: the newer figures count
    run_with(model, elsewhere, 7, ap - 0.07)
    folder_of(elsewhere, "sample-brick", "cpu", 2).mkdir()  # begun again: its figures stay until there are new ones
    assert tell_other_seeds(model, elsewhere, "sample-brick", "cpu") == 3
    told = load(model).other_seeds
    assert [(other.seed, round(ap - (other.maps["aggregation"].ap or 0), 3)) for other in told] == [
        (2, 0.02),
        (3, 0.05),
        (7, 0.07),
    ]
    before = (model / "results.json").read_bytes()
    assert tell_other_seeds(model, elsewhere, "sample-brick", "paper-gpu") == 0
    assert (model / "results.json").read_bytes() == before


def test_seeds_stay_where_the_model_itself_is_made_anew(model: Path, tmp_path: Path) -> None:
    own, config = load(model), read_folder(model)[0]
    run_with(model, tmp_path / "runs", 2, 0.5)
    assert tell_other_seeds(model, tmp_path / "runs", "sample-brick", "cpu") == 1
    before, seeds = told_before(model), load(model).other_seeds
    assert before is not None and before.seeds == seeds and len(seeds) == 1
    nowhere = tmp_path / "another checkout"
    save(own, model)
    write_config(model, config.replace(patch_memory=PatchMemoryConfig()))  # the recipe has another memory now
    assert tell_other_seeds(model, nowhere, "sample-brick", "cpu", before=before) == 0
    assert load(model).other_seeds == ()
    write_config(model, config)
    assert tell_other_seeds(model, nowhere, "sample-brick", "cpu", before=before) == 1
    assert load(model).other_seeds == seeds
    assert told_before(nowhere) is None
    save(Results(), model)
    assert told_before(model) is None


def test_a_model_without_other_seeds_stays_as_it_is(model: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    assert tell_other_seeds(model, tmp_path, "sample-brick", "cpu") == 0
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before


def test_another_seed_goes_beside_the_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Job] = []

    def run(job: Job, observer: Observer) -> None:
        seen.append(job)
        raise InterruptedError

    monkeypatch.setattr(main, "run", run)
    monkeypatch.setattr(main, "starting_weights", lambda *args, **options: None)
    few = functools.partial(write_samples, n_train=8, n_good=1, n_defect_each=1)
    monkeypatch.setattr(photographs, "write_samples", few)
    runs = tmp_path / "runs"
    for seed, work, output in (
        (5, "sample-brick-cpu-seed5", "runs/sample-brick-cpu-seed5/model"),
        (0, "sample-brick-cpu", "cards/sample-brick"),
    ):
        with pytest.raises(InterruptedError):
            main.make("sample-brick", "cpu", runs=runs, output=tmp_path / "cards", seed=seed)
        job = seen.pop()
        assert job.training.seed == seed
        assert (job.work, job.output) == (runs / work, tmp_path / output)
        (command,) = job.provenance.commands
        assert command.options == {"profile": "cpu"} | ({"seed": 5} if seed == 5 else {})


def test_seeds_from_before_the_memory_are_shown_by_a_map_that_all_have(model: Path, tmp_path: Path) -> None:
    run_with(model, tmp_path / "runs", 1, 0.5)
    assert tell_other_seeds(model, tmp_path / "runs", "sample-brick", "cpu") == 1
    results = load(model)
    combined = dataclasses.replace(results.maps["aggregation"], ap=0.9)
    save(dataclasses.replace(results, maps={**results.maps, "combined": combined}), model)
    write_judging(model, read_folder(model)[1].replace(judge_by="combined"))
    card = write_card(model, "me/brick").read_text()
    assert "with aggregation, which is not the map that judges, since not all of these trainings have it)" in card
    (mean,) = [line.split(" | ") for line in card.splitlines() if line.startswith("| **mean** |")]
    assert mean[4] == f"{100 * (0.5 + ap_of(results)) / 2:.2f} %" and "-" not in mean
