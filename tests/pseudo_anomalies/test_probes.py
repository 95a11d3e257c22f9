"""Damage that calibration paints: what it changes, where, and that it shows."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from drawn import grey, texture

from stlm_hub.pseudo_anomalies.foreground import foreground
from stlm_hub.pseudo_anomalies.probes import VISIBLE, dent, probe, scratch, stain

Kind = Callable[[np.ndarray, np.random.Generator, tuple[int, int]], tuple[np.ndarray, np.ndarray]]
KINDS: tuple[Kind, ...] = (scratch, stain, dent)


def part(size: int, seed: int = 0) -> np.ndarray:
    """A surface with edges everywhere, so that everything shows that is moved or covered."""
    stripes = 40 * np.sin(np.arange(size) * 60.0 / size)[None, :, None]
    return np.clip(0.5 * texture(size, size, seed) + 60 + stripes, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [64, 101, 256, 512])
def test_a_probe_shows_within_its_mask(size: int) -> None:
    image, rng = part(size), np.random.default_rng(size)
    before = image.copy()
    for _ in range(24):
        result, mask = probe(image, rng)
        assert result.shape == image.shape and result.dtype == mask.dtype == np.uint8
        assert mask.shape == (size, size) and set(np.unique(mask)) == {0, 1}
        difference = cv2.absdiff(result, image).max(axis=2)
        assert difference[mask > 0].mean() >= VISIBLE
        assert difference[mask > 0].mean() > 10 * difference[mask == 0].mean()
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("kind", KINDS)
def test_far_from_the_mask_nothing_changes(kind: Kind) -> None:
    image, rng = part(128), np.random.default_rng(1)
    for _ in range(12):
        result, mask = kind(image, rng, (60, 70))
        assert mask[55:66, 65:76].any()  # it lies at the place that was named
        near = cv2.dilate(mask, np.ones((25, 25), np.uint8)) > 0
        assert near.mean() < 0.6
        assert cv2.absdiff(result, image)[~near].max() <= 1


def test_every_kind_of_damage_is_drawn() -> None:
    """Shares of the image that masks cover tell scratches from the others; missing pieces are plain inside."""
    image, rng = part(128), np.random.default_rng(2)
    shares = [probe(image, rng)[1].mean() for _ in range(100)]
    assert min(shares) < 0.003 and max(shares) > 0.03


def test_probes_lie_on_the_part_where_it_stands_out() -> None:
    image = grey(230, 160, 160)
    image[50:110, 40:120] = part(160)[50:110, 40:120] // 2
    assert 0.1 < foreground(image).mean() < 0.6
    rng = np.random.default_rng(3)
    hit = sum(bool((probe(image, rng)[1].astype(bool) & foreground(image)).any()) for _ in range(40))
    assert hit >= 38


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_surface_without_any_structure_is_damaged_all_the_same(level: int) -> None:
    rng = np.random.default_rng(4)
    visible = 0
    for _ in range(40):
        result, mask = probe(grey(level), rng)
        assert result.shape == (64, 64, 3) and mask.shape == (64, 64)
        visible += bool(cv2.absdiff(result, grey(level)).max() >= VISIBLE)
    assert visible >= (10 if level else 5)  # dents and missing pieces of nothing cannot be seen


def test_a_generator_decides_everything() -> None:
    drawn = [probe(part(96), np.random.default_rng(seed)) for seed in (5, 5, 6)]
    np.testing.assert_array_equal(drawn[0][0], drawn[1][0])
    np.testing.assert_array_equal(drawn[0][1], drawn[1][1])
    assert (drawn[0][1] != drawn[2][1]).any()
