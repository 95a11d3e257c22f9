"""Something is bent: a small disc of the image is shifted, turned, pinched or swollen.

What is pasted or erased changes what a part is made of; a bent tip, a squeezed thread or a tooth that leans changes its
shape alone. Smooth local deformations, as image warping has them (Arad et al. 1994), in place of a foreign patch.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from .perlin import MIN_MASK_FRACTION

MAX_WARPS = 3
RADIUS = (0.02, 0.06)  # of a disc, as a share of the image's side, uniform in its logarithm
SHIFT = (0.4, 0.8)  # of its middle, in radii
TURN = (0.8, 2.0)  # of its middle, in radians
SCALE = (0.5, 1.8)  # the middle grows where this is below 1 and shrinks where it is above
VISIBLE = 12  # grey levels; a smaller change counts as none
MAX_DRAWS = 20


def warp(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Deforms one to `MAX_WARPS` discs, each where the image has something to deform.

    Args:
        image: (S, S, 3) uint8 RGB, normal.
        rng: decides everything.

    Returns:
        The image, (S, S, 3) uint8, and the mask of what visibly changed, (S, S) uint8 of 0 and 1. The mask is empty
        where every draw changed too little, as on a blank image.
    """
    size = image.shape[0]
    least = max(1, round(MIN_MASK_FRACTION * size * size))
    close = np.ones((2 * max(1, round(size / 128)) + 1,) * 2, np.uint8)
    result, mask = image.copy(), np.zeros((size, size), np.uint8)
    for _ in range(int(rng.integers(1, MAX_WARPS + 1))):
        for _ in range(MAX_DRAWS):
            region, warped = _warp_disc(result, rng)
            visible = (cv2.absdiff(warped, result[region]).max(axis=2) > VISIBLE).astype(np.uint8)
            if np.count_nonzero(visible) >= least:
                visible = np.asarray(cv2.morphologyEx(visible, cv2.MORPH_CLOSE, close), np.uint8)
                result[region] = np.where(visible[..., None] > 0, warped, result[region])
                mask[region] |= visible
                break
    return result, mask


def _warp_disc(image: np.ndarray, rng: np.random.Generator) -> tuple[tuple[slice, slice], np.ndarray]:
    """A square around a random disc, and its pixels after the disc was deformed; its rim stays as it is."""
    size = image.shape[0]
    radius = size * math.exp(rng.uniform(math.log(RADIUS[0]), math.log(RADIUS[1])))
    side = min(size, 2 * math.ceil(radius) + 1)
    top, left = (int(rng.integers(0, size - side + 1)) for _ in range(2))
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) - (side - 1) / 2
    strength = np.clip(1 - (x * x + y * y) / radius**2, 0, 1) ** 2
    kind = rng.integers(3)
    if kind == 0:
        angle, far = rng.uniform(0, 2 * math.pi), rng.uniform(*SHIFT) * radius
        from_x, from_y = x - far * math.cos(angle) * strength, y - far * math.sin(angle) * strength
    elif kind == 1:
        turn = rng.choice([-1, 1]) * rng.uniform(*TURN) * strength
        from_x, from_y = np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y
    else:
        scale = 1 + (rng.choice(SCALE) - 1) * strength
        from_x, from_y = x * scale, y * scale
    region = slice(top, top + side), slice(left, left + side)
    warped = cv2.remap(
        np.ascontiguousarray(image[region]),
        (from_x + (side - 1) / 2).astype(np.float32),
        (from_y + (side - 1) / 2).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return region, warped
