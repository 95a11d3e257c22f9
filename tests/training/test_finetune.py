"""The user's own way from photographs to a model, through the library and the command line."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stlm_hub import STLM, finetune
from stlm_hub.cli.main import main
from stlm_hub.errors import ConfigError, DataError, TrainingError
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.training.finetune import MEMORY_ENCODER, MEMORY_ENTRIES, held_out_of
from stlm_hub.training.pipeline import Observer
from train.recipe import load_recipe


@pytest.fixture(scope="module")
def good_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    rng = np.random.default_rng(3)
    part = rng.integers(60, 200, (6, 9, 3)).astype(np.uint8)
    for i in range(10):
        image = Image.fromarray(part).resize((90, 60), Image.Resampling.BICUBIC)
        pixels = np.asarray(image, np.int16) + rng.integers(-6, 7, (60, 90, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"part {i}.png")
    return folder


@pytest.fixture(scope="module")
def weights_file(starting_weights: StartingWeights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "starting.safetensors"
    starting_weights.save(path)
    return path


def train(good_parts: Path, weights_file: Path, output: Path, observer: Observer, **options: Any) -> Path:
    """Three steps at 64 px."""
    return finetune(
        good_parts,
        "my-part",
        output=output,
        steps=3,
        image_size=64,
        starting_from=weights_file,
        observer=observer,
        **options,
    )


@pytest.fixture(scope="module")
def finished(good_parts: Path, weights_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A model made by three steps, and what the run said."""
    said: list[str] = []
    output = tmp_path_factory.mktemp("models") / "my-part"
    made = train(good_parts, weights_file, output, Observer(on_message=said.append), false_alarm_rate=0.05)
    assert made == output
    return output, said


def test_the_folder_loads_and_judges(finished: tuple[Path, list[str]], good_parts: Path) -> None:
    folder, _ = finished
    model = STLM.from_pretrained(folder, device="cpu")
    assert model.config.category == "my-part"
    assert model.config.calibration is not None
    prediction = model.predict(good_parts / "part 0.png")
    assert prediction.threshold == model.config.calibration.threshold
    assert prediction.anomaly_map.shape == (60, 90)


def test_a_model_remembers_patches_as_the_zoos_do_but_no_more_than_there_are(finished: tuple[Path, list[str]]) -> None:
    config = STLM.from_pretrained(finished[0], device="cpu").config
    assert (config.memory_entries, config.memory_encoder) == (6 * 8 * 8, "efficientnet_lite0")
    assert config.anomaly_map == "combined" and len(config.combined_maps) == 3
    assert "--memory" not in json.loads((finished[0] / "results.json").read_text())["command"]
    zoo = load_recipe("mvtec-bottle", "cpu").model
    assert (zoo.memory_entries, zoo.memory_encoder) == (MEMORY_ENTRIES, MEMORY_ENCODER)


def test_threshold_comes_from_held_out_photographs_only(finished: tuple[Path, list[str]], good_parts: Path) -> None:
    folder, said = finished
    results = json.loads((folder / "results.json").read_text())
    assert results["dataset"]["train"]["n"] == 6 and results["dataset"]["held_out"]["n"] == 4
    assert results["dataset"]["train"]["sha256"] != results["dataset"]["held_out"]["sha256"]
    assert results["calibration"]["n"] == 4 == len(results["held_out_scores"])
    assert results["calibration"]["false_alarm_rate"] == 0.05
    model = STLM.from_pretrained(folder, device="cpu")
    everyone = {model.predict(path).score for path in good_parts.iterdir()}
    assert all(any(abs(score - other) < 1e-5 for other in everyone) for score in results["held_out_scores"])
    assert max(results["held_out_scores"]) < results["calibration"]["threshold"]
    assert any("4 are held out" in line for line in said)


def test_results_claim_no_figure_without_a_test_set(finished: tuple[Path, list[str]]) -> None:
    folder, _ = finished
    results = json.loads((folder / "results.json").read_text())
    assert results["metrics"] is None and results["test_scores"] is None and results["paper"] is None
    assert results["steps"] == 3 and results["seconds"] > 0
    assert "--name my-part" in results["command"] and "--steps 3" in results["command"]
    card = (folder / "README.md").read_text()
    assert "AUROC" not in card.split("## Licence")[0].split("---", 2)[1]
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "results.json",
        "scores.png",
        "losses.png",
    }


