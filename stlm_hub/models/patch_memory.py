"""A small memory of normal patches, in the manner of PatchCore (Roth et al., CVPR 2022, arXiv 2106.08265).

It stores features that a frozen backbone computes of good parts, and measures how far each patch is from the nearest
stored one. It is not trained by gradients; `training/fill_memory.py` fills it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .acceleration import in_float32
from .backbones import make_backbone
from .stlm.config import PatchMemoryConfig

CHUNK_VALUES = 2**24
"""Most distances in memory at once: 64 MB."""


def patch_features(levels: Sequence[Tensor]) -> Tensor:
    """Feature levels -> a vector for each patch.

    Each level is averaged over 3 x 3 neighbours and resized to the grid of the first; then all are concatenated
    (PatchCore, section 3.1).

    Args:
        levels: BxCxhxw each, the finest first.

    Returns:
        BxhxwxD float32, D the sum of the levels' channels.
    """
    pooled = [F.avg_pool2d(level.float(), 3, stride=1, padding=1) for level in levels]
    grid = pooled[0].shape[-2:]
    resized = [F.interpolate(level, size=grid, mode="bilinear", align_corners=False) for level in pooled]
    return torch.cat(resized, dim=1).permute(0, 2, 3, 1)


def nearest_distances(patches: Tensor, entries: Tensor, chunk_values: int = CHUNK_VALUES) -> Tensor:
    """Euclidean distance of each patch to its nearest entry.

    Args:
        patches: ...xD float32.
        entries: NxD float32. Rounding errors are smaller if patches and entries are centred.
        chunk_values: most distances in memory at once.

    Returns:
        ... float32; infinite if there are no entries.
    """
    flat = patches.flatten(0, -2)
    squares = entries.square().sum(1)
    n = max(1, chunk_values // len(flat))
    nearest = torch.full((len(flat),), torch.inf, device=flat.device)
    for start in range(0, len(entries), n):
        part = torch.addmm(squares[start : start + n], flat, entries[start : start + n].T, alpha=-2)
        nearest = torch.minimum(nearest, part.amin(1))  # |e|^2 - 2 p.e; |p|^2 is the same for all entries
    return (nearest + flat.square().sum(1)).clamp_min(0).sqrt().reshape(patches.shape[:-1])


def smooth(distances: Tensor) -> Tensor:
    """Bx1xhxw -> same, blurred by a Gaussian of sigma 0.5 cells: PatchCore's 4 px (section 3.3) at 8 px a cell."""
    side = math.exp(-2)  # exp(-x^2 / (2 sigma^2)) at 1 cell; at 2 cells it is 0.0003 and left out
    line = torch.tensor([side, 1, side], dtype=distances.dtype, device=distances.device) / (1 + 2 * side)
    padded = F.pad(distances, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, (line[:, None] * line)[None, None])


def principal_components(centred: Tensor, channels: int) -> Tensor:
    """NxD with mean 0 -> Dx`channels`: orthonormal directions of largest variance, in ascending order of variance."""
    vectors: Tensor = torch.linalg.eigh(centred.T @ centred)[1]
    return vectors[:, -channels:]


class LeftOut(NamedTuple):
    """What a memory does without while it judges a photograph that it knows.

    photographs: K int32, the numbers of those whose entries do not count. replacements: NxC, entries in their place.
    """

    photographs: Tensor
    replacements: Tensor


class PatchMemory(nn.Module):
    """Features of normal patches, reduced to their principal components, and the backbone that computes them.

    `sources` holds the number of the photograph that each entry comes from. So a photograph that is in the memory can
    be scored by the entries of the others.

    Args:
        config: number of entries, components and backbone.
    """

    mean: Tensor
    components: Tensor
    entries: Tensor
    sources: Tensor

    def __init__(self, config: PatchMemoryConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = make_backbone(config.backbone)
        in_channels = sum(self.backbone.channels)
        self.register_buffer("mean", torch.zeros(in_channels))
        self.register_buffer("components", torch.zeros(in_channels, config.channels))
        self.register_buffer("entries", torch.zeros(config.entries, config.channels))
        self.register_buffer("sources", torch.full((config.entries,), -1, dtype=torch.int32))
        self.left_out: dict[int, LeftOut] = {}
        """What does not count for a photograph that shall not, by its number. It is not stored."""

    def patches(self, image: Tensor) -> Tensor:
        """Bx3xHxW RGB in [0, 255], H and W multiples of 16 -> Bx(H/8)x(W/8)xD float32, see `patch_features`."""
        return patch_features(self.backbone(image))

    def distances(self, patches: Tensor, without: Sequence[int] | None = None) -> Tensor:
        """
        Args:
            patches: BxhxwxD, what `patches` returns.
            without: for each image the number of the photograph whose entries do not count, -1 for none.

        Returns:
            Bx1xhxw float32: Euclidean distance to the nearest entry, smoothed.
        """
        with in_float32(patches):
            reduced = self.reduced(patches)
            numbers = [-1] * len(reduced) if without is None else without
            # Image by image, because the matrix of distances takes most of the memory.
            nearest = [nearest_distances(p, self._entries_without(n)) for p, n in zip(reduced, numbers, strict=True)]
            return smooth(torch.stack(nearest).unsqueeze(1))

    def closest(self, patches: Tensor) -> Tensor:
        """BxNxD of `patches` -> B float32: the smallest distance of any patch of an image to any entry.

        It is 0 up to rounding for an image whose own patches are in the memory.
        """
        reduced = self.reduced(patches)
        return torch.stack([nearest_distances(patches, self.entries).min() for patches in reduced])

    def reduced(self, patches: Tensor) -> Tensor:
        """...xD of `patches` -> ...xC: their principal components, comparable with the entries."""
        return (patches - self.mean) @ self.components

    def _entries_without(self, photograph: int) -> Tensor:
        """Entries that count where this photograph shall not, see `left_out`: all but its own, or all for -1."""
        if photograph < 0:
            return self.entries
        if photograph not in self.left_out:
            return self.entries[self.sources != photograph]
        numbers, replacements = self.left_out[photograph]
        return torch.cat([self.entries[~torch.isin(self.sources, numbers)], replacements])
