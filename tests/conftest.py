"""Models that all tests share, made and saved once, and a Hub. Do not change them: copy what you change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub_server import HubServer
from made_models import make_memory_model, make_model
from toy_streams import install

from stlm_hub.stlm import STLM


@pytest.fixture(scope="session")
def hub() -> Iterator[HubServer]:
    """A Hub in this process. Clients run in a process of their own: `HF_ENDPOINT` is read when they start."""
    server = HubServer().start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def tiny_model() -> STLM:
    """An untrained model at 64 px without a memory, in eval mode."""
    return make_model()


@pytest.fixture(scope="session")
def tiny_memory_model() -> STLM:
    """The same with a memory, judged by the combined map and calibrated."""
    return make_memory_model()


@pytest.fixture(scope="session")
def saved_model(tiny_model: STLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `tiny_model`, in float16 (30 MB)."""
    return saved(tiny_model, tmp_path_factory)


@pytest.fixture(scope="session")
def saved_memory_model(tiny_memory_model: STLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `tiny_memory_model`, in float16."""
    return saved(tiny_memory_model, tmp_path_factory)


@pytest.fixture(scope="module")
def toy_streams() -> Iterator[None]:
    """While a module of tests runs, models are made and loaded with `toy_streams`: in milliseconds."""
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        yield


@pytest.fixture(scope="session")
def toy_model() -> STLM:
    """`tiny_model` of toy streams."""
    return make_model(toy=True)


@pytest.fixture(scope="session")
def toy_memory_model() -> STLM:
    """`tiny_memory_model` of toy streams."""
    return make_memory_model(toy=True)


@pytest.fixture(scope="session")
def saved_toy(toy_model: STLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `toy_model`, in float16; `toy_streams` loads it."""
    return saved(toy_model, tmp_path_factory)


@pytest.fixture(scope="session")
def saved_memory_toy(toy_memory_model: STLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `toy_memory_model`, in float16; `toy_streams` loads it."""
    return saved(toy_memory_model, tmp_path_factory)


def saved(model: STLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / model.name
    model.save_pretrained(folder, dtype=torch.float16)
    return folder
