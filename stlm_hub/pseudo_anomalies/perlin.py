"""Perlin noise and the anomaly masks cut out of it (paper, section 3.1; DRAEM, Zavrtanik et al. 2021)."""

from __future__ import annotations

import math

import cv2
import numpy as np

MIN_MASK_FRACTION = 5e-4  # smaller masks are specks of noise, so they count as empty
MAX_DRAWS = 20


def perlin_noise(
    size: int, cells: tuple[float, float], rng: np.random.Generator, *, offset: tuple[float, float] = (0.0, 0.0)
) -> np.ndarray:
    """Gradient noise on a square, scaled by sqrt(2) so that it spans about [-1, 1].

    Random unit gradients sit on a lattice and every pixel blends the four around it with Perlin's quintic fade. The
    blend is separable, so the whole picture is two matrix products, and neither number of cells need divide the size.

    Args:
        size: side in pixels.
        cells: lattice cells down and across the picture, each above 0; more cells make finer noise.
        rng: source of the gradients.
        offset: position of the top left pixel's corner in its lattice cell (down, across), each in [0, 1).

    Returns:
        (size, size) float32.
    """
    fade_y, slope_y = _corner_weights(size, cells[0], offset[0])
    fade_x, slope_x = _corner_weights(size, cells[1], offset[1])
    angle = rng.uniform(0.0, 2.0 * math.pi, (fade_y.shape[1], fade_x.shape[1]))
    towards_y, towards_x = np.sin(angle).astype(np.float32), np.cos(angle).astype(np.float32)
    noise: np.ndarray = slope_y @ towards_y @ fade_x.T
    noise += fade_y @ towards_x @ slope_x.T
    noise *= math.sqrt(2.0)
    return noise


def _corner_weights(size: int, cells: float, offset: float) -> tuple[np.ndarray, np.ndarray]:
    """Weight of each lattice point for each pixel of one axis, and the same times the signed distance in cells."""
    position = (np.arange(size, dtype=np.float32) + 0.5) * (cells / size) + offset
    distance = position[:, None] - np.arange(math.floor(position[-1]) + 2, dtype=np.float32)
    t = np.maximum(1.0 - np.abs(distance), 0.0)
    fade = t * t * t * (t * (t * 6.0 - 15.0) + 10.0)
    return fade, fade * distance


def rotated_perlin_noise(size: int, cells: tuple[int, int], degrees: float, rng: np.random.Generator) -> np.ndarray:
    """Perlin noise whose lattice is turned and placed at random.

    The noise is drawn on a square large enough to cover the picture at any angle: corners are as likely to be anomalous
    as the middle, unlike with noise that is rotated inside its own frame.

    Args:
        size: side in pixels.
        cells: lattice cells per side of the picture, before rotation (down, across).
        degrees: counter-clockwise angle.
        rng: source of gradients and lattice position.

    Returns:
        (size, size) float32, about [-1, 1].
    """
    covering = math.ceil(size * math.sqrt(2.0)) + 2
    stretched = (cells[0] * covering / size, cells[1] * covering / size)
    noise = perlin_noise(covering, stretched, rng, offset=(rng.random(), rng.random()))
    middle = (covering - 1) / 2
    matrix = np.asarray(cv2.getRotationMatrix2D((middle, middle), degrees, 1.0), np.float64)
    matrix[:, 2] -= (covering - size) / 2  # keep the middle
    return np.asarray(cv2.warpAffine(noise, matrix, (size, size), flags=cv2.INTER_LINEAR), np.float32)


def perlin_mask(
    size: int, rng: np.random.Generator, *, max_exponent: int, rotation: float, threshold: float
) -> np.ndarray:
    """Anomaly mask: rotated Perlin noise above a threshold, drawn again while (almost) nothing is above it.

    Args:
        size: side in pixels.
        rng: source of everything random.
        max_exponent: each axis has 2^U{0..max_exponent} cells.
        rotation: the angle is U(-rotation, rotation) degrees.
        threshold: noise above it is anomalous.

    Returns:
        (size, size) uint8 of 0 and 1, with at least one 1.
    """
    least = max(1, round(MIN_MASK_FRACTION * size * size))
    for _ in range(MAX_DRAWS):
        exponents = rng.integers(0, max_exponent + 1, 2)
        cells = (int(2 ** exponents[0]), int(2 ** exponents[1]))
        noise = rotated_perlin_noise(size, cells, rng.uniform(-rotation, rotation), rng)
        mask = (noise > threshold).astype(np.uint8)
        if np.count_nonzero(mask) >= least:
            return mask
    # A threshold that this noise hardly ever reaches: its highest hundredth is the anomaly.
    highest: np.ndarray = (noise >= np.quantile(noise, 0.99)).astype(np.uint8)
    return highest
