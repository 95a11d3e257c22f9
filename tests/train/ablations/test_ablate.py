"""`python -m train ablate`: what it trains, keeps, leaves out and prints."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stlm_hub.errors import ConfigError, STLMError, StorageError, TrainingError, WeightsError
from stlm_hub.model_folder import results as model_results
from stlm_hub.model_folder.figures import MapFigures
from stlm_hub.model_folder.provenance import StartingPoint, TrainingFacts
from stlm_hub.model_folder.results import Results
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.stlm import STLM
from stlm_hub.training.job import Job
from train.ablations import ablate

Ablate = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def bottles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A category folder of noise, 64 px; anomalous ones have a white square."""
    rng = np.random.default_rng(0)

    def write(path: Path, pixels: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    folder = tmp_path_factory.mktemp("data") / "mvtec_ad" / "bottle"
    for i in range(6):
        write(folder / "train" / "good" / f"{i}.png", rng.integers(90, 110, (64, 64, 3), np.uint8))
    for i in range(2):
        write(folder / "test" / "good" / f"{i}.png", rng.integers(90, 110, (64, 64, 3), np.uint8))
        broken = rng.integers(90, 110, (64, 64, 3), np.uint8)
        broken[16:32, 16:32] = 255
        write(folder / "test" / "broken" / f"{i}.png", broken)
        write(folder / "ground_truth" / "broken" / f"{i}_mask.png", (broken[..., 0] == 255).astype(np.uint8) * 255)
    return folder.parent


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, starting_weights: StartingWeights) -> list[str]:
    """Two steps at 64 px from random starting weights; names of the variants that were trained."""
    real, real_run, names = ablate.load_recipe, ablate.run, []

    def load(alias: str, profile: str) -> Any:
        recipe = real(alias, profile)
        network = dataclasses.replace(recipe.model.network, input_size=(64, 64), aggregation_channels=8)
        training = dataclasses.replace(recipe.training, steps=2, precision="no")
        return dataclasses.replace(recipe, model=recipe.model.replace(network=network), training=training)

    def run(job: Job, observer: Any) -> Results | None:
        names.append(job.provenance.alias.removeprefix("mvtec-bottle-"))
        return real_run(job, observer)

    monkeypatch.setattr(ablate, "load_recipe", load)
    monkeypatch.setattr(ablate, "run", run)
    monkeypatch.setattr(ablate, "starting_weights", lambda *args, **options: starting_weights)
    return names


