"""Damage is drawn on squares; of a frame that is none, on a random square as high or as wide as it is."""

from __future__ import annotations

import numpy as np


def random_square(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns of the largest square of an HxW frame, at a random place along its longer side.

    A square frame is taken whole, and nothing is drawn from `rng`.
    """
    side = min(shape[:2])
    top, left = (int(rng.integers(0, length - side + 1)) if length > side else 0 for length in shape[:2])
    return slice(top, top + side), slice(left, left + side)


def put_back(
    image: np.ndarray, place: tuple[slice, slice], damaged: np.ndarray, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """HxWx3, and damage with its mask on a square of it -> the whole damaged frame, HxWx3, and its mask, HxW uint8."""
    if damaged.shape == image.shape:
        return damaged, mask
    result, where = image.copy(), np.zeros(image.shape[:2], np.uint8)
    result[place], where[place] = damaged, mask
    return result, where
