"""What the tests of the page share: the page in a process of its own, photographs to give it, a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hub_server import HubServer
from PIL import Image

from benchmarks.page_process import Page, serve_checkout
from stlm_hub.model_folder.local_model import LocalModel
from stlm_hub.model_folder.space import write_examples
from stlm_hub.models.stlm.image_encoder import ImageEncoder
from stlm_hub.models.stlm.judging import Calibration
from stlm_hub.models.stlm.mask_decoder import MaskDecoder
from stlm_hub.predict.prediction import Prediction
from stlm_hub.samples.parts import write_samples
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.stlm import STLM
from stlm_page import your_part_tab
from stlm_page.judge import MODELS
from stlm_page.models import LoadedModel


@pytest.fixture(scope="session")
def starting_weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights to start a training from: what the page does with a training does not depend on them."""
    path = tmp_path_factory.mktemp("weights") / "starting.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder, decoder = ImageEncoder(), MaskDecoder()
    StartingWeights(dict(encoder.state_dict()), dict(decoder.state_dict()), source="random", sha256="ab" * 32).save(
        path
    )
    return path


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory, starting_weights_file: Path, hub: HubServer) -> Iterator[Page]:
    """The page as `make demo` serves it, with the models of this checkout and a Hub that is not the real one."""
    folder = tmp_path_factory.mktemp("page")
    with serve_checkout(
        folder,
        HF_HOME=str(folder / "hf"),
        HF_ENDPOINT=hub.url,
        HF_HUB_DISABLE_XET="1",  # which the Hub of the tests does not speak
        STLM_STARTING_WEIGHTS=str(starting_weights_file),
    ) as served:
        yield served


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with crack.png, hole.png, ..., good_1.png, good_2.png."""
    return write_examples(tmp_path_factory.mktemp("photographs") / "examples")


@pytest.fixture(scope="session")
def good_parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twelve photographs of good bricks."""
    part = write_samples(tmp_path_factory.mktemp("good"), n_train=12, n_good=1, n_defect_each=0)
    return sorted((part / "train" / "good").iterdir())


@pytest.fixture
def page_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the page keeps what it draws, for one test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
    return folder


@pytest.fixture
def scratch_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What "Your part" makes for the visitor, under one folder."""
    root = tmp_path / "scratch"
    root.mkdir()

    def folder() -> Path:
        made = root / f"visit-{len(list(root.iterdir()))}"
        made.mkdir()
        return made

    monkeypatch.setattr(your_part_tab, "SCRATCH", SimpleNamespace(folder=folder))
    return root


@pytest.fixture
def make_prediction() -> Callable[..., Prediction]:
    """Makes a prediction on a dim photograph, anomalous at the pixels `defect`; `more` are fields of it."""

    def make(
        height: int = 60,
        width: int = 80,
        *,
        score: float = 0.9,
        threshold: float = 0.5,
        defect: tuple[Any, Any] = (slice(10, 20), slice(30, 50)),
        **more: Any,
    ) -> Prediction:
        image = np.random.default_rng(0).integers(60, 90, (height, width, 3), np.uint8)
        anomaly_map = np.full((height, width), 0.001, np.float32)
        anomaly_map[defect] = score
        return Prediction(image, anomaly_map, score, threshold, **more)

    return make


@pytest.fixture
def make_loaded(tiny_model: STLM, tmp_path: Path) -> Callable[..., LoadedModel]:
    """Makes a model of the page out of a threshold and the scores that it was chosen on."""

    def make(
        threshold: float | None = None, normal_scores: Sequence[float] = (), probe_scores: Sequence[float] = ()
    ) -> LoadedModel:
        network = STLM.__new__(STLM)  # the same weights, judged in another way
        network.__dict__ = dict(tiny_model.__dict__)
        calibration = None
        if threshold is not None:
            calibration = Calibration(threshold, threshold, 0.01, 20, 0.14, None, "order statistic", "2026-01-02")
        network.judging = tiny_model.judging.replace(
            calibration=calibration, normal_scores=tuple(normal_scores), probe_scores=tuple(probe_scores)
        )
        return LoadedModel("some-part", network, None, LocalModel(tmp_path, str(tmp_path)))

    return make


@pytest.fixture(scope="session")
def own_model(saved_model: Path) -> str:
    """The name of `saved_model` on the page."""
    return MODELS.add_own(saved_model)


@pytest.fixture
def write_photographs() -> Callable[..., list[Path]]:
    """Writes `count` different small photographs into a folder."""

    def write(folder: Path, count: int) -> list[Path]:
        folder.mkdir(exist_ok=True)
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 256, (5, 5, 3), np.uint8)
            Image.fromarray(pixels).resize((90, 70), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
        return sorted(folder.iterdir())

    return write
