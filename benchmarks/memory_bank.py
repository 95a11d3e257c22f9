"""A memory of normal patches in the manner of PatchCore (Roth et al., CVPR 2022, arXiv 2106.08265), for any backbone.

What differs from the paper: the memory is a random sample of the patches instead of a greedy coreset, so it has to be
larger (5 % instead of 1 %) but costs no time; one neighbour is asked; the anomaly score is the mean of the highest map
values, as STLM's is, and not the reweighted highest distance.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import torch
from torch import Tensor

from stlm_hub.models.patch_memory import CHUNK_VALUES, nearest_distances

BLUR_SIGMA = 4.0  # px at the network's size, as in the paper
SCORE_TOP_K = 100  # map values, as in `STLMConfig`


def sample_patches(images: Iterable[Tensor], share: float, random: torch.Generator) -> Tensor:
    """A random share of the patches of each image: never more than one image is held whole.

    Args:
        images: hxwxD each.
        share: in (0, 1]; at least one patch of each image is taken.
        random: decides which.

    Returns:
        NxD in half precision, as the memory is kept on disk.
    """
    entries = []
    for image in images:
        patches = image.flatten(0, 1)
        n = max(1, round(share * len(patches)))
        entries.append(patches[torch.randperm(len(patches), generator=random)[:n]].half())
    return torch.cat(entries)


class MemoryBank:
    """Normal patches that can be asked for the distance to the nearest of them.

    Args:
        entries: NxD of any floating type.
        chunk_values: entries are compared in chunks, so that no more than this many distances are held at once.
    """

    def __init__(self, entries: Tensor, chunk_values: int = CHUNK_VALUES) -> None:
        entries = entries.float()
        self._centre = entries.mean(0)
        self._entries = entries - self._centre
        self._chunk_values = chunk_values

    def distances(self, patches: Tensor) -> Tensor:
        """Euclidean distance of each patch to its nearest entry: ...xD -> ... float32."""
        return nearest_distances(patches.float() - self._centre, self._entries, self._chunk_values)


def anomaly_map(distances: Tensor, size: int) -> tuple[np.ndarray, float]:
    """Distances of the patches -> map and anomaly score.

    Args:
        distances: hxw.
        size: side of the network's input in pixels.

    Returns:
        size x size float32, interpolated and smoothed; and the mean of its 100 highest values.
    """
    values = cv2.resize(distances.numpy(), (size, size), interpolation=cv2.INTER_LINEAR)
    values = cv2.GaussianBlur(values, (0, 0), BLUR_SIGMA)
    highest = np.partition(values.ravel(), -SCORE_TOP_K)[-SCORE_TOP_K:]
    return values, float(highest.mean())
