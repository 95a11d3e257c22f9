"""The user's own way from photographs to a model, through the library and the command line."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny_run import TinyRun

from stlm_hub import STLM, finetune
from stlm_hub.cli.main import main
from stlm_hub.errors import ConfigError, DataError, TrainingError
from stlm_hub.model_folder import results as model_results
from stlm_hub.model_folder.names import FAMILIARITY_NAME
from stlm_hub.model_folder.results import Results
from stlm_hub.models.stlm.config import PatchMemoryConfig
from stlm_hub.models.stlm.judging import Judging
from stlm_hub.pseudo_anomalies.nuisance import of_camera
from stlm_hub.training.finetune import held_out_of
from stlm_hub.training.observer import Observer
from stlm_hub.training.options import MEMORY
from train.recipe import load_recipe


@pytest.fixture(scope="module")
def model(tiny_run: TinyRun) -> STLM:
    """What `tiny_run` made; tests do not change it."""
    return STLM.from_pretrained(tiny_run.folder, device="cpu")


@pytest.fixture(scope="module")
def results(tiny_run: TinyRun) -> Results:
    return model_results.load(tiny_run.folder / "results.json")


def test_the_folder_loads_and_judges(model: STLM, good_parts: Path) -> None:
    assert model.config.category == "my-part"
    assert model.calibration is not None
    prediction = model.predict(good_parts / "part 0.png")
    assert prediction.threshold == model.calibration.threshold
    assert prediction.anomaly_map.shape == (60, 90)
    assert 0 < prediction.score < 1


def test_a_model_remembers_patches_as_the_zoos_do_but_no_more_than_there_are(model: STLM, results: Results) -> None:
    assert model.config.patch_memory == PatchMemoryConfig(10 * 8 * 8, 128, "efficientnet_lite0")
    assert model.judging.judge_by == "combined" and len(model.judging.scales) == 3
    (command,) = results.provenance.commands
    assert "--memory" not in command.line and "--backbone" not in command.line
    assert load_recipe("mvtec-bottle", "cpu").model.patch_memory == MEMORY


def test_thresholds_come_from_all_photographs_with_those_that_were_held_out_first(
    tiny_run: TinyRun, model: STLM, results: Results
) -> None:
    train, held_out = results.dataset.train, results.dataset.held_out
    assert train is not None and held_out is not None
    assert train.n == 6 and held_out.n == 4 and train.sha256 != held_out.sha256
    calibration, judging = model.calibration, model.judging
    assert calibration is not None and calibration.n == 10
    assert len(judging.normal_scores) == len(judging.disturbed_scores) == 10 and len(judging.probe_scores) == 60
    assert calibration.false_alarm_rate == 0.05 and calibration.miss_rate is not None
    assert calibration.review_threshold <= calibration.threshold
    assert len(judging.familiarity_limits) == 2
    assert any("Calibrating on 10 photographs of good parts" in line for line in tiny_run.said)


def test_copies_are_disturbed_as_the_camera_does(results: Results) -> None:
    assert results.nuisance == dataclasses.asdict(of_camera("normal"))


def test_results_claim_no_figure_without_a_test_set(tiny_run: TinyRun, results: Results) -> None:
    assert results.maps == {} and results.test_scores is None and results.curves is None and results.paper is None
    assert results.training is not None and results.training.steps == 3 and results.training.seconds > 0
    (command,) = results.provenance.commands
    assert command.line == (
        "stlm finetune FOLDER --name my-part --steps 3 --size 64 --false-alarm-rate 0.05 --weights FILE"
    )
    card = (tiny_run.folder / "README.md").read_text()
    assert "AUROC" not in card.split("## Licence")[0].split("---", 2)[1]
    assert {path.name for path in tiny_run.folder.iterdir()} == {
        "README.md",
        "config.json",
        "calibration.json",
        "model.safetensors",
        "patch_memory.safetensors",
        "familiarity.safetensors",
        "results.json",
        "scores.png",
        "losses.png",
    }


def test_stopping_keeps_a_checkpoint_and_says_how_to_go_on(tiny_run: TinyRun) -> None:
    assert "step 2 of 3; the same command goes on" in tiny_run.stopped
    assert tiny_run.steps == ([1, 2], [3])
    assert len((tiny_run.work / "log.jsonl").read_text().splitlines()) == 3


def test_small_folders_hold_out_a_third_so_that_the_threshold_is_of_use() -> None:
    assert [held_out_of(n) for n in (8, 12, 15, 28, 30, 60, 1000)] == [4, 4, 5, 9, 10, 10, 10]


def test_a_finished_model_gets_another_memory_or_none_without_being_trained_again(
    tiny_run: TinyRun, results: Results, good_parts: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "my-part"
    shutil.copytree(tiny_run.work, folder.with_name("my-part.run"))
    weights = (tiny_run.folder / "model.safetensors").read_bytes()
    steps: list[int] = []
    observer = Observer(on_step=lambda report: steps.append(report.step))

    def train(**options: Any) -> tuple[STLM, Results]:
        finetune(good_parts, "my-part", output=folder, observer=observer, **{**tiny_run.options, **options})
        assert steps == [] and (folder / "model.safetensors").read_bytes() == weights
        return STLM.from_pretrained(folder, device="cpu"), model_results.load(folder / "results.json")

    with pytest.raises(TrainingError, match="the photographs have 640"):
        train(memory_entries=641)
    assert not folder.exists()
    model, made = train(memory_entries=300)
    assert model.judging.judge_by == "combined"
    assert model.patch_memory is not None and len(model.patch_memory.entries) == 300
    assert made.provenance.commands[0].options["memory-entries"] == 300
    model, made = train(memory_entries=0)
    assert model.patch_memory is None and model.judging.judge_by == "aggregation"
    assert Judging.load(folder / "calibration.json").compared == ("aggregation", "cosine")
    assert not (folder / "patch_memory.safetensors").exists()
    assert "--memory-entries 0" in made.provenance.commands[0].line
    assert made.training is not None and results.training is not None
    assert made.training.final_losses == results.training.final_losses
    shutil.rmtree(tmp_path)  # checkpoints of 200 MB


def test_the_same_call_again_does_not_train_again(tiny_run: TinyRun, good_parts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my-part"
    shutil.copytree(tiny_run.folder, folder)
    shutil.copytree(tiny_run.work, folder.with_name("my-part.run"))
    deciding = ("model.safetensors", "patch_memory.safetensors", FAMILIARITY_NAME, "config.json", "calibration.json")
    before = {name: (folder / name).read_bytes() for name in deciding}
    steps: list[int] = []
    observer = Observer(on_step=lambda report: steps.append(report.step))
    finetune(good_parts, "my-part", output=folder, observer=observer, **tiny_run.options)
    assert steps == []
    assert {name: (folder / name).read_bytes() for name in deciding} == before
    shutil.rmtree(tmp_path)


def test_predict_on_the_command_line(
    tiny_run: TinyRun,
    good_parts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    paths = [str(good_parts / "part 1.png"), str(broken), str(good_parts / "part 2.png")]
    monkeypatch.setattr(
        sys, "argv", ["stlm", "predict", *paths, "-m", str(tiny_run.folder), "-o", str(tmp_path / "panels"), "--json"]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1  # one photograph was unusable, the others were judged
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.out.splitlines()]
    assert [line["path"] for line in lines] == paths
    assert "score" in lines[0] and "score" in lines[2] and "broken.png" in lines[1]["error"]
    assert "1 of 3 photographs could not be used" in captured.err
    for line in (lines[0], lines[2]):
        with Image.open(line["panel"]) as panel:
            assert panel.width > 300


def test_without_steps_a_memory_alone_is_made(good_parts: Path, tmp_path: Path) -> None:
    """Neither starting weights nor a training; a photograph that is not good after all can be left out."""
    folder = finetune(good_parts, "quick", steps=0, size=64, leave_out=["part 3.png"], output=tmp_path / "quick")
    model, made = STLM.from_pretrained(folder, device="cpu"), model_results.load(folder / "results.json")
    assert not model.config.streams and model.network is None and model.available == ("memory", "combined")
    assert not (folder / "model.safetensors").exists() and made.training is None
    assert made.dataset.train is not None and made.dataset.held_out is not None
    assert made.dataset.train.n + made.dataset.held_out.n == 9
    assert model.calibration is not None and model.calibration.n == 9
    assert all(prediction.unfamiliarity < 1 for prediction in model.predict(sorted(good_parts.iterdir())))
    assert "--steps 0" in made.provenance.commands[0].line


def test_refusals_come_before_any_work(good_parts: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name"):
        finetune(good_parts, "../evil", output=tmp_path / "m")
    with pytest.raises(ConfigError, match="steps must be at least 0, not -1"):
        finetune(good_parts, "part", steps=-1, output=tmp_path / "m")
    with pytest.raises(ConfigError, match="Without steps and without memory entries there is nothing to judge by"):
        finetune(good_parts, "part", steps=0, memory_entries=0, output=tmp_path / "m")
    with pytest.raises(ConfigError, match="camera must be one of"):
        finetune(good_parts, "part", camera="phone", output=tmp_path / "m")
    with pytest.raises(ConfigError, match=r"no photograph other\.png in .* that could be left out"):
        finetune(good_parts, "part", leave_out=["other.png"], output=tmp_path / "m")
    with pytest.raises(DataError, match="7 photographs are left; training needs at least 8"):
        finetune(good_parts, "part", leave_out=[f"part {i}.png" for i in range(3)], output=tmp_path / "m")
    with pytest.raises(ConfigError, match="multiple of 64"):
        finetune(good_parts, "part", size=100, output=tmp_path / "m")
    with pytest.raises(DataError, match="false-alarm rate"):
        finetune(good_parts, "part", false_alarm_rate=0.7, output=tmp_path / "m")
    with pytest.raises(DataError, match="is not a folder"):
        finetune(tmp_path / "nothing", "part", output=tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_what_is_no_model_is_not_written_over(
    good_parts: Path, weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "README.md").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for output, sentence in (
        (project, "already holds README.md"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "file" / "m", "cannot be made"),
        (good_parts, "is the folder of the photographs"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            finetune(good_parts, "part", output=output, starting_from=weights_file)
    monkeypatch.chdir(project)
    with pytest.raises(ConfigError, match="already holds"):
        finetune(good_parts, "part", output=".", starting_from=weights_file)
    assert (project / "README.md").read_text() == "mine" and sorted(tmp_path.iterdir()) == [tmp_path / "file", project]
