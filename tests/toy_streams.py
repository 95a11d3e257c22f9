"""Streams and a backbone of a few weights in the place of the real ones: models that are made and read in milliseconds.

For tests of files, names, thresholds and results. What the networks themselves see is tried in tests/models.
"""

from __future__ import annotations

from collections.abc import Collection

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stlm_hub.models import patch_memory
from stlm_hub.models.stlm import network

CHANNELS = {"stage1": 128, "stage2": 160, "embedding": 256}
CELLS = {"stage1": 8, "stage2": 16, "embedding": 16}


class ToyEncoder(nn.Module):
    """Each level is a linear function of the mean colours of its cells."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleDict({name: nn.Conv2d(3, channels, 1) for name, channels in CHANNELS.items()})

    def trunk(self, image: Tensor, depth: int) -> Tensor:
        return image / 255

    def from_trunk(self, x: Tensor, depth: int, levels: Collection[str]) -> dict[str, Tensor]:
        return {name: self.levels[name](F.avg_pool2d(x, CELLS[name])) for name in levels if name in CHANNELS}


class ToyDecoder(nn.Module):
    """Scales the embedding's channels."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(256, 1, 1))

    def forward(self, embedding: Tensor, windows: Tensor | None = None) -> Tensor:
        return embedding * self.scale


class ToyBackbone(nn.Module):
    """Has the channels of EfficientNet-lite0's levels."""

    channels = (40, 112)
    strides = (8, 16)

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList(nn.Conv2d(3, channels, 1) for channels in self.channels)
        self.requires_grad_(False).eval()

    def forward(self, image: Tensor) -> list[Tensor]:
        pooled = [F.avg_pool2d(image / 255, stride) for stride in self.strides]
        return [level(x) for level, x in zip(self.levels, pooled, strict=True)]

    def load_pretrained(self) -> None:
        pass


REAL = (network.ImageEncoder, network.MaskDecoder, patch_memory.make_backbone)
"""Kept before anything is installed."""


def install(patch: pytest.MonkeyPatch) -> None:
    """From now on models are made of these."""
    _set(patch, ToyEncoder, ToyDecoder, lambda name: ToyBackbone())


def install_real(patch: pytest.MonkeyPatch) -> None:
    """From now on models are made of the real ones, also where a module of tests has these."""
    _set(patch, *REAL)


def _set(patch: pytest.MonkeyPatch, encoder: object, decoder: object, backbone: object) -> None:
    patch.setattr(network, "ImageEncoder", encoder)
    patch.setattr(network, "MaskDecoder", decoder)
    patch.setattr(patch_memory, "make_backbone", backbone)