def test_the_same_call_again_does_not_train_again(
    finished: tuple[Path, list[str]], good_parts: Path, weights_file: Path
) -> None:
    folder, _ = finished
    before = (folder / "model.safetensors").read_bytes()
    steps: list[int] = []
    observer = Observer(on_step=lambda report: steps.append(report.step))
    train(good_parts, weights_file, folder, observer, false_alarm_rate=0.05)
    assert steps == []
    assert (folder / "model.safetensors").read_bytes() == before


def test_small_folders_hold_out_a_third_so_that_the_threshold_is_of_use() -> None:
    assert [held_out_of(n) for n in (8, 12, 15, 28, 30, 60, 1000)] == [4, 4, 5, 9, 10, 10, 10]


def test_a_finished_model_gets_another_memory_or_none_without_being_trained_again(
    finished: tuple[Path, list[str]], good_parts: Path, weights_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "my-part"
    shutil.copytree(finished[0].with_name("my-part.run"), folder.with_name("my-part.run"))
    steps: list[int] = []

    observer = Observer(on_step=lambda report: steps.append(report.step))
    with pytest.raises(TrainingError, match="6 photographs have 384"):
        train(good_parts, weights_file, folder, observer, memory_entries=385)
    assert not folder.exists()
    train(good_parts, weights_file, folder, observer, memory_entries=300)
    model = STLM.from_pretrained(folder, device="cpu")
    assert steps == [] and model.config.anomaly_map == "combined"
    assert model.memory is not None and len(model.memory.entries) == 300
    assert "--memory-entries 300" in json.loads((folder / "results.json").read_text())["command"]
    train(good_parts, weights_file, folder, observer, memory_entries=0)
    model = STLM.from_pretrained(folder, device="cpu")
    assert steps == [] and model.memory is None and model.config.anomaly_map == "aggregation"
    assert "--memory-entries 0" in json.loads((folder / "results.json").read_text())["command"]


def test_predict_on_the_command_line(
    finished: tuple[Path, list[str]],
    good_parts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, _ = finished
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    paths = [str(good_parts / "part 1.png"), str(broken), str(good_parts / "part 2.png")]
    monkeypatch.setattr(
        sys, "argv", ["stlm", "predict", *paths, "-m", str(folder), "-o", str(tmp_path / "panels"), "--json"]
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


def test_refusals_come_before_any_work(good_parts: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name"):
        finetune(good_parts, "../evil", output=tmp_path / "m")
    with pytest.raises(ConfigError, match="steps must be at least 1, not 0"):  # a recipe's 0 means 200 epochs
        finetune(good_parts, "part", steps=0, output=tmp_path / "m")
    with pytest.raises(ConfigError, match="multiple of 64"):
        finetune(good_parts, "part", image_size=100, output=tmp_path / "m")
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


def test_stopping_keeps_a_checkpoint_and_says_how_to_go_on(
    good_parts: Path, weights_file: Path, tmp_path: Path
) -> None:
    stopped_after = []
    options = {"output": tmp_path / "m", "steps": 4, "image_size": 64, "starting_from": weights_file}
    with pytest.raises(Exception, match="step 2 of 4"):
        finetune(
            good_parts,
            "part",
            **options,
            observer=Observer(
                on_step=lambda report: stopped_after.append(report.step), should_stop=lambda: len(stopped_after) >= 1
            ),
        )
    assert not (tmp_path / "m" / "config.json").exists()
    went_on: list[int] = []
    finetune(good_parts, "part", **options, observer=Observer(on_step=lambda report: went_on.append(report.step)))
    assert went_on[0] == stopped_after[-1] + 1 and went_on[-1] == 4
    assert torch.isfinite(torch.tensor(STLM.from_pretrained(tmp_path / "m").predict(good_parts / "part 0.png").score))
