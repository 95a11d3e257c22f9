"""Training settings: what is read back is what was written, and impossible values are refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stlm_hub.errors import ConfigError
from stlm_hub.pseudo_anomalies.nuisance import Nuisance, of_camera
from stlm_hub.pseudo_anomalies.synthesis import SynthesisConfig
from stlm_hub.training.config import TrainingConfig


def test_defaults_are_the_papers() -> None:
    config = TrainingConfig()
    assert (config.epochs, config.batch_size, config.teacher, config.plain_stream) == (200, 2, "vit_h", "trained")
    assert (config.learning_rate, config.betas) == (5e-4, (0.5, 0.999))
    assert (config.residual_learning_rate, config.head_learning_rate) == (0.1, 0.01)
    assert (config.momentum, config.weight_decay) == (0.9, 1e-4)
    # nothing that the paper does not do
    assert config.hardest_share == 1
    assert (config.frozen_stages, config.warmup_steps, config.final_learning_rate, config.gradient_clip) == (0, 0, 1, 0)
    assert config.synthesis == SynthesisConfig(("perlin",), 0.5, 0.8, 5, 90.0, 0.5)


def test_json_round_trip() -> None:
    config = TrainingConfig(
        steps=7,
        betas=(0.9, 0.99),
        teacher="mobile",
        plain_stream="frozen",
        rotation="full",
        synthesis=SynthesisConfig(families=("nsa", "perlin"), probability=0.75, rotation=10),
        nuisance=of_camera("rough"),
        learning_rate=3e-4,
        seed=5,
    )
    data = json.loads(json.dumps(config.to_dict()))
    assert data["betas"] == [0.9, 0.99] and data["synthesis"]["families"] == ["nsa", "perlin"]
    assert TrainingConfig.from_dict(data) == config
    assert config.to_dict() == data  # a checkpoint compares the two


def test_the_paper_disturbs_nothing_and_a_part_of_the_disturbances_can_be_named() -> None:
    assert TrainingConfig().nuisance is None and TrainingConfig.from_dict({"nuisance": None}).nuisance is None
    assert TrainingConfig.from_dict({"nuisance": {"noise": 2.0}}).nuisance == Nuisance(noise=2.0)
    assert TrainingConfig(nuisance=Nuisance()).deciding != TrainingConfig().deciding  # it decides the losses


def test_a_part_of_the_settings_leaves_the_rest_at_its_defaults() -> None:
    config = TrainingConfig.from_dict({"seed": 3, "synthesis": {"probability": 1.0}})
    assert config == TrainingConfig(seed=3, synthesis=SynthesisConfig(probability=1.0))


@pytest.mark.parametrize(
    "changes",
    [
        {"teacher": "vit_x"},
        {"plain_stream": "half"},
        {"plain_stream": "frozen"},  # with the default teacher, ViT-H
        {"rotation": 90},
        {"precision": "fp16"},
        {"frozen_stages": 4},
        {"frozen_stages": -1},
        {"frozen_stages": 1.5},
        {"batch_size": 0},
        {"batch_size": 1},  # BatchNorm behind the image pooling
        {"batch_size": "2"},
        {"steps": -1},
        {"steps": True},
        {"steps": 0, "epochs": 0},
        {"epochs": -1.0},
        {"epochs": float("nan")},
        {"hardest_share": 0.0},
        {"hardest_share": 1.5},
        {"held_out": 0.0},
        {"held_out": 0.9},
        {"held_out": float("nan")},
        {"checkpoint_every": 0},
        {"learning_rate": "5e-4"},  # what YAML makes of 5e-4
        {"learning_rate": -1e-4},
        {"learning_rate": float("inf")},
        {"residual_learning_rate": float("nan")},
        {"head_learning_rate": None},
        {"momentum": 1.5},
        {"weight_decay": -1.0},
        {"betas": (0.5,)},
        {"betas": 0.5},
        {"betas": (0.5, 1.0)},
        {"warmup_steps": -1},
        {"final_learning_rate": -0.1},
        {"gradient_clip": -1.0},  # would turn the gradient around
        {"seed": -1},
        {"feature_cache_bytes": -1},
        {"synthesis": None},
        {"synthesis": {"families": ["perlin", "nothing"]}},
        {"synthesis": {"probability": 2}},
        {"nuisance": "normal"},
        {"nuisance": {"noise": -1.0}},
        {"nuisance": {"zoom": 1.0}},
        {"recompute_activations": 1},
        {"teacher": "none"},  # what only an ablation has is no setting
        {"plain_stream": "teacher"},
    ],
)
def test_an_impossible_value_is_refused_by_name(changes: dict[str, Any]) -> None:
    name = next(iter(changes))
    word = {"synthesis": "synthesis|families|probability"}.get(name, name)
    with pytest.raises(ConfigError, match=word):
        TrainingConfig.from_dict(changes)


@pytest.mark.parametrize(
    "data, message",
    [
        ({"step": 5}, "training has no field 'step'.*'steps'"),
        ({"synthesis": {"family": "nsa"}}, "synthesis has no field 'family'.*'families'"),
        ({3: 4}, "no field '3'"),
        (["steps", 5], "training must be a JSON object"),
        (None, "training must be a JSON object"),
    ],
)
def test_an_unknown_field_is_refused_with_those_there_are(data: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingConfig.from_dict(data)


def test_epochs_become_steps() -> None:
    assert TrainingConfig(epochs=200).total_steps(209) == 20900
    assert TrainingConfig(epochs=200).total_steps(209, processes=4) == 5225
    assert TrainingConfig(epochs=0.001).total_steps(10) == 1
    assert TrainingConfig(epochs=200, steps=30).total_steps(209, processes=4) == 30
