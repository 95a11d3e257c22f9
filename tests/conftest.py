from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub_server import HubServer

from stlm_hub.models.stlm.config import NetworkConfig, STLMConfig
from stlm_hub.stlm import STLM


@pytest.fixture(scope="session")
def hub() -> Iterator[HubServer]:
    """A Hub in this process. Clients run in a process of their own: `HF_ENDPOINT` is read when they start."""
    server = HubServer().start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def tiny_model() -> STLM:
    """An untrained model at 64 px in eval mode. Shared by all tests: do not change it."""
    config = STLMConfig(NetworkConfig(image_size=64), category="bottle", dataset="drawn by the tests")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return STLM(config).eval()


@pytest.fixture(scope="session")
def saved_model(tiny_model: STLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `tiny_model`, in float16 (33 MB). Shared by all tests: do not change it."""
    folder = tmp_path_factory.mktemp("models") / "test-bottle"
    tiny_model.save_pretrained(folder, dtype=torch.float16)
    return folder
