"""The minimum area of a defect. No torch here: exported models use it too."""

from __future__ import annotations

import cv2
import numpy as np

LEVELS = 12
"""Steps of the bisection in `reached`: the result is exact to 1/4096 of the range of values."""


def reached(values: np.ndarray, area: int) -> float:
    """The highest level at which a connected region of at least `area` pixels lies.

    That is the maximum of an area opening (Vincent, 1994). Noise and specks of a few pixels do not raise it; a crack
    one pixel wide does.

    Args:
        values: HxW float32; -inf outside the region that counts.
        area: pixels of the smallest region, at most H x W.

    Returns:
        The level; the lowest finite value if no region is large enough, 0 if no value is finite.
    """
    inside = values[values > -np.inf]
    if not inside.size:
        return 0.0
    low, high = float(inside.min()), float(inside.max())
    for _ in range(LEVELS):
        middle = (low + high) / 2
        _, _, stats, _ = cv2.connectedComponentsWithStats((values >= middle).astype(np.uint8), connectivity=8)
        if stats[1:, cv2.CC_STAT_AREA].max(initial=0) >= area:
            low = middle
        else:
            high = middle
    return low
