"""Where the part is on a photograph with a plain background, so that pseudo anomalies are put on it.

NSA (Schlueter et al. 2022) and MemSeg (Yang et al. 2023) do the same with masks of their own.
"""

from __future__ import annotations

import cv2
import numpy as np

BORDER = 0.04  # share of the side that is looked at to learn the background's colour
PLAIN = 25.0  # grey levels; a border that differs more from its own median (9 of 10 pixels) is no plain background
CONTRAST = 4.0  # the part's distance from the background's colour, in spreads of the background
SMALLEST = 0.005  # share of the image; less is dust


def foreground(image: np.ndarray) -> np.ndarray:
    """
    Args:
        image: (S, S, 3) uint8 RGB.

    Returns:
        (S, S) bool: the part, with a margin and without holes; all of the image where there is no plain background that
        it stands out from, as on textures.
    """
    size = image.shape[0]
    everything = np.ones((size, size), bool)
    smooth = cv2.GaussianBlur(image, (0, 0), max(1.0, size / 256)).astype(np.float32)
    edge = max(2, round(BORDER * size))
    inner = np.zeros((size, size), bool)
    inner[edge:-edge, edge:-edge] = True
    distance = np.abs(smooth - np.median(smooth[~inner], axis=0)).max(axis=2)
    spread = float(np.quantile(distance[~inner], 0.9))
    if spread > PLAIN:
        return everything
    levels = distance.clip(0, 255).astype(np.uint8)
    _, found = cv2.threshold(levels, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    if not found.any() or distance[found > 0].mean() < CONTRAST * max(spread, 1.0):
        return everything
    found = cv2.morphologyEx(found, cv2.MORPH_CLOSE, _disc(size / 48))
    contours, _ = cv2.findContours(found, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    large = [contour for contour in contours if cv2.contourArea(contour) >= SMALLEST * size * size]
    if not large:
        return everything
    part = np.zeros((size, size), np.uint8)
    cv2.drawContours(part, large, -1, 1, cv2.FILLED)
    return cv2.dilate(part, _disc(size / 64)) > 0


def _disc(radius: float) -> np.ndarray:
    side = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
