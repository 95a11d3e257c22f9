"""Normal photographs -> the entries of a patch memory: patches that lie far from one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

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
from ..wording import number_of

PROGRESS_EVERY = 256  # entries
CELL = 8  # pixels of the network's input to a patch
CANDIDATES = 60_000
"""Patches that entries are chosen from, a random share of each photograph: more of them hold little that is new."""


class Candidates(NamedTuple):
    """Patches that entries are chosen from.

    patches: NxD float32 on the CPU, as a backbone sees them. sources: N int32, the number of the photograph of each.
    """

    patches: Tensor
    sources: Tensor


def fill_memory(
    model: AnomalyMaps,
    photographs: Sequence[Path],
    seed: int,
    nuisance: Nuisance | None = None,
    on_image: Callable[[int, int], None] | None = None,
    on_entry: Callable[[int, int], None] | None = None,
) -> Candidates:
    """Fills a model's memory in place, through a backbone that has its pretrained weights.

    Patches are reduced to their principal components; entries are a greedy coreset of them (PatchCore, section 3.2).

    Args:
        model, photographs, seed, nuisance, on_image: see `find_candidates`.
        on_entry: called with (done, total) before the entries are chosen and after every 256 of them.

    Returns:
        What the entries were chosen from. The `sources` of an entry are those of its candidate.

    Raises:
        TrainingError: see `check_enough_patches`.
    """
    memory = model.patch_memory
    assert memory is not None
    check_enough_patches(memory.config, count_patches(model.config.network, len(photographs), _inside(model)))
    candidates = find_candidates(model, photographs, seed, nuisance, on_image)
    mean = candidates.patches.mean(0)
    memory.mean.copy_(mean)
    memory.components.copy_(principal_components(candidates.patches - mean, memory.config.channels))
    reduced = memory.reduced(candidates.patches.to(memory.mean.device)).cpu()
    chosen = greedy_coreset(reduced, memory.config.entries, on_entry)
    memory.entries.copy_(reduced[chosen])
    memory.sources.copy_(candidates.sources[chosen])
    return candidates


@torch.inference_mode()
def find_candidates(
    model: AnomalyMaps,
    photographs: Sequence[Path],
    seed: int,
    nuisance: Nuisance | None = None,
    on_image: Callable[[int, int], None] | None = None,
) -> Candidates:
    """A random share of the patches of each photograph, and of a disturbed copy of it where there is a `nuisance`.

    With copies, another light or a noisy sensor is as near to the memory as what was photographed.

    Args:
        model: with a memory, in eval mode, on the device to compute on. Patches outside its region are left out.
        photographs: of good parts. They are not turned as in training: a held-out one, which lies as they do, would be
            farther from a memory that has to hold all its turns.
        seed: of the share and of the disturbance.
        nuisance: how the copies are disturbed; None: there are none.
        on_image: called with (done, total) after each photograph.
    """
    memory = model.patch_memory
    assert memory is not None
    copies = 1 if nuisance is None else 2
    share = -(-max(CANDIDATES, memory.config.entries) // (copies * len(photographs)))
    random = torch.Generator().manual_seed(seed)
    disturbing = np.random.default_rng(seed)
    found, sources = [], []
    for number, image in enumerate(load_each(photographs, on_image, bits=model.judging.bits)):
        images = [image]
        if nuisance is not None:
            images.append(photographed_again(image, disturbing, nuisance, model.frame_size))
        pixels = to_input(images, model.frame_size, memory.entries.device)
        for patches in patches_to_remember(model, pixels).cpu():
            found.append(patches[torch.randperm(len(patches), generator=random)[:share]])
            sources += [number] * len(found[-1])
    return Candidates(torch.cat(found), torch.tensor(sources, dtype=torch.int32))


def patches_to_remember(model: AnomalyMaps, pixels: Tensor) -> Tensor:
    """BxNxD float32: the patches of Bx3xHxW images that a memory may hold, those in the region of a model that has one.

    What lies outside is one colour, the same on all photographs.
    """
    patches = model.patches(pixels)
    flat = patches.flatten(1, 2)
    return flat if model.region is None else flat[:, model.region.cells((patches.shape[1], patches.shape[2])).flatten()]


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
            f"A memory of {number_of(memory.entries, 'entry', 'entries')} needs as many patches, but the photographs "
            f"have {patches}; set the entries lower or add photographs."
        )


def _cells(network: NetworkConfig, region: np.ndarray | None) -> np.ndarray:
    """hxw bool: the patches of a frame at least half of which is in the region."""
    height, width = (side // CELL for side in network.frame_size)
    if region is None:
        return np.ones((height, width), bool)
    cells: np.ndarray = region.reshape(height, CELL, width, CELL).mean((1, 3)) >= 0.5
    return cells


def _inside(model: AnomalyMaps) -> np.ndarray | None:
    """HxW bool of the frame: the model's region, where it has one."""
    return None if model.region is None else model.region.inside.cpu().numpy() > 0


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
    first = (points - points.mean(0)).square().sum(1).argmax()
    nearest = torch.full((len(points),), torch.finfo(torch.float32).max)
    nearest[first] = torch.inf
    return farthest_first(points, n, nearest, on_entry)


def farthest_first(
    points: Tensor, n: int, nearest: Tensor, on_entry: Callable[[int, int], None] | None = None
) -> Tensor:
    """Indices of `n` further points, each the farthest from what is chosen already.

    Args:
        points: NxD.
        n: number of points to choose.
        nearest: N, the square of each point's distance to what is chosen already; -inf: not to be chosen. It is
            brought up to date in place.
        on_entry: as of `fill_memory`.

    Returns:
        At most n indices, int64: fewer where no more points may be chosen.
    """
    squares = points.square().sum(1)
    chosen: list[Tensor] = []
    for done in range(n):
        if on_entry and done % PROGRESS_EVERY == 0:
            on_entry(done, n)
        newest = nearest.argmax()
        if nearest[newest] == -torch.inf:
            break
        chosen.append(newest)
        distance = torch.addmv(squares, points, points[newest], alpha=-2) + squares[newest]
        torch.minimum(nearest, distance, out=nearest)
        nearest[newest] = -torch.inf  # rounding must not choose it again
    return torch.stack(chosen) if chosen else torch.empty(0, dtype=torch.int64)
