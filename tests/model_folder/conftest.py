"""A client of the Hub, and the files of a model that it publishes and loads."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub_client import Client
from hub_server import TOKEN, HubServer
from toy_streams import install

from stlm_hub.model_folder import zoo_files
from stlm_hub.models.stlm.judging import Judging
from stlm_hub.stlm import STLM


@pytest.fixture(scope="session")
def client(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Its cache starts empty."""
    client = Client(hub.url, tmp_path_factory.mktemp("home"))
    yield client
    client.close()


@pytest.fixture(scope="session")
def saved_memory_alone(toy_memory_model: STLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `toy_memory_model` without its streams, in float16: the memory judges alone."""
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        model = STLM(toy_memory_model.config.replace(streams=False), Judging("memory"))
    model.load_state_dict(
        {name: value for name, value in toy_memory_model.state_dict().items() if not name.startswith("network.")}
    )
    folder = tmp_path_factory.mktemp("alone") / "test-memory"
    model.save_pretrained(folder, dtype=torch.float16)
    return folder


@pytest.fixture(scope="session")
def model_folder(saved_toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `saved_toy`, which gets its card when it is published."""
    return shutil.copytree(saved_toy, tmp_path_factory.mktemp("published") / "test-bottle")


@pytest.fixture(scope="session")
def zoo_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zoo of the client once something is published."""
    path = tmp_path_factory.mktemp("zoo") / "zoo.json"
    path.write_text('{"models": {}}')
    return path


@pytest.fixture(scope="session")
def published(client: Client, model_folder: Path, zoo_path: Path) -> dict[str, str]:
    """`model_folder` as org/stlm-good, published by the client, in the client's zoo as test-good."""
    answer = client("publish", str(model_folder), "org/stlm-good", token=TOKEN, tag="v1")
    assert "error" not in answer, answer
    zoo_files.register(
        model_folder, "test-good", "org/stlm-good", "apache-2.0", revision=answer["revision"], path=zoo_path
    )
    client("use_zoo", str(zoo_path))
    return answer


@pytest.fixture(scope="session")
def files(published: dict[str, str], model_folder: Path) -> dict[str, bytes]:
    """Everything in `model_folder`."""
    return {path.name: path.read_bytes() for path in model_folder.iterdir()}


@pytest.fixture(scope="session")
def wanted(client: Client, saved_toy: Path) -> dict[str, object]:
    """What the client predicts with the saved model itself."""
    return client("load", str(saved_toy))
