"""Normal photographs -> the entries of a patch memory: patches that lie far from one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import TrainingError
from ..models.backbones import make_backbone
from ..models.patch_memory import principal_components
from ..models.stlm.anomaly_maps import AnomalyMaps
from ..models.stlm.config import NetworkConfig, PatchMemoryConfig
from ..predict.frame import to_input
from ..predict.photographs import load_each
from ..pseudo_anomalies.nuisance import Nuisance, photographed_again

PROGRESS_EVERY = 256  # entries
CELL = 8  # pixels of the network's input to a patch
CANDIDATES = 60_000
"""Patches that entries are chosen from, a random share of each photograph: more of them hold little that is new."""


@torch.inference_mode()
def fill_memory(
    model: AnomalyMaps,
    photographs: Sequence[Path],
    seed: int,
    nuisance: Nuisance | None = None,
    on_image: Callable[[int, int], None] | None = None,
    on_entry: Callable[[int, int], None] | None = None,
) -> None:
    """Fills a model's memory in place, through a backbone that has its pretrained weights.

    Patches are reduced to their principal components; entries are a greedy coreset of them (PatchCore, section 3.2).
    With `nuisance`, they are chosen from each photograph and a disturbed copy of it, so that another light or a noisy
    sensor is as near as what was photographed.

    Args:
        model: with a memory, in eval mode, on the device to compute on. Patches outside its region are left out.
        photographs: of good parts. An entry's `sources` is the number of its photograph in this list.
        seed: of the choice of candidates. Photographs are not turned as in training: a held-out one, which lies as they
            do, would be farther from a memory that has to hold all its turns.
        nuisance: how the copies are disturbed; None: there are none.
        on_image: called with (done, total) after each photograph.
        on_entry: called with (done, total) before the entries are chosen and after every 256 of them.

    Raises:
        TrainingError: see `check_enough_patches`.
    """
    memory = model.patch_memory
    assert memory is not None
    inside = model.region.inside.cpu().numpy() > 0 if model.region is not None else None
    check_enough_patches(memory.config, count_patches(model.config.network, len(photographs), inside))
    kept = torch.from_numpy(_cells(model.config.network, inside)).flatten()
    wanted, channels = memory.entries.shape
    device = memory.entries.device
    random = torch.Generator().manual_seed(seed)
    copies = 1 if nuisance is None else 2
    share = -(-max(CANDIDATES, wanted) // (copies * len(photographs)))
    disturbing = np.random.default_rng(seed)
    candidates, sources = [], []
    for number, image in enumerate(load_each(photographs, on_image, bits=model.judging.bits)):
        images = [image] if nuisance is None else [image, photographed_again(image, disturbing, nuisance)]
        for patches in model.patches(to_input(images, model.frame_size, device)).flatten(1, 2)[:, kept].cpu():
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


def count_patches(network: NetworkConfig, photographs: int, region: np.ndarray | None = None) -> int:
    """How many patches of so many photographs a memory can choose its entries from.

    Args:
        network: whose frame the photographs are brought to.
        photographs: their number.
        region: HxW bool of the frame, outside which nothing is remembered; None: there is none.
    """
    return photographs * int(np.count_nonzero(_cells(network, region)))


def check_enough_patches(memory: PatchMemoryConfig, patches: int) -> None:
    """Raises TrainingError where there are fewer patches than the memory has entries."""
    if patches < memory.entries:
        raise TrainingError(
            f"A memory of {memory.entries} entries needs as many patches, but the photographs have {patches}; set the "
            "entries lower or add photographs."
        )


def _cells(network: NetworkConfig, region: np.ndarray | None) -> np.ndarray:
    """hxw bool: the patches of a frame at least half of which is in the region."""
    height, width = (side // CELL for side in network.frame_size)
    if region is None:
        return np.ones((height, width), bool)
    cells: np.ndarray = region.reshape(height, CELL, width, CELL).mean((1, 3)) >= 0.5
    return cells


def check_backbone(memory: PatchMemoryConfig) -> None:
    """Raises WeightsError where the backbone's weights cannot be had: to be asked before hours of work."""
    make_backbone(memory.backbone).load_pretrained()


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
