"""What a memory would hold without one of its photographs, so that this one can be scored as a new one is.

To leave its entries out is not enough. Entries lie far from one another, so each stands for the patches of all
photographs around it, and without it nothing stands for them: the photograph would be farther from the memory than a
new one. Its entries are therefore replaced as they were chosen, by the farthest candidates of other photographs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..models.patch_memory import CHUNK_VALUES, PatchMemory, nearest_distances
from .fill_memory import Candidates, farthest_first


@torch.inference_mode()
def replacements(
    memory: PatchMemory,
    candidates: Candidates,
    numbers: Sequence[int],
    on_photograph: Callable[[int, int], None] | None = None,
) -> dict[int, Tensor]:
    """Entries that take the place of each photograph's own.

    Args:
        memory: that was filled from the candidates.
        candidates: of all photographs.
        numbers: of the photographs that are left out, one at a time.
        on_photograph: called with (done, total) after each.

    Returns:
        By the number of the photograph, KxC float32 on the memory's device: as many as its entries, or fewer where the
        other photographs have no more.
    """
    device = memory.entries.device
    points, entries = memory.reduced(candidates.patches.to(device)).cpu(), memory.entries.cpu()
    sources = memory.sources.cpu()
    squares, closest = _nearest_entries(points, entries)
    found = {}
    for done, number in enumerate(numbers, start=1):
        own = sources == number
        others = entries[~own]
        without = squares.clone()
        bereft = own[closest].nonzero().flatten()  # candidates whose nearest entry is left out
        if len(bereft):
            without[bereft] = nearest_distances(points[bereft], others).square() if len(others) else torch.inf
        without[candidates.sources == number] = -torch.inf
        found[number] = points[farthest_first(points, int(own.sum()), without)].to(device)
        if on_photograph:
            on_photograph(done, len(numbers))
    return found


def _nearest_entries(points: Tensor, entries: Tensor) -> tuple[Tensor, Tensor]:
    """Of each of NxC points the squared distance to the nearest of MxC entries, and the index of that entry.

    `nearest_distances` finds no index: it judges every photograph, and is faster without.
    """
    squares = entries.square().sum(1)
    found = [
        torch.addmm(squares, part, entries.T, alpha=-2).min(1) for part in points.split(CHUNK_VALUES // len(entries))
    ]
    nearest = torch.cat([part.values for part in found]) + points.square().sum(1)
    return nearest.clamp_min(0), torch.cat([part.indices for part in found])
