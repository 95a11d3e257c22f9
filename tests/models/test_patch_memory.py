"""The memory of normal patches: what a patch is and how far the nearest one is."""

from __future__ import annotations

import pytest
import torch
from drawn import normal, pixels

from stlm_hub.models.patch_memory import PatchMemory, nearest_distances, patch_features, smooth
from stlm_hub.models.stlm.config import PatchMemoryConfig


def test_patches_hold_the_neighbourhood_of_every_level_on_the_grid_of_the_first() -> None:
    fine, coarse = normal(1, 3, 8, 8), normal(1, 2, 4, 4, seed=1)
    patches = patch_features([fine, coarse])[0]
    assert patches.shape == (8, 8, 5)
    assert torch.allclose(patches[3, 4, :3], fine[0, :, 2:5, 3:6].mean((1, 2)), atol=1e-6)
    constant = patch_features([fine, torch.ones(1, 2, 4, 4)])[0, 3:5, 3:5, 3:]
    assert torch.allclose(constant, torch.ones(2, 2, 2))  # away from the border, where zeros are averaged in


@pytest.mark.parametrize("chunk", [1, 40, 2**24])
def test_distances_are_euclidean_to_the_nearest_entry(chunk: int) -> None:
    patches, entries = normal(3, 5, 7), normal(11, 7, seed=1)
    entries[4] = patches[2, 3]
    expected = torch.cdist(patches.flatten(0, 1), entries).amin(1).reshape(3, 5)
    found = nearest_distances(patches, entries, chunk)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-3)
    assert found[2, 3] < 2e-3


@torch.inference_mode()
def test_each_photograph_of_a_batch_is_compared_with_all_entries() -> None:
    memory = PatchMemory(PatchMemoryConfig(entries=5, channels=152))
    memory.components.copy_(torch.eye(152))
    images = pixels(32, 40, n=2)
    patches = memory.patches(images)
    assert patches.shape == (2, 4, 5, 152)
    memory.mean.copy_(patches.mean((0, 1, 2)))
    memory.entries.copy_(patches[1, 0] - memory.mean)
    distances = memory.distances(memory.patches(images))
    assert distances.shape == (2, 1, 4, 5) and distances.dtype == torch.float32
    raw = nearest_distances(patches - memory.mean, memory.entries)
    torch.testing.assert_close(distances, smooth(raw.unsqueeze(1)))
    assert raw[1, 0].max() < raw[1, 1:].min() and raw[0].min() > raw[1, 0].max()  # its first row is remembered
    torch.testing.assert_close(memory.distances(memory.patches(images[:1])), distances[:1])


@torch.inference_mode()
def test_distances_are_measured_between_principal_components() -> None:
    memory = PatchMemory(PatchMemoryConfig(entries=3, channels=4))
    memory.mean.copy_(normal(152))
    memory.components.copy_(normal(152, 4, seed=1))
    memory.entries.copy_(normal(3, 4, seed=2))
    image = pixels(32, 32)
    reduced = (memory.patches(image) - memory.mean) @ memory.components
    expected = smooth(torch.cdist(reduced.flatten(0, 2), memory.entries).amin(1).view(1, 1, 4, 4))
    torch.testing.assert_close(memory.distances(memory.patches(image)), expected, rtol=1e-3, atol=1e-2)


@torch.inference_mode()
def test_entries_of_the_photograph_itself_can_be_left_out() -> None:
    memory = PatchMemory(PatchMemoryConfig(entries=9, channels=152))
    memory.components.copy_(torch.eye(152))
    memory.sources.copy_(torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2]))
    images = pixels(32, 40, n=2)
    patches = memory.patches(images)
    memory.entries.copy_(torch.cat([patches[0, 0, :3], patches[1, 1, :3], normal(3, 152)]))
    found = memory.distances(memory.patches(images), without=[0, 1])
    for photograph in (0, 1):
        others = memory.entries[memory.sources != photograph]
        expected = torch.cdist(patches[photograph].flatten(0, 1), others).amin(1).view(1, 1, 4, 5)
        torch.testing.assert_close(found[photograph, None], smooth(expected), rtol=1e-3, atol=1e-2)
    ordinary = memory.distances(memory.patches(images))
    assert (found >= ordinary - 1e-3).all() and (found > ordinary + 1).any((1, 2, 3)).all()
    torch.testing.assert_close(memory.distances(memory.patches(images), without=[-1, -1]), ordinary)
    torch.testing.assert_close(
        memory.distances(memory.patches(images), without=[-1, 1]), torch.stack([ordinary[0], found[1]])
    )
    torch.testing.assert_close(memory.distances(patches, [0, 1]), found)


def test_each_photograph_of_a_batch_names_what_is_left_out() -> None:
    memory = PatchMemory(PatchMemoryConfig(entries=3, channels=4))
    with torch.inference_mode(), pytest.raises(ValueError, match="zip"):
        memory.distances(memory.patches(pixels(32, 32, n=2)), without=[0])


def test_no_gradient_reaches_it_and_training_does_not_change_it() -> None:
    memory = PatchMemory(PatchMemoryConfig(entries=3, channels=4))
    assert not any(parameter.requires_grad for parameter in memory.parameters())
    assert {"mean", "components", "entries", "sources"} < memory.state_dict().keys()
    assert not any(module.training for module in memory.backbone.modules())  # type: ignore[attr-defined]


def test_distances_are_smoothed_by_half_a_cell_and_keep_their_level() -> None:
    torch.testing.assert_close(smooth(torch.full((2, 1, 3, 4), 5.0)), torch.full((2, 1, 3, 4), 5.0))
    one = torch.zeros(1, 1, 7, 7)
    one[0, 0, 3, 3] = 1
    offsets = torch.arange(-3.0, 4)
    gaussian = torch.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 0.5**2))
    torch.testing.assert_close(smooth(one)[0, 0], gaussian / gaussian.sum(), rtol=0, atol=1e-3)
