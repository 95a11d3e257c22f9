"""CutPaste (Li et al. 2021): a piece of the image, with its colours jittered, pasted somewhere else on the image."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

AREA = (0.02, 0.15)  # of a patch, as a share of the image's
ASPECT = (0.3, 3.3)  # of a patch, width by height
SCAR_WIDTH = (2.0, 16.0)  # pixels of an image with a side of 256
SCAR_LENGTH = (10.0, 25.0)
SCAR_ROTATION = 45.0  # degrees to either side
JITTER = 0.1  # brightness, contrast and saturation by up to this share, hue by up to this share of the circle
MAX_DRAWS = 10
VISIBLE = 3  # grey levels


def cutpaste_patch(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pastes an upright rectangle with an area in `AREA` and an aspect ratio in `ASPECT`.

    Args:
        image: (S, S, 3) uint8 RGB, normal.
        rng: decides everything.

    Returns:
        The image, (S, S, 3) uint8, and the mask of the pasted pixels, (S, S) uint8 of 0 and 1.
    """
    size = image.shape[0]

    def draw() -> tuple[np.ndarray, np.ndarray]:
        area = rng.uniform(*AREA) * size * size
        aspect = math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        height, width = max(1, round(math.sqrt(area / aspect))), max(1, round(math.sqrt(area * aspect)))
        return _cut(image, height, width, rng), np.ones((height, width), np.uint8)

    return _paste_visibly(image, draw, rng)


def cutpaste_scar(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pastes a thin rotated rectangle, `SCAR_WIDTH` by `SCAR_LENGTH` scaled with the image. See `cutpaste_patch`."""
    scale = image.shape[0] / 256.0

    def draw() -> tuple[np.ndarray, np.ndarray]:
        width = max(2, round(rng.uniform(*SCAR_WIDTH) * scale))
        length = max(4, round(rng.uniform(*SCAR_LENGTH) * scale))
        piece = _cut(image, length, width, rng)
        side = math.ceil(math.hypot(length, width)) + 2
        matrix = cv2.getRotationMatrix2D(
            ((width - 1) / 2, (length - 1) / 2), rng.uniform(-SCAR_ROTATION, SCAR_ROTATION), 1.0
        )
        matrix[:, 2] += (side - width) / 2, (side - length) / 2
        turned = cv2.warpAffine(piece, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)
        where = cv2.warpAffine(np.ones((length, width), np.uint8), matrix, (side, side), flags=cv2.INTER_NEAREST)
        x, y, w, h = cv2.boundingRect(where)
        return turned[y : y + h, x : x + w], where[y : y + h, x : x + w]

    return _paste_visibly(image, draw, rng)


def cutpaste_union(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """`cutpaste_patch` or `cutpaste_scar`, each half of the time."""
    return cutpaste_patch(image, rng) if rng.random() < 0.5 else cutpaste_scar(image, rng)


def _paste_visibly(
    image: np.ndarray, draw: Callable[[], tuple[np.ndarray, np.ndarray]], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Pastes what `draw` cuts at a random place, again while most of it looks like what it covers (background)."""
    size = image.shape[0]
    for _ in range(MAX_DRAWS):
        piece, where = draw()
        height, width = where.shape
        top, left = int(rng.integers(0, size - height + 1)), int(rng.integers(0, size - width + 1))
        region = (slice(top, top + height), slice(left, left + width))
        pasted = where > 0
        difference = cv2.absdiff(piece, image[region]).max(axis=2)
        if (difference[pasted] > VISIBLE).mean() > 0.5:
            break
    result, mask = image.copy(), np.zeros((size, size), np.uint8)
    result[region][pasted] = piece[pasted]
    mask[region] = where
    return result, mask


def _cut(image: np.ndarray, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A random piece of the image, (height, width, 3), with its colours jittered."""
    size = image.shape[0]
    top, left = rng.integers(0, size - height + 1), rng.integers(0, size - width + 1)
    return jitter_colours(image[top : top + height, left : left + width], rng)


def jitter_colours(piece: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Changes brightness, contrast, saturation and hue of (h, w, 3) uint8 RGB by up to `JITTER` each."""
    brightness, contrast, saturation = rng.uniform(1.0 - JITTER, 1.0 + JITTER, 3)
    values = piece.astype(np.float32) * brightness
    values = values.mean() + (values - values.mean()) * contrast
    grey = values.mean(axis=2, keepdims=True)
    values = np.clip(grey + (values - grey) * saturation, 0.0, 255.0)
    hsv = cv2.cvtColor(values.astype(np.float32) / 255.0, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + 360.0 * rng.uniform(-JITTER, JITTER)) % 360.0
    jittered: np.ndarray = np.clip(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255.0, 0.0, 255.0).round().astype(np.uint8)
    return jittered
