"""What the tests of the training share: small photographs, starting weights, folders that do not stay."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from stlm_hub.errors import TrainingError
from stlm_hub.evaluation.evaluate import TestSet
from stlm_hub.models.stlm.aggregation import FeatureAggregation
from stlm_hub.models.stlm.config import NetworkConfig
from stlm_hub.models.stlm.image_encoder import ImageEncoder
from stlm_hub.models.stlm.mask_decoder import MaskDecoder
from stlm_hub.models.stlm.mask_head import MaskHead
from stlm_hub.models.stlm.network import STLMNetwork
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.training.finetune import finetune
from stlm_hub.training.observer import Observer
from stlm_hub.training.pseudo_anomalies.textures import TextureSource


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Eight photographs of one part at 64 px: the same pattern, a little noise each."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    part = cv2.resize(rng.integers(40, 216, (7, 7, 3)).astype(np.uint8), (64, 64), interpolation=cv2.INTER_CUBIC)
    paths = []
    for i in range(8):
        noisy = np.clip(part + rng.normal(0.0, 4.0, part.shape), 0, 255).astype(np.uint8)
        paths.append(folder / f"good_{i}.png")
        Image.fromarray(noisy).save(paths[-1])
    return paths


@pytest.fixture(scope="session")
def textures() -> TextureSource:
    return TextureSource(looks=("checker", "spots", "stripes"))


@pytest.fixture(scope="session")
def starting_weights(textures: TextureSource) -> StartingWeights:
    """Random weights, with BatchNorm statistics of real pictures: without them the features hardly know the image."""
    rng = np.random.default_rng(2)
    pictures = np.stack([textures.sample(64, rng) for _ in range(8)]).transpose(0, 3, 1, 2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        encoder, decoder, mask_head = ImageEncoder(batch_norm_frozen=False), MaskDecoder(), MaskHead()
        for module in encoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # the statistics become those of the next batch
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0.0, 0.2)
        with torch.no_grad():
            encoder.train()(torch.from_numpy(pictures).float())
        return StartingWeights(
            dict(encoder.state_dict()), dict(decoder.state_dict()), "random", "ab" * 32, dict(mask_head.state_dict())
        )


@pytest.fixture(scope="session")
def make_network() -> Callable[..., STLMNetwork]:
    """Networks at 64 px with a narrow aggregation module, which alone depends on the seed: the rest is overwritten."""
    base = STLMNetwork(NetworkConfig(aggregation_channels=8))

    def make(seed: int = 0, **fields: object) -> STLMNetwork:
        network = copy.deepcopy(base)  # initialising takes longer than a training step
        config = NetworkConfig.from_dict({"image_size": 64, "aggregation_channels": 8, **fields})
        network.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network.aggregation = FeatureAggregation(config.aggregation_in_channels, config.aggregation_channels)
        return network

    return make


@pytest.fixture
def run_folder(tmp_path: Path) -> Iterator[Path]:
    """Where a training writes. A checkpoint has up to 200 MB, so nothing is left for pytest to keep."""
    folder = tmp_path / "run"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


SCRATCH = (slice(20, 38), slice(15, 70))


@pytest.fixture(scope="session")
def draw_part() -> Callable[..., Path]:
    """Draws a photograph of one part, 90 x 60 px: its noise depends on the seed, its scratch is a red bar."""
    pattern = np.random.default_rng(3).integers(60, 200, (6, 9, 3)).astype(np.uint8)
    part = np.asarray(Image.fromarray(pattern).resize((90, 60), Image.Resampling.BICUBIC), np.int16)

    def draw(path: Path, seed: int, *, scratched: bool = False) -> Path:
        pixels = part + np.random.default_rng(seed).integers(-6, 7, (60, 90, 3))
        if scratched:
            pixels[SCRATCH] = (250, 20, 20)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
        return path

    return draw


@pytest.fixture(scope="session")
def good_parts(draw_part: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ten photographs of good parts."""
    folder = tmp_path_factory.mktemp("good")
    for i in range(10):
        draw_part(folder / f"part {i}.png", i)
    return folder


@pytest.fixture(scope="session")
def test_parts(draw_part: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> TestSet:
    """Two good and two scratched parts."""
    folder = tmp_path_factory.mktemp("test")
    mask = np.zeros((60, 90), np.uint8)
    mask[SCRATCH] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    good = [draw_part(folder / f"good {i}.png", 20 + i) for i in range(2)]
    bad = [draw_part(folder / f"bad {i}.png", 30 + i, scratched=True) for i in range(2)]
    return TestSet(good, bad, [folder / "mask.png"] * 2)


@pytest.fixture(scope="session")
def weights_file(starting_weights: StartingWeights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "starting.safetensors"
    starting_weights.save(path)
    return path


@dataclass(frozen=True)
class TinyRun:
    """A training of three steps at 64 px that was stopped after the first and went on.

    Args:
        folder: the finished model; `my-part.run` beside it holds checkpoints and log. Tests that change one copy it.
        options: of `finetune`, to give the same call again.
        stopped: what the first call ended with.
        steps: that each of the two calls reported.
        said: messages of the second call.
    """

    folder: Path
    options: dict[str, object]
    stopped: str
    steps: tuple[list[int], list[int]]
    said: list[str]

    @property
    def work(self) -> Path:
        return self.folder.with_name("my-part.run")


@pytest.fixture(scope="session")
def tiny_run(good_parts: Path, weights_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyRun]:
    """The one training that the tests of whole runs share."""
    folder = tmp_path_factory.mktemp("models") / "my-part"
    options = {"steps": 3, "image_size": 64, "starting_from": weights_file, "false_alarm_rate": 0.05}
    first: list[int] = []
    second: list[int] = []
    said: list[str] = []
    observer = Observer(on_step=lambda report: first.append(report.step), should_stop=lambda: bool(first))
    with pytest.raises(TrainingError) as stopped:
        finetune(good_parts, "my-part", output=folder, observer=observer, **options)  # type: ignore[arg-type]
    assert not folder.exists()
    observer = Observer(on_step=lambda report: second.append(report.step), on_message=said.append)
    assert finetune(good_parts, "my-part", output=folder, observer=observer, **options) == folder  # type: ignore[arg-type]
    yield TinyRun(folder, options, str(stopped.value), (first, second), said)
    shutil.rmtree(folder.parent)  # checkpoints of 200 MB
