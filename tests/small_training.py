"""Fixtures of a training that takes seconds: small photographs, random starting weights, folders that do not stay."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from stlm_hub.models.stlm.aggregation import FeatureAggregation
from stlm_hub.models.stlm.config import NetworkConfig
from stlm_hub.models.stlm.image_encoder import ImageEncoder
from stlm_hub.models.stlm.mask_decoder import MaskDecoder
from stlm_hub.models.stlm.network import STLMNetwork
from stlm_hub.pseudo_anomalies.textures import TextureSource
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.training.config import TrainingConfig
from stlm_hub.training.data import NormalPhotographs, collate
from train.ablations.masks import MaskHead


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
def batch(photographs: list[Path], textures: TextureSource) -> dict[str, Any]:
    """Two samples, the first with a pseudo anomaly. Shared by all tests: do not change it."""
    dataset = NormalPhotographs(photographs, NetworkConfig((64, 64)), TrainingConfig(), textures)
    samples = [dataset[0, i] for i in range(8)]
    return collate([next(s for s in samples if s["pasted"]), next(s for s in samples if not s["pasted"])])


@pytest.fixture(scope="session")
def make_network() -> Callable[..., STLMNetwork]:
    """Networks at 64 px with a narrow aggregation module, which alone depends on the seed: the rest is overwritten."""
    base = STLMNetwork(NetworkConfig(aggregation_channels=8))

    def make(seed: int = 0, **fields: object) -> STLMNetwork:
        network = copy.deepcopy(base)  # initialising takes longer than a training step
        network.config = NetworkConfig.from_dict({"input_size": [64, 64], "aggregation_channels": 8, **fields})
        if network.config.decoders == "separate":
            network.denoising_decoder = copy.deepcopy(base.decoder)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            config = network.config
            network.aggregation = FeatureAggregation(config.aggregation_in_channels, config.aggregation_channels)
        return network

    return make


@pytest.fixture
def run_folder(tmp_path: Path) -> Iterator[Path]:
    """Where a training writes. A checkpoint has up to 200 MB, so nothing is left for pytest to keep."""
    folder = tmp_path / "run"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
