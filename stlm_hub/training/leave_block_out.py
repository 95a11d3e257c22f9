"""What a memory does without while it judges a photograph that it knows, so that this one is scored as a new one is.

To leave the photograph's entries out is not enough. Entries lie far from one another, so each stands for the patches of
all photographs around it, and without it nothing stands for them: the photograph would be farther from the memory than
a new one. Its entries are therefore replaced as they were chosen, by the farthest candidates of other photographs.

Nor is it enough where a part was photographed several times, or one day's parts are alike: the others would know it
better than they know a new part. There a block of neighbours is left out together (block cross-validation, Roberts et
al. 2017, doi 10.1111/ecog.02881). Names of files tell who is whose neighbour. A careful model, whose new parts will
differ more, leaves out with each photograph those that know it best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..models.patch_memory import CHUNK_VALUES, LeftOut, PatchMemory, nearest_distances
from ..predict.images import natural
from .fill_memory import Candidates, farthest_first

ALIKE = 1.5
"""Neighbours are alike where a patch is nearest to one of them so many times as often as by chance."""
ORDERS = 39
"""Random orders, none of which may say as much: one in forty would, where neighbours are not alike."""
BLOCKS = 10
"""Each leaves out a tenth of the photographs: a memory without more of them would know less than the one in use."""
FEWEST = 20
"""Photographs of which a tenth is more than one."""


class Block(NamedTuple):
    """Numbers of photographs that are judged, and of those that are left out meanwhile, the judged ones among them."""

    judged: list[int]
    left_out: list[int]


def blocks_of(photographs: Sequence[Path], memory: PatchMemory, candidates: Candidates) -> list[Block]:
    """Photographs that are left out together.

    Args:
        photographs: by their numbers in the memory.
        memory: that was filled from the candidates.
        candidates: of all photographs.

    Returns:
        Blocks of neighbours where these are alike; else each photograph alone.
    """
    order = sorted(range(len(photographs)), key=lambda number: natural(photographs[number]))
    if len(order) < FEWEST or not neighbours_are_alike(memory, candidates, order):
        return [Block([number], [number]) for number in range(len(order))]
    return [Block(block.tolist(), block.tolist()) for block in np.array_split(order, BLOCKS)]


@torch.inference_mode()
def best_known_blocks(photographs: int, memory: PatchMemory, candidates: Candidates) -> list[Block]:
    """With each photograph those that hold the nearest entries of most of its patches, a tenth of all, at least one.

    Args:
        photographs: their number.
        memory, candidates: as of `blocks_of`.
    """
    own, nearest = _nearest_others(memory, candidates)
    known = torch.zeros(photographs, photographs)
    known.index_put_((own, nearest), torch.ones(len(own)), accumulate=True)
    known.fill_diagonal_(-1)  # where few others know it at all, it is not among them itself
    companions = known.argsort(dim=1, descending=True)[:, : max(1, photographs // BLOCKS)].tolist()
    return [Block([number], [number, *others]) for number, others in enumerate(companions)]


@torch.inference_mode()
def neighbours_are_alike(memory: PatchMemory, candidates: Candidates, order: Sequence[int]) -> bool:
    """Whether photographs are better known by those before and after them than by others.

    Args:
        memory, candidates: as of `blocks_of`.
        order: numbers of all photographs, neighbours beside each other.
    """
    own, nearest = _nearest_others(memory, candidates)
    counts = torch.bincount(memory.sources.cpu().long(), minlength=len(order)).float()
    alikeness = partial(_alikeness, own, nearest, counts)
    as_named = alikeness(torch.tensor(order))
    random = torch.Generator().manual_seed(len(order))
    by_chance = (alikeness(torch.randperm(len(order), generator=random)) for _ in range(ORDERS))
    return as_named >= ALIKE and as_named > max(by_chance)


def _alikeness(own: Tensor, nearest: Tensor, counts: Tensor, order: Tensor) -> float:
    """How many times as often as by chance a patch is nearest to an entry of a photograph beside its own.

    Args:
        own: N, number of each patch's photograph.
        nearest: N, of the photograph of its nearest entry.
        counts: F, entries of each photograph.
        order: F, numbers of the photographs, neighbours beside each other.
    """
    places = order.argsort()
    beside = (places[nearest] - places[own]).abs() == 1
    padded = functional.pad(counts[order], (1, 1))
    by_chance = ((padded[:-2] + padded[2:])[places] / (counts.sum() - counts))[own].mean()
    return float(beside.float().mean() / by_chance)


@torch.inference_mode()
def leave_out(
    memory: PatchMemory,
    candidates: Candidates,
    blocks: Sequence[Block],
    on_block: Callable[[int, int], None] | None = None,
) -> dict[int, LeftOut]:
    """What is left out for each photograph of some blocks, and what takes its place: see `PatchMemory.left_out`.

    Args:
        memory: that was filled from the candidates.
        candidates: of all photographs.
        blocks: which photographs are left out for which.
        on_block: called with (done, total) after each block.

    Returns:
        By the number of each judged photograph; the same for a whole block. There are as many replacements as entries
        of the block, or fewer where the other photographs have no more.
    """
    device = memory.entries.device
    points, entries, sources = _reduced(memory, candidates), memory.entries.cpu(), memory.sources.cpu()
    squares, closest = _nearest_entries(points, entries)
    found: dict[int, LeftOut] = {}
    for done, block in enumerate(blocks, start=1):
        numbers = torch.tensor(block.left_out, dtype=sources.dtype)
        own = torch.isin(sources, numbers)
        others = entries[~own]
        without = squares.clone()
        bereft = own[closest].nonzero().flatten()  # candidates whose nearest entry is left out
        if len(bereft):
            without[bereft] = nearest_distances(points[bereft], others).square() if len(others) else torch.inf
        without[torch.isin(candidates.sources, numbers)] = -torch.inf
        replacements = points[farthest_first(points, int(own.sum()), without)]
        found |= dict.fromkeys(block.judged, LeftOut(numbers.to(device), replacements.to(device)))
        if on_block:
            on_block(done, len(blocks))
    return found


def _nearest_others(memory: PatchMemory, candidates: Candidates) -> tuple[Tensor, Tensor]:
    """Of each candidate the number of its photograph, and that of its nearest entry of another photograph: N int64."""
    own, sources = candidates.sources.long(), memory.sources.cpu().long()
    points, entries = _reduced(memory, candidates), memory.entries.cpu()
    nearest = [
        sources[distances.masked_fill_(of_patch[:, None] == sources, torch.inf).argmin(1)]
        for of_patch, distances in zip(_parts(own, entries), _distances(points, entries), strict=True)
    ]
    return own, torch.cat(nearest)


def _reduced(memory: PatchMemory, candidates: Candidates) -> Tensor:
    """The candidates' patches as the memory compares them, NxC on the CPU."""
    return memory.reduced(candidates.patches.to(memory.entries.device)).cpu()


def _nearest_entries(points: Tensor, entries: Tensor) -> tuple[Tensor, Tensor]:
    """Of each of NxC points the squared distance to the nearest of MxC entries, and the index of that entry.

    `nearest_distances` finds no index: it judges every photograph, and is faster without.
    """
    found = [distances.min(1) for distances in _distances(points, entries)]
    nearest = torch.cat([part.values for part in found]) + points.square().sum(1)
    return nearest.clamp_min(0), torch.cat([part.indices for part in found])


def _distances(points: Tensor, entries: Tensor) -> Iterator[Tensor]:
    """Squared distances of NxC points to MxC entries, less the squares of the points, in parts of the points."""
    squares = entries.square().sum(1)
    for part in _parts(points, entries):
        yield torch.addmm(squares, part, entries.T, alpha=-2)


def _parts(values: Tensor, entries: Tensor) -> Sequence[Tensor]:
    """Parts of N values; the distances of each to the entries fit into memory."""
    parts: tuple[Tensor, ...] = values.split(max(1, CHUNK_VALUES // len(entries)))
    return parts
