"""The same model in a form that a graph can hold and that computes less. Weights stay; only forwards change."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from ..models.patch_memory import PatchMemory, smooth
from ..models.stlm.anomaly_maps import AnomalyMaps
from ..models.stlm.image_encoder import ImageEncoder
from ..models.stlm.network import STLMNetwork
from ..models.stlm.scales import MapScale
from .coarse import lighten_network, linear
from .windows import lighten_encoder

ENTRIES_AT_ONCE = 1024
"""Remembered patches of one matrix product: the distances to them stay in a processor's cache."""


class ProductMemory(PatchMemory):
    """Distances as a matrix product for each thousand entries, over all photographs of a batch at once."""

    def prepare(self) -> None:
        """Keeps what a distance takes of the entries, so that no graph computes it for each photograph."""
        for i, entries in enumerate(self.entries.split(ENTRIES_AT_ONCE)):
            self.register_buffer(f"doubled_{i}", -2 * entries)
            self.register_buffer(f"squares_{i}", entries.square().sum(1))

    def distances(self, patches: Tensor, without: Sequence[int] | None = None) -> Tensor:
        """BxhxwxD -> Bx1xhxw, as of `PatchMemory`; `without` does not count: no training looks through a graph."""
        reduced = self.reduced(patches).flatten(0, 2)
        products = [
            F.linear(reduced, self.get_buffer(f"doubled_{i}"), self.get_buffer(f"squares_{i}")).amin(-1)
            for i in range(-(-len(self.entries) // ENTRIES_AT_ONCE))
        ]
        nearest = functools.reduce(torch.minimum, products)
        distances = (nearest + reduced.square().sum(-1)).clamp_min(0.0).sqrt()
        return smooth(distances.view(-1, 1, patches.shape[1], patches.shape[2]))


class ProductMaps(AnomalyMaps):
    """Maps that are scaled on their own grid and resized by two matrix products, which no runtime is slow at."""

    def prepare(self) -> None:
        """Keeps the matrices that resize between grids of H/16, H/8 and the frame."""
        network = self.config.network
        for length in {*network.input_size, *network.frame_size}:
            for coarse, fine in ((16, 8), (8, 1), (16, 1)):
                own, n = length // coarse, length // fine
                self.register_buffer(f"line_{own}_{n}", linear(own, n))

    def _scaled(self, scale: MapScale, raw: Tensor, size: tuple[int, int]) -> Tensor:
        return self.resized(scale.in_limits(raw), size)

    def resized(self, values: Tensor, size: tuple[int, int]) -> Tensor:
        """As of `AnomalyMaps`."""
        if values.shape[-2:] == size:
            return values
        rows, columns = (self.get_buffer(f"line_{own}_{n}") for own, n in zip(values.shape[-2:], size, strict=True))
        return rows.T @ (values @ columns)


def lighter(model: AnomalyMaps) -> AnomalyMaps:
    """A copy of a model in eval mode on the CPU in float32, which computes the same; the model stays as it is."""
    other = copy.deepcopy(model).cpu().float().eval()
    if other.patch_memory is not None:
        other.patch_memory.__class__ = ProductMemory  # same weights, another forward
        cast("ProductMemory", other.patch_memory).prepare()
    for module in list(other.modules()):
        if isinstance(module, ImageEncoder):
            lighten_encoder(module, model.config.network.input_size)
    other.__class__ = ProductMaps
    cast("ProductMaps", other).prepare()
    if type(other.network) is STLMNetwork:
        lighten_network(other.network)
    return other
