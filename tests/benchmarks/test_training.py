"""benchmarks/training.py: it measures the profile as it is, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import training
from stlm_hub.errors import TrainingError
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
        assert setting.model == {"image_size": size, "feature_levels": list(recipe.model.feature_levels)}


def test_a_setting_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    write_samples(tmp_path, part="brick", n_train=4, n_good=1, n_defect_each=1, size=64)
    photographs = sorted(tmp_path.glob("*/train/good/*"))
    weights = StartingWeights(dict(ImageEncoder().state_dict()), dict(MaskDecoder().state_dict()), source="random")
    weights.save(tmp_path / "starting.safetensors")
    arguments = (training.ROOT, tmp_path / "starting.safetensors", {"image_size": 64})
    found = training.measure(*arguments, {"teacher": "mobile", "batch_size": 2}, photographs, steps=2)
    assert len(found["seconds"]) == 2 and min(found["seconds"]) > 0 and 0.2 < found["peak_gb"] < 8
    with pytest.raises(TrainingError, match="failed; its last words are:"):
        training.measure(*arguments, {"teacher": "nobody"}, photographs, steps=2)


def test_the_goal_is_a_share_of_the_older_time() -> None:
    name = "cpu recipe, 512 px, 4 a step"
    row = {"name": name, "before": {"seconds_per_step": 1.8}, "after": {"seconds_per_step": 1.0, "peak_gb": 7.0}}
    memory, time = training._limits([row])
    assert memory.held is False and time.held is True
    assert training._limits([row | {"after": {"seconds_per_step": 1.1, "peak_gb": 3.0}}])[1].held is False
