"""Something is missing: a piece of the image gives way to what its surroundings suggest.

What the other families paste is always something more; a lost tuft, imprint or component is something less. In the
manner of Random Erasing (Zhong et al. 2020), with Telea's inpainting (2004) in place of noise.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from .cutpaste import ASPECT, jitter_colours

AREA = (0.0005, 0.02)  # of the piece, as a share of the image's, uniform in its logarithm
REACH = 3.0  # pixels around the piece that inpainting looks at, for a side of 256
NOISE = 1.5  # grey levels, of the noise that any camera would leave there
MAX_DRAWS = 10
STRUCTURE = 10.0  # mean difference in grey levels that erasing something makes; less is background


def erase(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Erases a rotated ellipse with an area in `AREA` and an aspect ratio in `cutpaste.ASPECT`.

    Of `MAX_DRAWS` places it takes the first at which something is lost, else the one that loses most.

    Args:
        image: (S, S, 3) uint8 RGB, normal.
        rng: decides everything.

    Returns:
        The image, (S, S, 3) uint8, and the mask of the erased pixels, (S, S) uint8 of 0 and 1.
    """
    size = image.shape[0]
    reach = max(1.0, REACH * size / 256)
    most = -1.0
    for _ in range(MAX_DRAWS):
        mask = _ellipse(size, rng)
        region = _around(mask, math.ceil(2 * reach))
        piece, where = image[region], mask[region] > 0
        filled = cv2.inpaint(piece, mask[region], reach, cv2.INPAINT_TELEA)
        lost = float(cv2.absdiff(filled, piece).max(axis=2)[where].mean())
        if lost > most:
            most, best = lost, (mask, region, where, filled)
        if lost >= STRUCTURE:
            break
    mask, region, where, filled = best
    noisy = jitter_colours(filled, rng) + rng.normal(0.0, NOISE, filled.shape)
    result = image.copy()
    result[region][where] = np.clip(noisy, 0.0, 255.0).round().astype(np.uint8)[where]
    return result, mask


def _ellipse(size: int, rng: np.random.Generator) -> np.ndarray:
    area = math.exp(rng.uniform(math.log(AREA[0]), math.log(AREA[1]))) * size * size
    aspect = math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
    half = math.sqrt(area * aspect / math.pi), math.sqrt(area / aspect / math.pi)
    x, y = rng.uniform(max(half), size - max(half), 2)
    mask = np.zeros((size, size), np.uint8)
    axes = max(1, round(half[0])), max(1, round(half[1]))
    cv2.ellipse(mask, (int(x), int(y)), axes, rng.uniform(0.0, 180.0), 0.0, 360.0, 1, -1)
    return mask


def _around(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    x, y, width, height = cv2.boundingRect(mask)
    return slice(max(0, y - margin), y + height + margin), slice(max(0, x - margin), x + width + margin)
