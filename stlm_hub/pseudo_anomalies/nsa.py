"""Natural Synthetic Anomalies (Schlüter et al. 2022): patches of another normal image, Poisson-blended."""

from __future__ import annotations

import cv2
import numpy as np

from .perlin import MIN_MASK_FRACTION

MAX_PATCHES = 3
MAX_DRAWS = 8
TOLERANCE = 8.0  # grey levels; a smaller change of the mean over the channels counts as none
SIDE_GAMMA = (2.0, 0.1)  # a patch's sides, as a share of the image's: SIDE_MIN + Gamma(shape, scale), at most SIDE_MAX
SIDE_MIN, SIDE_MAX = 0.06, 0.5
RESIZE = (0.7, 1.4)  # range of the patch's scale
MARGIN = 2  # pixels around a patch that the Poisson equation leans on
MIN_SIDE = 12  # pixels; seamlessClone shrinks a mask by 3 on every side


def nsa(image: np.ndarray, source: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Blends one to `MAX_PATCHES` resized and moved patches of `source` into `image`.

    The mask follows the change that is really there: pixels whose mean absolute difference over the channels is above
    `TOLERANCE`, with small gaps closed and specks dropped. The dropped pixels get their old value back.

    Args:
        image: (S, S, 3) uint8 RGB, normal.
        source: (S, S, 3) uint8 RGB, another normal image of the same part.
        rng: decides everything.

    Returns:
        The image, (S, S, 3) uint8, and its mask, (S, S) uint8 of 0 and 1. The mask is empty only where no draw could
        change anything, e.g. between two blank images.
    """
    size = image.shape[0]
    least = max(1, round(MIN_MASK_FRACTION * size * size))
    for _ in range(MAX_DRAWS):
        result = image
        for _ in range(int(rng.integers(1, MAX_PATCHES + 1))):
            result = _blend_patch(result, source, rng)
        changed = cv2.absdiff(result, image).mean(axis=2) > TOLERANCE
        closed = cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
        mask = np.asarray(cv2.medianBlur(closed, 5), np.uint8)
        if np.count_nonzero(mask) >= least:
            stray = changed & (cv2.dilate(mask, np.ones((5, 5), np.uint8)) == 0)
            return np.where(stray[..., None], image, result), mask
    return image.copy(), np.zeros((size, size), np.uint8)


def _blend_patch(image: np.ndarray, source: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    size = image.shape[0]
    height, width = (_side(size, rng) for _ in range(2))
    top, left = rng.integers(0, size - height + 1), rng.integers(0, size - width + 1)
    patch = source[top : top + height, left : left + width]
    scale = rng.uniform(*RESIZE)
    height, width = (int(np.clip(round(side * scale), MIN_SIDE, size)) for side in (height, width))
    patch = cv2.resize(patch, (width, height), interpolation=cv2.INTER_LINEAR)
    return poisson_blend(
        image,
        patch,
        _patch_mask(height, width, rng),
        top=int(rng.integers(0, size - height + 1)),
        left=int(rng.integers(0, size - width + 1)),
        mixed=bool(rng.random() < 0.5),
    )


def _side(size: int, rng: np.random.Generator) -> int:
    share = min(SIDE_MIN + rng.gamma(*SIDE_GAMMA), SIDE_MAX)
    return min(max(round(share * size), MIN_SIDE), size)


def _patch_mask(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """All of the patch or its inscribed ellipse, (height, width) uint8 of 0 and 255."""
    if rng.random() < 0.5:
        return np.full((height, width), 255, np.uint8)
    mask = np.zeros((height, width), np.uint8)
    centre = ((width - 1) / 2, (height - 1) / 2)
    cv2.ellipse(mask, (centre, (float(width), float(height)), 0.0), 255, -1)
    return mask


def poisson_blend(
    image: np.ndarray, patch: np.ndarray, mask: np.ndarray, *, top: int, left: int, mixed: bool
) -> np.ndarray:
    """Poisson image editing (Perez et al. 2003) of a patch that may touch the image's border.

    Args:
        image: (H, W, 3) uint8.
        patch: (h, w, 3) uint8, at least MIN_SIDE on each side.
        mask: (h, w) uint8, above 0 where the patch is wanted.
        top: row of the image at which the patch's first row lies; the patch must fit into the image.
        left: the same for columns.
        mixed: keep the stronger of both gradients instead of the patch's.

    Returns:
        (H, W, 3) uint8, changed inside the patch's rectangle only.
    """
    height, width = mask.shape
    # A window with a reflected margin: the equation always has a border to lean on, and stays as small as the patch.
    margins = (MARGIN, MARGIN, MARGIN, MARGIN)
    padded = cv2.copyMakeBorder(image, *margins, cv2.BORDER_REFLECT_101)
    window = padded[top : top + height + 2 * MARGIN, left : left + width + 2 * MARGIN].copy()
    patch = cv2.copyMakeBorder(patch, *margins, cv2.BORDER_REFLECT_101)
    mask = cv2.copyMakeBorder(mask, *margins, cv2.BORDER_CONSTANT, value=0)
    x, y, w, h = cv2.boundingRect(mask)
    method = cv2.MIXED_CLONE if mixed else cv2.NORMAL_CLONE
    blended = cv2.seamlessClone(patch, window, mask, (x + w // 2, y + h // 2), method)
    result: np.ndarray = image.copy()
    inner = slice(MARGIN, -MARGIN)
    result[top : top + height, left : left + width] = blended[inner, inner]
    return result
