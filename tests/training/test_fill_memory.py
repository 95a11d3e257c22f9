"""What a memory remembers: normal patches of good photographs that lie far from one another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from stlm_hub.errors import TrainingError
from stlm_hub.models.patch_memory import PatchMemory, principal_components, smooth
from stlm_hub.models.stlm.anomaly_maps import AnomalyMaps
from stlm_hub.models.stlm.config import NetworkConfig, PatchMemoryConfig, STLMConfig
from stlm_hub.models.stlm.judging import Judging
from stlm_hub.predict.frame import to_input
from stlm_hub.predict.images import load_image
from stlm_hub.pseudo_anomalies.nuisance import Nuisance, photographed_again
from stlm_hub.training import fill_memory as memory
from stlm_hub.training.fill_memory import fill_memory, greedy_coreset


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_greedy_coreset_takes_the_farthest_each_time() -> None:
    points = torch.tensor([[0.0, 0.0], [10.0, 0.0], [10.1, 0.0], [0.0, 4.0], [0.5, 0.0]])
    assert greedy_coreset(points, 3).tolist() == [2, 3, 4]
    assert sorted(greedy_coreset(torch.zeros(4, 2), 4).tolist()) == [0, 1, 2, 3]  # each once, also where all are alike


def test_choosing_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "PROGRESS_EVERY", 2)
    told: list[tuple[int, int]] = []
    greedy_coreset(torch.rand(9, 2), 5, lambda done, total: told.append((done, total)))
    assert told == [(0, 5), (2, 5), (4, 5)]


def test_principal_components_are_orthonormal_and_keep_most_of_the_variance() -> None:
    points = random(500, 3) * torch.tensor([5.0, 0.1, 2.0])
    points = points - points.mean(0)
    kept = principal_components(points, 2)
    torch.testing.assert_close(kept.T @ kept, torch.eye(2), rtol=0, atol=1e-5)
    assert (points @ kept).var(0).sum() > 0.99 * points.var(0).sum()
    assert abs(kept[0, 1]) > 0.9  # the largest is last


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    paths = []
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (64, 64, 3)).astype(np.uint8)
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def loaded(photographs: list[Path]) -> list[np.ndarray]:
    return [load_image(path) for path in photographs]


def memory_of(entries: int) -> PatchMemory:
    """An empty memory whose backbone has random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PatchMemory(PatchMemoryConfig(entries=entries, channels=16)).eval()


def fill(memory: PatchMemory, photographs: list[Path], seed: int, *options: Any) -> None:
    """Fills it as the memory of a model of 64 x 64 px."""
    model = AnomalyMaps(STLMConfig(NetworkConfig((64, 64)), memory.config, streams=False), Judging("memory")).eval()
    model.patch_memory = memory
    fill_memory(model, photographs, seed, *options)


def far(memory: PatchMemory, images: Tensor, without: list[int] | None = None) -> Tensor:
    """Distances of images to what is remembered."""
    return memory.distances(memory.patches(images), without)


def test_what_is_remembered_is_near_and_what_was_never_seen_is_far(photographs: list[Path]) -> None:
    images: list[tuple[int, int]] = []
    entries: list[tuple[int, int]] = []
    full = memory_of(entries=3 * 64)
    fill(full, photographs, 0, None, lambda *done: images.append(done), lambda *done: entries.append(done))
    assert images == [(1, 3), (2, 3), (3, 3)] and entries == [(0, 192)]
    other = np.random.default_rng(9).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    with torch.inference_mode():
        distances = far(full, to_input([*map(load_image, photographs), other], (64, 64)))
    assert distances.shape == (4, 1, 8, 8)
    assert distances[:3].max() < 0.05 * distances[3].mean()

    same, another = memory_of(entries=20), memory_of(entries=20)
    fill(same, photographs, 0)
    fill(another, photographs, 0)
    torch.testing.assert_close(same.entries, another.entries)


def test_each_entry_knows_its_photograph(photographs: list[Path]) -> None:
    full = memory_of(entries=3 * 64)
    assert full.sources.tolist() == [-1] * 192
    fill(full, photographs, 0)
    assert torch.bincount(full.sources).tolist() == [64, 64, 64]
    with torch.inference_mode():
        images = to_input(loaded(photographs), (64, 64))
        own, others = far(full, images), far(full, images, [0, 1, 2])
        reduced = (full.patches(images) - full.mean) @ full.components
    assert others.min() > own.max()
    for number in range(3):
        rest = full.entries[full.sources != number]
        expected = smooth(torch.cdist(reduced[number].flatten(0, 1), rest).amin(1).view(1, 1, 8, 8))
        torch.testing.assert_close(others[number, None], expected, rtol=1e-3, atol=1e-2)


def test_a_disturbed_copy_of_each_photograph_is_remembered_too(photographs: list[Path]) -> None:
    darker = Nuisance(0.4, 0, 0, 0, 0, 100, 0, 0)
    plain, disturbed, again = (memory_of(entries=150) for _ in range(3))
    fill(plain, photographs, 0)
    for one in (disturbed, again):
        fill(one, photographs, 0, darker)
    torch.testing.assert_close(disturbed.entries, again.entries)
    assert set(disturbed.sources.tolist()) == {0, 1, 2}  # a copy is of the photograph that it shows
    rng = np.random.default_rng(0)
    copies = [photographed_again(image, rng, darker, (64, 64)) for image in loaded(photographs)]
    full = memory_of(entries=2 * 192)
    with pytest.raises(TrainingError, match="the photographs have 192"):  # copies are no further photographs
        fill(full, photographs, 0, darker)
    with torch.inference_mode():
        known, unknown = (far(one, to_input(copies, (64, 64))).mean() for one in (disturbed, plain))
    assert known < unknown


def test_the_seed_decides_which_patches_are_candidates(
    photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "CANDIDATES", 30)
    one, other = memory_of(entries=20), memory_of(entries=20)
    fill(one, photographs, 0)
    fill(other, photographs, 1)
    assert not torch.equal(one.entries, other.entries)


def test_more_entries_than_patches_are_refused(photographs: list[Path]) -> None:
    with pytest.raises(TrainingError, match="the photographs have 192"):
        fill(memory_of(entries=193), photographs, 0)


def test_nothing_outside_the_region_is_remembered(photographs: list[Path]) -> None:
    model = AnomalyMaps(
        STLMConfig(NetworkConfig((64, 64)), PatchMemoryConfig(3 * 32, 16), streams=False, region=True),
        Judging("memory"),
    ).eval()
    assert model.region is not None and model.patch_memory is not None
    model.region.inside[:, 32:] = 0
    fill_memory(model, photographs, 0)
    with torch.inference_mode():
        distances = model.raw(to_input(loaded(photographs), (64, 64)), ("memory",)).values["memory"]
    assert distances[..., :3].max() < 0.2 * distances[..., 5:].mean()
    with pytest.raises(TrainingError, match="the photographs have 96"):
        model.patch_memory.config = PatchMemoryConfig(97, 16)
        fill_memory(model, photographs, 0)
