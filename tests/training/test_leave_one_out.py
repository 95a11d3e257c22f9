"""A photograph that is left out of the memory is as far from it as a new one, not farther."""

from __future__ import annotations

import torch
from torch import Tensor

from stlm_hub.models.patch_memory import PatchMemory, nearest_distances
from stlm_hub.models.stlm.config import PatchMemoryConfig
from stlm_hub.training.fill_memory import Candidates, farthest_first, greedy_coreset
from stlm_hub.training.leave_one_out import replacements

PHOTOGRAPHS, PATCHES, ENTRIES, CHANNELS = 40, 200, 240, 3


def filled(points: Tensor, entries: int = ENTRIES) -> tuple[PatchMemory, Candidates]:
    """A memory of photographs whose patches are FxPxC, and what it was filled from."""
    memory = PatchMemory(PatchMemoryConfig(entries=entries, channels=points.shape[-1])).eval()
    memory.components.copy_(torch.eye(*memory.components.shape))
    seen = points.flatten(0, 1)
    patches = torch.zeros(len(seen), len(memory.mean))
    patches[:, : points.shape[-1]] = seen
    sources = torch.arange(len(points), dtype=torch.int32).repeat_interleave(points.shape[1])
    chosen = greedy_coreset(seen, entries)
    memory.entries.copy_(seen[chosen])
    memory.sources.copy_(sources[chosen])
    return memory, Candidates(patches, sources)


def farthest(memory: PatchMemory, points: Tensor, without: int) -> float:
    """Distance of the farthest patch of a photograph."""
    return float(nearest_distances(points, memory._entries_without(without)).max())


def test_a_photograph_that_is_left_out_is_as_far_as_a_new_one() -> None:
    random = torch.Generator().manual_seed(0)
    known, new = torch.rand(2, PHOTOGRAPHS, PATCHES, CHANNELS, generator=random)
    memory, candidates = filled(known)
    expected = sum(farthest(memory, points, -1) for points in new) / PHOTOGRAPHS
    plain = sum(farthest(memory, points, i) for i, points in enumerate(known)) / PHOTOGRAPHS
    told: list[tuple[int, int]] = []
    memory.replacements = replacements(memory, candidates, range(PHOTOGRAPHS), lambda *done: told.append(done))
    mended = sum(farthest(memory, points, i) for i, points in enumerate(known)) / PHOTOGRAPHS
    assert plain > 1.1 * expected, "leaving entries out alone would do"
    assert abs(mended / expected - 1) < 0.05
    assert told[-1] == (PHOTOGRAPHS, PHOTOGRAPHS) and len(told) == PHOTOGRAPHS


def test_replacements_are_patches_of_other_photographs_as_many_as_are_left_out() -> None:
    points = torch.rand(5, 20, CHANNELS, generator=torch.Generator().manual_seed(1))
    memory, candidates = filled(points, entries=30)
    found = replacements(memory, candidates, [3, 0])
    assert list(found) == [3, 0]
    for number, instead in found.items():
        assert len(instead) == int((memory.sources == number).sum())
        others = torch.cat([points[i] for i in range(5) if i != number])
        assert torch.cdist(instead, others).amin(1).max() < 1e-5
        kept = memory.entries[memory.sources != number]
        assert torch.cdist(instead, kept).min() > 1e-4, "one is remembered already"


def test_a_photograph_of_which_nothing_is_remembered_is_replaced_by_nothing() -> None:
    points = torch.cat([torch.rand(3, 9, CHANNELS), torch.full((1, 9, CHANNELS), 0.5)])
    memory, candidates = filled(points, entries=4)
    assert 3 not in memory.sources
    assert replacements(memory, candidates, [3])[3].shape == (0, CHANNELS)


def test_where_everything_is_remembered_nothing_takes_the_place() -> None:
    points = torch.rand(3, 4, CHANNELS, generator=torch.Generator().manual_seed(2))
    memory, candidates = filled(points, entries=12)
    assert all(torch.cdist(r, memory.entries).amin() < 1e-5 for r in replacements(memory, candidates, [0]).values())


def test_farthest_first_goes_on_from_what_is_chosen() -> None:
    points = torch.tensor([[0.0], [4.0], [10.0], [10.5]])
    nearest = points.square().sum(1)  # 0 is chosen
    nearest[0] = -torch.inf
    assert farthest_first(points, 2, nearest).tolist() == [3, 1]
    assert len(farthest_first(points, 9, nearest)) == 1  # and no more
