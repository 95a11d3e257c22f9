"""A photograph that is left out of the memory with its neighbours is as far from it as a new one, not farther."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stlm_hub.models.patch_memory import PatchMemory, nearest_distances
from stlm_hub.models.stlm.config import PatchMemoryConfig
from stlm_hub.training.fill_memory import Candidates, farthest_first, greedy_coreset
from stlm_hub.training.leave_block_out import (
    BLOCKS,
    Block,
    best_known_blocks,
    blocks_of,
    leave_out,
    neighbours_are_alike,
)

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


def together(*numbers: int) -> Block:
    """A block whose photographs are all judged."""
    return Block([*numbers], [*numbers])


def alone(n: int) -> list[Block]:
    """Each photograph as a block of its own."""
    return [together(number) for number in range(n)]


def named(numbers: Iterable[int]) -> list[Path]:
    return [Path(f"part{number}.png") for number in numbers]


def distances(memory: PatchMemory, known: Tensor) -> float:
    """Mean over photographs that are known of the distance of the farthest patch, without them."""
    return sum(farthest(memory, points, i) for i, points in enumerate(known)) / len(known)


def photographed_again(times: int) -> tuple[Tensor, Tensor]:
    """Photographs of parts that differ as a whole, each `times` times one after the other, and of as many new parts."""
    random = torch.Generator().manual_seed(3)
    parts, new = torch.rand(2, PHOTOGRAPHS, PATCHES, 8, generator=random)
    for one in (parts, new):
        one += torch.randn(PHOTOGRAPHS, 1, 8, generator=random)
    known = parts[: PHOTOGRAPHS // times].repeat_interleave(times, 0)
    return known + 0.2 * torch.rand(known.shape, generator=random), new


def test_a_photograph_that_is_left_out_is_as_far_as_a_new_one() -> None:
    random = torch.Generator().manual_seed(0)
    known, new = torch.rand(2, PHOTOGRAPHS, PATCHES, CHANNELS, generator=random)
    memory, candidates = filled(known)
    expected = sum(farthest(memory, points, -1) for points in new) / PHOTOGRAPHS
    plain = distances(memory, known)
    told: list[tuple[int, int]] = []
    blocks = blocks_of(named(range(PHOTOGRAPHS)), memory, candidates)
    assert blocks == alone(PHOTOGRAPHS)
    memory.left_out = leave_out(memory, candidates, blocks, lambda *done: told.append(done))
    assert plain > 1.1 * expected, "leaving entries out alone would do"
    assert abs(distances(memory, known) / expected - 1) < 0.05
    assert told[-1] == (PHOTOGRAPHS, PHOTOGRAPHS) and len(told) == PHOTOGRAPHS


def test_a_part_that_was_photographed_four_times_is_as_far_as_a_new_one_in_blocks_only() -> None:
    known, new = photographed_again(4)
    memory, candidates = filled(known)
    expected = sum(farthest(memory, points, -1) for points in new) / PHOTOGRAPHS
    memory.left_out = leave_out(memory, candidates, alone(PHOTOGRAPHS))
    assert distances(memory, known) < 0.5 * expected, "leaving photographs out one by one would do"
    blocks = blocks_of(named(range(PHOTOGRAPHS)), memory, candidates)
    assert [len(block.left_out) for block in blocks] == [4] * BLOCKS
    memory.left_out = leave_out(memory, candidates, blocks)
    assert abs(distances(memory, known) / expected - 1) < 0.1


def test_a_careful_model_leaves_out_what_is_alike_whatever_the_names_say() -> None:
    known, new = photographed_again(4)
    shuffled = torch.randperm(PHOTOGRAPHS, generator=torch.Generator().manual_seed(4))
    memory, candidates = filled(known[shuffled])
    expected = sum(farthest(memory, points, -1) for points in new) / PHOTOGRAPHS
    blocks = best_known_blocks(PHOTOGRAPHS, memory, candidates)
    for number, block in enumerate(blocks):
        assert block.judged == [number] and len(set(block.left_out)) == 1 + PHOTOGRAPHS // BLOCKS
        part = int(shuffled[number]) // 4
        assert {int(shuffled[other]) // 4 for other in block.left_out[:4]} == {part}, "the other three of the same part"
    memory.left_out = leave_out(memory, candidates, blocks)
    assert abs(distances(memory, known[shuffled]) / expected - 1) < 0.1
    assert [len(block.left_out) for block in best_known_blocks(8, *filled(known[:8]))] == [2] * 8


def test_neighbours_are_told_by_the_numbers_in_their_names() -> None:
    known, _ = photographed_again(4)
    shuffled = torch.randperm(PHOTOGRAPHS, generator=torch.Generator().manual_seed(4))
    memory, candidates = filled(known[shuffled])
    blocks = blocks_of(named(shuffled.tolist()), memory, candidates)
    taken = [sorted(int(shuffled[number]) for number in block.judged) for block in blocks]
    assert taken == [[*range(first, first + 4)] for first in range(0, PHOTOGRAPHS, 4)]
    assert blocks_of(named(range(PHOTOGRAPHS)), memory, candidates) == alone(PHOTOGRAPHS), "names that tell nothing"
    assert not neighbours_are_alike(memory, candidates, [*range(PHOTOGRAPHS)])
    assert neighbours_are_alike(memory, candidates, shuffled.argsort().tolist())


@pytest.mark.parametrize(("photographs", "expected"), [(16, 16), (24, BLOCKS), (40, BLOCKS)])
def test_no_more_than_a_tenth_is_left_out(photographs: int, expected: int) -> None:
    known, _ = photographed_again(4)
    memory, candidates = filled(known[:photographs])
    assert len(blocks_of(named(range(photographs)), memory, candidates)) == expected


def test_what_takes_the_place_are_patches_of_other_photographs_as_many_as_are_left_out() -> None:
    points = torch.rand(5, 20, CHANNELS, generator=torch.Generator().manual_seed(1))
    memory, candidates = filled(points, entries=30)
    memory.left_out = found = leave_out(memory, candidates, [together(3, 1), together(0)])
    assert list(found) == [3, 1, 0]
    for block in ([1, 3], [0]):
        for number in block:
            out, replacements = found[number]
            assert sorted(out.tolist()) == block
            kept = memory.entries[~torch.isin(memory.sources, out)]
            assert len(kept) + len(replacements) == 30
            torch.testing.assert_close(memory._entries_without(number), torch.cat([kept, replacements]))
            others = torch.cat([points[i] for i in range(5) if i not in block])
            assert nearest_distances(replacements, others).max() < 1e-3
            assert torch.cdist(replacements, kept).min() > 1e-4, "one is remembered already"


def test_a_photograph_of_which_nothing_is_remembered_is_replaced_by_nothing() -> None:
    points = torch.cat([torch.rand(3, 9, CHANNELS), torch.full((1, 9, CHANNELS), 0.5)])
    memory, candidates = filled(points, entries=4)
    assert 3 not in memory.sources
    assert leave_out(memory, candidates, [together(3)])[3].replacements.shape == (0, CHANNELS)


def test_where_everything_is_remembered_nothing_new_takes_the_place() -> None:
    points = torch.rand(3, 4, CHANNELS, generator=torch.Generator().manual_seed(2))
    memory, candidates = filled(points, entries=12)
    out = leave_out(memory, candidates, [together(0)])[0]
    assert nearest_distances(out.replacements, memory.entries[memory.sources != 0]).max() < 1e-3


def test_farthest_first_goes_on_from_what_is_chosen() -> None:
    points = torch.tensor([[0.0], [4.0], [10.0], [10.5]])
    nearest = points.square().sum(1)  # 0 is chosen
    nearest[0] = -torch.inf
    assert farthest_first(points, 2, nearest).tolist() == [3, 1]
    assert len(farthest_first(points, 9, nearest)) == 1  # and no more
