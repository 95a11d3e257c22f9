"""How large a connected region must be to count; without torch, as exported models judge with it, too."""

from __future__ import annotations

import cv2
import numpy as np

LEVELS = 12
"""Halvings of the range of values in which the level of a region is searched: to 1/4096 of it."""


def reached(values: np.ndarray, area: int) -> float:
    """The highest value that a connected region of so many positions reaches everywhere.

    That is the maximum of an area opening (Vincent, 1994): noise and specks of a few pixels do not reach it, a crack
    of one pixel's width does.

    Args:
        values: HxW float32; -inf where nothing counts.
        area: positions of the smallest region, at most H x W.

    Returns:
        The lowest value that counts, where no region is as large; 0 where nothing counts.
    """
    counting = values[values > -np.inf]
    if not counting.size:
        return 0.0
    low, high = float(counting.min()), float(counting.max())
    for _ in range(LEVELS):
        middle = (low + high) / 2
        _, _, stats, _ = cv2.connectedComponentsWithStats((values >= middle).astype(np.uint8), connectivity=8)
        if stats[1:, cv2.CC_STAT_AREA].max(initial=0) >= area:
            low = middle
        else:
            high = middle
    return low
