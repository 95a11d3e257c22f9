"""Normal photographs -> the entries of a patch memory: patches that lie far from one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import TrainingError
from ..models.backbones import make_backbone
from ..models.patch_memory import PatchMemory
from ..models.stlm.config import PatchMemoryConfig
from ..predict.frame import to_input
from ..predict.photographs import load_each
from ..pseudo_anomalies.nuisance import Nuisance, photographed_again

PROGRESS_EVERY = 256  # entries
CELL = 8  # pixels of the network's input to a patch
CANDIDATES = 60_000
"""Patches that entries are chosen from, a random share of each photograph: more of them hold little that is new."""


@torch.inference_mode()
def fill_memory(
    memory: PatchMemory,
    photographs: Sequence[Path],
    image_size: int,
    seed: int,
    nuisance: Nuisance | None = None,
    on_image: Callable[[int, int], None] | None = None,
    on_entry: Callable[[int, int], None] | None = None,
) -> None:
    """Fills a memory in place, from a backbone that has its pretrained weights.

    Patches are reduced to their principal components; entries are a greedy coreset of them (PatchCore, section 3.2).
    With `nuisance`, they are chosen from each photograph and a disturbed copy of it, so that another light or a noisy
    sensor is as near as what was photographed.

    Args:
        memory: in eval mode, on the device to compute on.
        photographs: of good parts. An entry's `sources` is the number of its photograph in this list.
        image_size: side in pixels that photographs are squeezed to.
        seed: of the choice of candidates. Photographs are not turned as in training: a held-out one, which lies as they
            do, would be farther from a memory that has to hold all its turns.
        nuisance: how the copies are disturbed; None: there are none.
        on_image: called with (done, total) after each photograph.
        on_entry: called with (done, total) before the entries are chosen and after every 256 of them.

    Raises:
        TrainingError: see `check_enough_patches`.
    """
    check_enough_patches(memory.config, image_size, len(photographs))
    wanted, channels = memory.entries.shape
    device = memory.entries.device
    random = torch.Generator().manual_seed(seed)
    copies = 1 if nuisance is None else 2
    share = -(-max(CANDIDATES, wanted) // (copies * len(photographs)))
    disturbing = np.random.default_rng(seed)
    candidates, sources = [], []
    for number, image in enumerate(load_each(photographs, on_image)):
        images = [image] if nuisance is None else [image, photographed_again(image, disturbing, nuisance)]
        for patches in memory.patches(to_input(images, image_size, device)).flatten(1, 2).cpu():
            candidates.append(patches[torch.randperm(len(patches), generator=random)[:share]])
            sources += [number] * len(candidates[-1])
    patches = torch.cat(candidates)
    mean = patches.mean(0)
    components = principal_components(patches - mean, channels)
    reduced = (patches - mean) @ components
    memory.mean.copy_(mean)
    memory.components.copy_(components)
    chosen = greedy_coreset(reduced, wanted, on_entry)
    memory.entries.copy_(reduced[chosen])
    memory.sources.copy_(torch.tensor(sources, dtype=torch.int32)[chosen])


def count_patches(image_size: int, photographs: int) -> int:
    """How many patches a memory can choose its entries from."""
    return photographs * (image_size // CELL) ** 2


def check_enough_patches(memory: PatchMemoryConfig, image_size: int, photographs: int) -> None:
    """Raises TrainingError where so many photographs have fewer patches than the memory has entries."""
    patches = count_patches(image_size, photographs)
    if patches < memory.entries:
        raise TrainingError(
            f"A memory of {memory.entries} entries needs as many patches, but {photographs} photographs have "
            f"{patches}; set the entries lower or add photographs."
        )


def check_backbone(memory: PatchMemoryConfig) -> None:
    """Raises WeightsError where the backbone's weights cannot be had: to be asked before hours of work."""
    make_backbone(memory.backbone).load_pretrained()


def principal_components(centred: Tensor, channels: int) -> Tensor:
    """NxD with mean 0 -> Dx`channels`: orthonormal directions of the largest variance, the largest last."""
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    return vectors[:, -channels:]


def greedy_coreset(points: Tensor, n: int, on_entry: Callable[[int, int], None] | None = None) -> Tensor:
    """Indices of `n` points, each the farthest from those before it; the first is the farthest from the mean.

    Args:
        points: NxD, N at least `n`.
        n: number of points to choose.
        on_entry: as of `fill_memory`.

    Returns:
        n indices, int64; no point of the set is farther from a chosen one than at most twice the smallest possible
        distance (Gonzalez 1985).
    """
    squares = points.square().sum(1)
    newest = (points - points.mean(0)).square().sum(1).argmax()
    nearest = torch.full((len(points),), torch.inf)
    chosen = []
    for done in range(n):
        if on_entry and done % PROGRESS_EVERY == 0:
            on_entry(done, n)
        chosen.append(newest)
        distance = torch.addmv(squares, points, points[newest], alpha=-2) + squares[newest]
        nearest = torch.minimum(nearest, distance)
        nearest[newest] = -torch.inf  # rounding must not choose it again
        newest = nearest.argmax()
    return torch.stack(chosen)