@pytest.fixture
def pretended(trained: list[str], monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Nothing is trained, but results are written; what would have been trained."""
    jobs: list[Job] = []

    def run(job: Job, observer: Any) -> Results:
        jobs.append(job)
        facts = TrainingFacts(job.training.to_dict(), 2, 0.1, {}, "no", StartingPoint())
        made = Results(maps={job.anomaly_map: MapFigures(i_auroc=0.5)}, training=facts, parameters=7)
        job.output.mkdir(parents=True)
        model_results.save(made, job.output / "results.json")
        return made

    monkeypatch.setattr(ablate, "run", run)
    return jobs


def names_of(jobs: list[Job]) -> list[str]:
    return [job.provenance.alias.removeprefix("mvtec-bottle-") for job in jobs]


@pytest.fixture
def run_table(bottles: Path, tmp_path: Path) -> Ablate:
    """The command; returns what it wrote."""

    def run_table(table: str, runs: str = "runs", profile: str = "cpu-short", **options: Any) -> dict[str, Any]:
        ablate.ablate(table, bottles, profile=profile, runs=tmp_path / runs, **options)
        path = tmp_path / runs / "ablations" / f"mvtec-bottle-{profile}" / f"table-{table}.json"
        return dict(json.loads(path.read_text()))

    return run_table


def test_a_table_is_trained_once_and_printed_beside_the_papers(
    run_table: Ablate, pretended: list[Job], capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        report = run_table("8")
        assert names_of(pretended) == ["random-encoders", "stlm"]
    out = capsys.readouterr().out
    assert "98.93/98.41/94.57" in out and "99.05/98.26/94.92" in out
    assert "100.00/97.77/90.92" in out and "it took 141 epochs, with them 55" in " ".join(out.split())
    assert [row["label"] for row in report["rows"]] == ["random", "MobileSAM (STLM)"]
    assert report["split"].startswith("not the official one: 6 train") and f"The split is {report['split'][:20]}" in out
    assert report["command"] == "python -m train ablate 8 --category bottle --profile cpu-short --data DIR"


def test_variants_with_an_objective_of_their_own_become_whole_models(
    run_table: Ablate, bottles: Path, tmp_path: Path, trained: list[str]
) -> None:
    report = run_table("4", variant=["no-plain-student", "no-aggregation"])
    assert trained == ["no-plain-student", "no-aggregation"]
    rows = {row["variant"]: row for row in report["rows"] if "not_run" not in row}
    assert rows.keys() == set(trained)
    assert rows["no-plain-student"]["parameters"] > rows["no-aggregation"]["parameters"]  # two decoders
    for name in trained:
        folder = next(tmp_path.glob(f"runs/ablations/*/{name}-*/model"))
        results, model = model_results.load(folder / "results.json"), STLM.from_pretrained(folder)
        assert results.training is not None
        assert results.training.settings["objective"] == name.replace("-", "_")
        judging = "cosine" if name == "no-aggregation" else "aggregation"
        assert model.judging.judge_by == judging
        assert rows[name]["metrics"] == results.maps[judging].to_dict()
        assert rows[name]["steps"] == 2 and 0 <= rows[name]["metrics"]["p_auroc"] <= 1
        assert model.predict(bottles / "bottle/test/good/0.png").score <= 1
        assert not (folder.parent / "checkpoints").exists()  # nothing needs them any more
    assert rows["no-plain-student"]["other_maps"].keys() == {"cosine", "combined"}
    assert "aggregation" not in rows["no-aggregation"]["other_maps"]  # that module is still random


def test_what_another_table_trained_is_not_trained_again(run_table: Ablate, pretended: list[Job]) -> None:
    run_table("8")
    report = run_table("4")
    assert names_of(pretended)[2:] == ["no-plain-student", "no-mask-decoder", "no-aggregation"]
    rows = {row["variant"]: row for row in report["rows"]}
    assert rows["teacher-mobile"]["metrics"] == rows["stlm"]["metrics"]


@pytest.mark.parametrize(
    ("table", "name", "objective", "teacher"),
    [
        ("5", "two-stage", "two_stages", "mobile"),
        ("7", "no-teacher", "no_teacher", "none"),
        ("9", "distil-masks", "distil_masks", "mobile"),
        ("fig5", "separate-decoders", "paper", "mobile"),
    ],
)
def test_a_run_gets_the_objective_of_its_row(
    run_table: Ablate, pretended: list[Job], table: str, name: str, objective: str, teacher: str
) -> None:
    (row,) = [row for row in run_table(table, variant=[name])["rows"] if "not_run" not in row]
    (job,) = pretended
    assert (row["variant"], row["teacher"], job.objective.name) == (name, teacher, objective)


def test_a_teacher_that_is_not_there_is_said(
    run_table: Ablate, pretended: list[Job], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_table("teachers")
    out = " ".join(capsys.readouterr().out.split())
    assert names_of(pretended) == ["teacher-mobile"]
    assert "Not run, ViT-H: it needs sam_vit_h_4b8939.pth" in out and "--teachers" in out
    checkpoint = tmp_path / "sam_vit_b_01ec64.pth"
    checkpoint.touch()
    run_table("teachers", teachers=tmp_path)
    assert [job.teacher_checkpoint for job in pretended] == [None, checkpoint]
    run_table("7", profile="paper-gpu")  # one row has no teacher, the other ViT-H
    assert names_of(pretended)[2:] == ["no-teacher"]


def test_a_variant_that_fails_stands_in_the_table_and_the_others_are_trained(
    run_table: Ablate, pretended: list[Job], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ablate.run

    def run(job: Job, observer: Any) -> Results | None:
        if job.objective.name == "random_encoders":
            raise TrainingError("The loss is not finite at step 2.")
        return real(job, observer)

    monkeypatch.setattr(ablate, "run", run)
    report = run_table("8")
    assert names_of(pretended) == ["stlm"]
    assert "Not run, random: The loss is not finite at step 2." in " ".join(capsys.readouterr().out.split())
    assert ["not_run" in row for row in report["rows"]] == [True, False]

    def interrupted(*_: Any, **__: Any) -> Any:
        raise TrainingError("Training stopped after step 1 of 2.")

    monkeypatch.setattr(ablate, "run", interrupted)
    monkeypatch.setattr(
        ablate.RunProgress, "stopped", property(lambda self: True, lambda self, value: None), raising=False
    )
    with pytest.raises(SystemExit, match="130"):
        run_table("5")
    assert "stopped after step 1" in " ".join(capsys.readouterr().err.split())


def test_a_full_disk_ends_the_table_and_an_unreadable_teacher_does_not(
    run_table: Ablate, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(error: STLMError) -> Any:
        def run(*_: Any, **__: Any) -> Any:
            raise error from OSError("of the system")

        return run

    monkeypatch.setattr(ablate, "run", failing(StorageError("The checkpoint of step 1 cannot be written.")))
    with pytest.raises(StorageError, match="checkpoint of step 1"):
        run_table("8")
    monkeypatch.setattr(ablate, "run", failing(WeightsError("The teacher cannot be read.")))
    assert [row["not_run"] for row in run_table("8")["rows"]] == ["The teacher cannot be read."] * 2


def test_single_rows_can_be_trained(
    run_table: Ablate, pretended: list[Job], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"Table 5 has no variant 'level-1'; choose of stlm, two-stage\."):
        run_table("5", variant=["level-1"])
    report = run_table("5", variant=["two-stage", "two-stage"])
    assert names_of(pretended) == ["two-stage"] and report["command"].endswith(" --data DIR --variant two-stage")
    assert "Not run, one stage: it is not among the chosen" in " ".join(capsys.readouterr().out.split())
    report = run_table("5", variant=["stlm"])  # what was trained before stands beside it
    assert names_of(pretended)[1:] == ["stlm"] and not any("not_run" in row for row in report["rows"])

    pretended.clear()  # the first and the last row of this table are one training, of whichever name
    report = run_table("4", "other", variant=["stlm"])
    assert names_of(pretended) == ["teacher-mobile"]
    assert ["not_run" in row for row in report["rows"]] == [False, True, True, True, False]


def test_a_chosen_row_that_cannot_be_says_why(
    run_table: Ablate, pretended: list[Job], capsys: pytest.CaptureFixture[str]
) -> None:
    run_table("4", profile="paper-gpu", variant=["no-plain-student"])
    out = " ".join(capsys.readouterr().out.split())
    assert not pretended and 'Not run, without plain student stream: no_plain_student needs teacher "mobile"' in out


def test_a_launcher_is_refused(run_table: Ablate, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other processes would end with the first variant, and the second one wait for them."""
    monkeypatch.setattr(ablate, "processes", lambda: SimpleNamespace(num_processes=2))
    with pytest.raises(ConfigError, match="start it without a launcher"):
        run_table("8")


def test_a_row_is_of_the_code_that_makes_it() -> None:
    for pattern in ablate.CODE:
        assert list(ablate.ROOT.glob(pattern)), pattern
    names = {str(path.relative_to(ablate.ROOT)) for path in ablate.code()}
    assert {f"stlm_hub/training/{name}" for name in ablate.NO_CODE}.isdisjoint(names)
    assert all((ablate.ROOT / "stlm_hub/training" / name).is_file() for name in ablate.NO_CODE)
    assert {"stlm_hub/training/objective.py", "stlm_hub/pseudo_anomalies/nsa.py"} <= names
