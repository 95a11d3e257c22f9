"""Points on hand-made maps of known geometry: positives inside, negatives in the ring, where features differ most."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from stlm_hub.zero_shot.point_prompts import extreme_region, point_prompts, ring_around, similarity_to


def disc(size: int, row: int, column: int, radius: float) -> np.ndarray:
    """size x size float32: 0.9 in the middle, 0.5 at the radius."""
    rows, columns = np.mgrid[:size, :size]
    return (0.9 - 0.4 * np.hypot(rows - row, columns - column) / radius).clip(0).astype(np.float32)


def features(seed: int) -> torch.Tensor:
    return torch.randn(8, 16, 16, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("row", "column", "radius"), [(64, 64, 20), (5, 120, 12), (100, 30, 3), (64, 64, 45)])
def test_positives_lie_inside_and_negatives_in_the_ring(row: int, column: int, radius: int) -> None:
    anomaly_map = disc(128, row, column, radius)
    region = extreme_region(anomaly_map, 0.5)
    prompts = point_prompts(anomaly_map, region, features(0), k=4)
    ring = ring_around(region)
    assert not (ring & region).any()
    assert len(prompts.positive) and all(region[y, x] for x, y in prompts.positive)
    assert len(prompts.negative) == 4 and all(ring[y, x] for x, y in prompts.negative)
    assert tuple(prompts.positive[0]) == (column, row)  # the highest place comes first
    assert prompts.labels.tolist() == [1] * len(prompts.positive) + [0] * 4


def test_the_similarity_is_the_mean_of_all_pairs() -> None:
    region = np.zeros((16, 16), bool)
    region[4:7, 5:9] = True
    ring, seen = ring_around(region), features(1)
    found = similarity_to(region, ring, seen)
    for y, x in np.argwhere(ring)[::9]:
        pairs = [F.cosine_similarity(seen[:, y, x], seen[:, r, c], dim=0) for r, c in np.argwhere(region)]
        assert found[y, x] == pytest.approx(float(torch.stack(pairs).mean()), abs=1e-5)
    assert np.isnan(found[~ring]).all()


def test_negatives_go_where_the_surface_differs_and_not_into_other_regions() -> None:
    anomaly_map = disc(64, 32, 32, 10)
    region = extreme_region(anomaly_map, 0.5)
    seen = torch.zeros(2, 64, 64)
    seen[0] = 1
    seen[:, :, 45:] = torch.tensor([0.0, 1.0])[:, None, None]  # another surface to the right
    prompts = point_prompts(anomaly_map, region, seen)
    assert (prompts.negative[:, 0] >= 44).all()
    avoid = np.zeros_like(region)
    avoid[:, 44:] = True
    assert (point_prompts(anomaly_map, region, seen, avoid=avoid).negative[:, 0] < 44).all()


def test_a_region_that_fills_the_map_has_no_negatives() -> None:
    full = np.full((16, 16), 0.7, np.float32)
    prompts = point_prompts(full, full > 0.5, features(2))
    assert len(prompts.positive) == 4 and prompts.negative.shape == (0, 2)
