"""benchmarks/training.py: it measures the profile as it is, in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from benchmarks import training
from benchmarks.training import Setting
from stlm_hub.errors import ConfigError, TrainingError
from stlm_hub.models.stlm.image_encoder import ImageEncoder
from stlm_hub.models.stlm.mask_decoder import MaskDecoder
from stlm_hub.samples.parts import write_samples
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.training.config import TrainingConfig
from train.recipe import load_recipe

COSTS_NOTHING = {"steps", "learning_rate", "warmup_steps", "final_learning_rate", "checkpoint_every", "rotation"}


def test_the_cpu_recipe_is_that_of_the_zoo() -> None:
    recipe = load_recipe("mvtec-carpet", "cpu")
    for size in (256, 512):
        setting = training.SETTINGS[f"cpu recipe, {size} px, 4 a step"]
        measured = TrainingConfig.from_dict(setting.training).to_dict()
        trained = recipe.training.to_dict()
        assert {name for name in trained if measured[name] != trained[name]} <= COSTS_NOTHING
        assert setting.network == {
            "input_size": [size, size],
            "feature_levels": list(recipe.model.network.feature_levels),
        }


def test_a_setting_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    write_samples(tmp_path, part="brick", n_train=4, n_good=1, n_defect_each=1, size=64)
    photographs = sorted(tmp_path.glob("*/train/good/*"))
    weights = StartingWeights(dict(ImageEncoder().state_dict()), dict(MaskDecoder().state_dict()), source="random")
    weights.save(tmp_path / "starting.safetensors")
    setting = Setting({"input_size": [64, 64]}, {"teacher": "mobile", "batch_size": 2})
    found = training.measure(setting, tmp_path / "starting.safetensors", photographs, steps=2)
    assert len(found["seconds"]) == 2 and min(found["seconds"]) > 0 and 0.2 < found["peak_gb"] < 8
    with pytest.raises(TrainingError, match="failed; its last words are:"):
        training.measure(setting, tmp_path / "nowhere.safetensors", photographs, steps=2)


def test_the_report_has_medians_of_the_later_steps_and_a_broken_limit_is_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int, int]] = []

    def measure(setting: Setting, weights: Path, photographs: list[Path], steps: int) -> dict[str, Any]:
        asked.append((str(setting.network["input_size"][0]), len(photographs), steps))
        return {"seconds": [9.0] * training.UNCOUNTED + [1.0, 2.0, 4.0], "peak_gb": 7.0}

    weights = StartingWeights(dict(ImageEncoder().state_dict()), dict(MaskDecoder().state_dict()), source="random")
    monkeypatch.setattr(training, "measure", measure)
    monkeypatch.setattr(training, "starting_weights", lambda **_: weights)
    monkeypatch.setattr(training, "machine", dict)
    with pytest.raises(typer.Exit):  # 7 GB, of 6
        training.main(output=tmp_path / "report.json", only="paper's levels, both streams", steps=8)
    report = json.loads((tmp_path / "report.json").read_text())
    assert asked == [("256", 8, 8), ("1024", 8, 8)]
    figures = [(row["seconds_per_step"], row["samples_per_second"], row["peak_gb"]) for row in report["settings"]]
    assert figures == [(2.0, 2.0, 7.0), (2.0, 1.0, 7.0)]
    assert [limit["held"] for limit in report["limits"]] == [False, True]
    with pytest.raises(ConfigError, match="No setting has '4096 px' in its name; there are: cpu recipe"):
        training.main(only="4096 px")
