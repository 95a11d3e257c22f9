"""The same model in a form that a graph can hold and that computes less. Weights stay; only forwards change."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from ..models.patch_memory import PatchMemory, smooth
from ..models.stlm.anomaly_maps import AnomalyMaps

ENTRIES_AT_ONCE = 1024
"""Remembered patches of one matrix product: the distances to them stay in a processor's cache."""


class ProductMemory(PatchMemory):
    """Distances as a matrix product for each thousand entries, over all photographs of a batch at once."""

    def distances(self, patches: Tensor, without: Sequence[int] | None = None) -> Tensor:
        """BxhxwxD -> Bx1xhxw, as of `PatchMemory`; `without` does not count: no training looks through a graph."""
        reduced = self.reduced(patches)
        nearest: Tensor | None = None
        for entries in self.entries.split(ENTRIES_AT_ONCE):
            part = (reduced @ (-2 * entries).T + entries.square().sum(1)).amin(-1)
            nearest = part if nearest is None else torch.minimum(nearest, part)
        assert nearest is not None
        return smooth((nearest + reduced.square().sum(-1)).clamp_min(0).sqrt().unsqueeze(1))


def lighter(model: AnomalyMaps) -> AnomalyMaps:
    """A copy of a model in eval mode on the CPU in float32, which computes the same; the model stays as it is."""
    other = copy.deepcopy(model).cpu().float().eval()
    if other.patch_memory is not None:
        other.patch_memory.__class__ = ProductMemory  # same weights, another forward
    return other
