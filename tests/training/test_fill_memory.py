"""What a memory remembers: normal patches of the training photographs that lie far from one another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from stlm_hub.errors import TrainingError
from stlm_hub.models.stlm.config import STLMConfig
from stlm_hub.models.stlm.network import STLMNetwork
from stlm_hub.predict.images import load_image
from stlm_hub.predict.predictor import forward
from stlm_hub.training import fill_memory as memory
from stlm_hub.training.fill_memory import fill_memory, greedy_coreset, principal_components


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_greedy_coreset_takes_the_farthest_each_time() -> None:
    points = torch.tensor([[0.0, 0.0], [10.0, 0.0], [10.1, 0.0], [0.0, 4.0], [0.5, 0.0]])
    assert greedy_coreset(points, 3).tolist() == [2, 3, 4]
    assert sorted(greedy_coreset(torch.zeros(4, 2), 4).tolist()) == [0, 1, 2, 3]  # each once, also where all are alike


def test_choosing_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "TOLD_EVERY", 2)
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


def network(entries: int) -> STLMNetwork:
    config = STLMConfig(image_size=64, feature_levels=("stage1",), memory_entries=entries, memory_channels=16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return STLMNetwork(config).eval()


def test_what_is_remembered_is_near_and_what_was_never_seen_is_far(photographs: list[Path]) -> None:
    model, told = network(entries=3 * 64), []
    fill_memory(model, photographs, 0, lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    other = np.random.default_rng(9).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    outputs = [output for _, output in forward(model, [*map(load_image, photographs), other])]
    distances = torch.cat([output.distances for output in outputs if output.distances is not None])
    assert distances[:3].max() < 0.05 * distances[3].mean()

    same, another = network(entries=20), network(entries=20)
    fill_memory(same, photographs, 0)
    fill_memory(another, photographs, 0)
    assert same.memory is not None and another.memory is not None
    torch.testing.assert_close(same.memory.entries, another.memory.entries)


def test_more_entries_than_patches_are_refused(photographs: list[Path]) -> None:
    with pytest.raises(TrainingError, match="3 photographs have 192"):
        fill_memory(network(entries=193), photographs, 0)
