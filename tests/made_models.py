"""The untrained models that tests share."""

from __future__ import annotations

import pytest
import torch
from drawn import normal, texture
from torch import nn
from toy_streams import install, install_real

from stlm_hub.models.stlm.config import NetworkConfig, PatchMemoryConfig, STLMConfig
from stlm_hub.models.stlm.judging import Calibration, Judging
from stlm_hub.models.stlm.scales import MapScale
from stlm_hub.predict.predictor import input_of
from stlm_hub.stlm import STLM

SEEN = 12
"""Textures that scales and familiarity of the model with a memory are measured on."""


def make_model(*, toy: bool = False) -> STLM:
    """A bottle's at 64 px without a memory, not calibrated; of `toy_streams` where that is wanted."""
    config = STLMConfig(
        NetworkConfig(input_size=(64, 64), aggregation_channels=8), category="bottle", dataset="drawn by the tests"
    )
    return _made(config, "test-bottle", seed=0, toy=toy)


def make_memory_model(*, toy: bool = False) -> STLM:
    """A screw's at 64 px with a memory, judged by the combined map and calibrated."""
    config = STLMConfig(
        NetworkConfig(input_size=(64, 64), feature_levels=("stage1", "stage2"), aggregation_channels=8),
        PatchMemoryConfig(entries=6, channels=16),
        category="screw",
        dataset="drawn by the tests",
    )
    model = _made(config, "test-screw", seed=1, toy=toy)
    assert model.patch_memory is not None
    model.patch_memory.components.copy_(normal(152, 16) / 12)
    model.patch_memory.entries.copy_(normal(6, 16, seed=1))
    model.judging = Judging(
        "combined",
        scales=_measured(model),
        calibration=Calibration(
            threshold=0.625,
            review_threshold=0.5,
            false_alarm_rate=0.01,
            n=4,
            highest_rate=0.53,
            miss_rate=0.25,
            method="order statistic, balanced with pseudo anomalies",
            date="2026-01-31",
        ),
        familiarity_limits=(100.0, 100.0),  # so wide that whatever a test draws is familiar
        normal_scores=(0.25, 0.375, 0.5, 0.25),
        disturbed_scores=(0.375, 0.25, 0.5, 0.375),
        probe_scores=(0.5, 0.75, 0.875, 0.9375),
    )
    return model


@torch.inference_mode()
def _measured(model: STLM) -> tuple[MapScale, ...]:
    """Scales of all maps on a few textures, which become familiar."""
    names = ("aggregation", "cosine", "memory")
    raw, description = model.raw(input_of(model, [texture(64, 64, seed) for seed in range(SEEN)]), names)
    model.familiarity.fit(description)
    return tuple(MapScale(name, values.mean().item(), values.amax().item()) for name, values in raw.items())


def _made(config: STLMConfig, name: str, *, seed: int, toy: bool) -> STLM:
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        # The shared models outlive the module that asks first, which may have toys of its own.
        (install if toy else install_real)(patch)
        torch.manual_seed(seed)
        model = STLM(config, name=name).eval()
    assert model.network is not None
    for module in model.network.aggregation.modules():
        if isinstance(module, nn.BatchNorm2d):  # maps of an untrained aggregation are flat
            nn.init.constant_(module.weight, 5.0)
    return model
