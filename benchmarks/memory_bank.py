"""A patch memory in the manner of PatchCore (Roth et al., CVPR 2022, arXiv 2106.08265), for any backbone.

It differs from the paper in three ways. The memory is a random sample of the patches instead of a greedy coreset: that
costs no time, but the sample has to be larger (5 % instead of 1 %). Only the nearest neighbour counts. The anomaly
score is the mean of the highest map values, as STLM's is, instead of the reweighted highest distance.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import torch
from torch import Tensor

from stlm_hub.models.patch_memory import CHUNK_VALUES, nearest_distances

BLUR_SIGMA = 4.0  # px at the network's size, as in the paper
SCORE_TOP_K = 100  # number of map values, as in STLM's own score


def sample_patches(images: Iterable[Tensor], share: float, random: torch.Generator) -> Tensor:
    """Draws a random share of the patches of each image. The patches of one image at a time are held in memory.

    Args:
        images: features of each image, hxwxD.
        share: in (0, 1]; at least one patch of each image is taken.
        random: source of the random choice.

    Returns:
        NxD float16, as the memory is kept on disk.
    """
    entries = []
    for image in images:
        patches = image.flatten(0, 1)
        n = max(1, round(share * len(patches)))
        entries.append(patches[torch.randperm(len(patches), generator=random)[:n]].half())
    return torch.cat(entries)


class MemoryBank:
    """Normal patches, and the distance of any patch to the nearest of them.

    Args:
        entries: NxD of any floating type.
        chunk_values: most distances to compute at once; entries are compared in chunks of this size.
    """

    def __init__(self, entries: Tensor, chunk_values: int = CHUNK_VALUES) -> None:
        entries = entries.float()
        self._centre = entries.mean(0)
        self._entries = entries - self._centre
        self._chunk_values = chunk_values

    def distances(self, patches: Tensor) -> Tensor:
        """Euclidean distance of each patch to its nearest entry: ...xD -> ... float32 (the leading axes stay)."""
        return nearest_distances(patches.float() - self._centre, self._entries, self._chunk_values)


def anomaly_map(distances: Tensor, size: int) -> tuple[np.ndarray, float]:
    """Distances of the patches -> anomaly map and anomaly score.

    Args:
        distances: hxw.
        size: side of the network's input in pixels.

    Returns:
        The map, size x size float32, interpolated and smoothed, not limited to [0, 1]; and the mean of its 100 highest
        values.
    """
    values = cv2.resize(distances.numpy(), (size, size), interpolation=cv2.INTER_LINEAR)
    values = cv2.GaussianBlur(values, (0, 0), BLUR_SIGMA)
    highest = np.partition(values.ravel(), -SCORE_TOP_K)[-SCORE_TOP_K:]
    return values, float(highest.mean())
