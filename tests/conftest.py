from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from drawn import normal, texture
from hub_server import HubServer
from torch import nn
from toy_streams import install

from stlm_hub.calibration.map_scales import measure_scales
from stlm_hub.models.stlm.config import NetworkConfig, PatchMemoryConfig, STLMConfig
from stlm_hub.models.stlm.judging import Calibration, Judging
from stlm_hub.stlm import STLM


@pytest.fixture(scope="session")
def hub() -> Iterator[HubServer]:
    """A Hub in this process. Clients run in a process of their own: `HF_ENDPOINT` is read when they start."""
    server = HubServer().start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def tiny_model() -> STLM:
    """An untrained model at 64 px without a memory, in eval mode. Shared by all tests: do not change it."""
    return make_model()


@pytest.fixture(scope="session")
def tiny_memory_model() -> STLM:
    """The same with a memory, judged by the combined map and calibrated. Shared by all tests: do not change it."""
    return make_memory_model()


@pytest.fixture(scope="session")
def saved_model(tiny_model: STLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `tiny_model`, in float16 (30 MB). Shared by all tests: do not change it."""
    folder = tmp_path_factory.mktemp("models") / "test-bottle"
    tiny_model.save_pretrained(folder, dtype=torch.float16)
    return folder


@pytest.fixture(scope="session")
def saved_memory_model(tiny_memory_model: STLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `tiny_memory_model`, in float16. Shared by all tests: do not change it."""
    folder = tmp_path_factory.mktemp("models") / "test-screw"
    tiny_memory_model.save_pretrained(folder, dtype=torch.float16)
    return folder


@pytest.fixture(scope="module")
def toy_streams() -> Iterator[None]:
    """While a module of tests runs, models are made of `toy_streams`: their folders are written and read at once."""
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        yield


@pytest.fixture(scope="module")
def toy_model(toy_streams: None) -> STLM:
    """`tiny_model` of toy streams. Do not change it."""
    return make_model()


@pytest.fixture(scope="module")
def toy_memory_model(toy_streams: None) -> STLM:
    """`tiny_memory_model` of toy streams. Do not change it."""
    return make_memory_model()


@pytest.fixture(scope="module")
def saved_toy(toy_model: STLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `toy_model`, in float16. Do not change it."""
    folder = tmp_path_factory.mktemp("models") / "test-bottle"
    toy_model.save_pretrained(folder, dtype=torch.float16)
    return folder


@pytest.fixture(scope="module")
def saved_memory_toy(toy_memory_model: STLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `toy_memory_model`, in float16. Do not change it."""
    folder = tmp_path_factory.mktemp("models") / "test-screw"
    toy_memory_model.save_pretrained(folder, dtype=torch.float16)
    return folder


def make_model() -> STLM:
    config = STLMConfig(
        NetworkConfig(image_size=64, aggregation_channels=8), category="bottle", dataset="drawn by the tests"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return strengthened(STLM(config, name="test-bottle").eval())


def make_memory_model() -> STLM:
    config = STLMConfig(
        NetworkConfig(image_size=64, feature_levels=("stage1", "stage2"), aggregation_channels=8),
        PatchMemoryConfig(entries=6, channels=16),
        category="screw",
        dataset="drawn by the tests",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = strengthened(STLM(config, name="test-screw").eval())
    assert model.patch_memory is not None
    model.patch_memory.components.copy_(normal(152, 16) / 12)
    model.patch_memory.entries.copy_(normal(6, 16, seed=1))
    model.judging = Judging(
        "combined",
        measure_scales(model, [texture(64, 64, seed) for seed in range(3)]),
        calibration=Calibration(0.625, 0.01, 4, "log-odds-t", "2026-01-31"),
        held_out_scores=(0.25, 0.375, 0.5, 0.25),
    )
    return model


def strengthened(model: STLM) -> STLM:
    """Maps of an untrained aggregation are flat; these differ from photograph to photograph."""
    for module in model.network.aggregation.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 5.0)
    return model
