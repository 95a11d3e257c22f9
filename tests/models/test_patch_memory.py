"""The memory of normal patches: what a patch is and how far the nearest one is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stlm_hub.models.patch_memory import PatchMemory, nearest_distances, patch_features, smooth


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_patches_hold_the_neighbourhood_of_every_level_on_the_grid_of_the_first() -> None:
    fine, coarse = random(1, 3, 8, 8), random(1, 2, 4, 4, seed=1)
    patches = patch_features([fine, coarse])[0]
    assert patches.shape == (8, 8, 5)
    assert torch.allclose(patches[3, 4, :3], fine[0, :, 2:5, 3:6].mean((1, 2)), atol=1e-6)
    constant = patch_features([fine, torch.ones(1, 2, 4, 4)])[0, 3:5, 3:5, 3:]
    assert torch.allclose(constant, torch.ones(2, 2, 2))  # away from the border, where zeros are averaged in


@pytest.mark.parametrize("chunk", [1, 40, 2**24])
def test_distances_are_euclidean_to_the_nearest_entry(chunk: int) -> None:
    patches, entries = random(3, 5, 7), random(11, 7, seed=1)
    entries[4] = patches[2, 3]
    expected = torch.cdist(patches.flatten(0, 1), entries).amin(1).reshape(3, 5)
    found = nearest_distances(patches, entries, chunk)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-3)
    assert found[2, 3] < 2e-3


def test_each_photograph_of_a_batch_is_compared_with_all_entries() -> None:
    memory = PatchMemory(8, entries=5, channels=8)
    memory.components.copy_(torch.eye(8))
    levels = [random(2, 5, 4, 4), random(2, 3, 2, 2, seed=1)]
    patches = patch_features(levels)
    memory.mean.copy_(patches.mean((0, 1, 2)))
    memory.entries.copy_(patches[1].flatten(0, 1)[:5] - memory.mean)
    distances = memory(levels)
    assert distances.shape == (2, 1, 4, 4)
    assert distances[1, 0, 0].max() < distances[1, 0, 2:].min()  # the first row is remembered, of the second one patch
    torch.testing.assert_close(memory([level[:1] for level in levels]), distances[:1])


def test_distances_are_smoothed_by_half_a_cell_and_keep_their_level() -> None:
    torch.testing.assert_close(smooth(torch.full((2, 1, 3, 4), 5.0)), torch.full((2, 1, 3, 4), 5.0))
    one = torch.zeros(1, 1, 7, 7)
    one[0, 0, 3, 3] = 1
    offsets = torch.arange(-3.0, 4)
    gaussian = torch.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 0.5**2))
    torch.testing.assert_close(smooth(one)[0, 0], gaussian / gaussian.sum(), rtol=0, atol=1e-3)
