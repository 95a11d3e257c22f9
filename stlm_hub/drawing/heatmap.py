"""An anomaly map as a heatmap on an absolute colour scale, and the outline of a mask.

A colour always means the same thing: the scale depends on the threshold alone, never on the values of one photograph.
So a normal part looks calm, and the pictures of one model can be compared. Values below the threshold are blue to
slate, values at or above it orange to yellow. Lightness never falls as the value rises and steps up at the threshold,
so the heatmap can be read with every common colour blindness and in a grey print.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..errors import ConfigError, ImageError
from .log_odds import log_odds

SPAN = 1.25
"""Log-odds from the threshold to either end of the colour scale: 3.5 times fewer or more limits, see `Prediction`."""

_CALM = ((10, 30, 70), (32, 72, 128), (92, 116, 142))  # RGB, far below the threshold ... just below it
_HOT = ((240, 110, 20), (252, 166, 32), (255, 230, 90))  # RGB, at the threshold ... far above it
_OUTLINE_BRIGHT, _OUTLINE_DARK = (255, 226, 60), (15, 15, 25)
GROUND_TRUTH_COLOUR = (90, 235, 255)
"""Outline colour of the ground-truth mask: lighter and greener than any blue of the scale."""


def _colour_table() -> np.ndarray:
    """RGB of the scale, 256x3 float32: entries 0-127 are below the threshold, 128-255 at or above it."""
    steps = np.linspace(0, 2, 128)
    halves = [np.stack([np.interp(steps, range(3), c) for c in zip(*ends, strict=True)], 1) for ends in (_CALM, _HOT)]
    return np.concatenate(halves).astype(np.float32)


def _opacity_table() -> np.ndarray:
    """Opacity of the scale's entries, 256 float32 in [0, 1]: 0 far below the threshold, 1 far above it."""
    below = 0.55 * np.linspace(0, 1, 128) ** 2
    above = np.linspace(0.8, 1, 128)
    return np.concatenate([below, above]).astype(np.float32)


COLOURS = _colour_table()
"""The colour scale, 256x3 float32 RGB; the threshold lies between entries 127 and 128."""

_OPACITY = _opacity_table()


def overlay(image: np.ndarray, anomaly_map: np.ndarray, threshold: float, strength: float = 0.6) -> np.ndarray:
    """Draws the heatmap over the photograph. Where the map is far below the threshold, the photograph is unchanged.

    Args:
        image: HxWx3 uint8 RGB.
        anomaly_map: HxW float in [0, 1].
        threshold: the model's threshold, in [0, 1].
        strength: opacity at the top of the colour scale, in [0, 1].

    Returns:
        HxWx3 uint8 RGB.

    Raises:
        ImageError: image or map has another shape, type or range, or they differ in size.
        ConfigError: threshold or strength is not in [0, 1].
    """
    check_rgb_image(image)
    check_same_size(image, anomaly_map, "anomaly map")
    check_anomaly_map(anomaly_map)
    _check_fraction("strength", strength)
    index = _scale_index(anomaly_map, threshold)
    opacity = (strength * _OPACITY)[index][..., None]
    blend: np.ndarray = COLOURS[index]
    blend -= image
    blend *= opacity
    blend += image
    blended: np.ndarray = np.rint(blend, out=blend).astype(np.uint8)
    return blended


def draw_contour(image: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int] = _OUTLINE_BRIGHT) -> np.ndarray:
    """Draws an outline around each region of a mask: a bright line next to it and a dark line around that.

    The lines lie outside the mask, so they never cover a defect, however small. Only at the edge of the photograph they
    turn inwards. The width of each line is 1/200 of the geometric mean of the sides, at least one pixel.

    Args:
        image: HxWx3 uint8 RGB.
        mask: HxW bool, True where anomalous.
        colour: RGB of the bright line.

    Returns:
        HxWx3 uint8 RGB, a copy.

    Raises:
        ImageError: image or mask has another shape or type, or they differ in size.
    """
    check_rgb_image(image)
    check_same_size(image, mask, "mask")
    if mask.dtype != np.bool_:
        raise ImageError(f"The mask is of {mask.dtype}; pass a bool array, for example anomaly_map >= threshold.")
    result: np.ndarray = image.copy()
    if not mask.any():
        return result
    height, width = mask.shape
    line = max(1, round((height * width) ** 0.5 / 200))
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)  # 0 in the mask
    rows, columns = np.arange(height), np.arange(width)
    edge = np.minimum.outer(np.minimum(rows, rows[::-1]), np.minimum(columns, columns[::-1])) + 1  # 1 on the edge
    distance = np.where(mask, edge, outside)
    result[distance < 2 * line + 0.5] = _OUTLINE_DARK
    result[distance < line + 0.5] = colour
    return result


def resize_map(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scales an HxW float32 map to `size`, (width, height), for display.

    A map that shrinks keeps the highest value under each new pixel, so that a small defect does not fade. A map that
    grows in height or width is interpolated.
    """
    (height, width), (columns, rows) = values.shape, size
    if height < rows or width < columns:
        return cv2.resize(values, size, interpolation=cv2.INTER_LINEAR)
    highest = np.maximum.reduceat(values, np.arange(rows) * height // rows, axis=0)
    return np.maximum.reduceat(highest, np.arange(columns) * width // columns, axis=1)


def distinct(values: list[float], digits: int = 3) -> list[str]:
    """Numbers as texts with just enough digits that different numbers look different.

    A score then never looks equal to its threshold. `digits` is the lowest number of significant digits; 9 the highest.
    """
    while True:
        texts = [f"{value:.{digits}g}" for value in values]
        if len(set(texts)) == len(set(values)) or digits == 9:
            return texts
        digits += 1


def _scale_index(anomaly_map: np.ndarray, threshold: float) -> np.ndarray:
    """Entry of the colour table for each pixel, HxW: 0-127 below the threshold, 128-255 at or above it.

    A value's place on the colour scale is its distance from the threshold in log-odds, cut at `SPAN` on either side.
    Thresholds may be very small or close to 1, where a scale that is linear in probability would show one flat colour;
    in log-odds, ten times the threshold looks the same at 0.001 as at 0.1.
    """
    _check_fraction("threshold", threshold)
    distance = np.minimum(np.abs(log_odds(anomaly_map) - float(log_odds(threshold))) / SPAN, 1)
    steps = np.rint(127 * distance).astype(np.uint8)
    index: np.ndarray = np.where(anomaly_map >= threshold, 128 + steps, 127 - steps)
    return index


def check_rgb_image(image: np.ndarray) -> None:
    """
    Raises:
        ImageError: the image is not HxWx3 uint8.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ImageError(f"The image is {image.shape} {image.dtype}; pass HxWx3 uint8 RGB, as load_image returns it.")


def check_same_size(image: np.ndarray, other: np.ndarray, name: str) -> None:
    """
    Raises:
        ImageError: `other`, called `name` in the message, is not HxW for an image of HxWx3.
    """
    if other.shape != image.shape[:2]:
        raise ImageError(
            f"The {name} is {other.shape}, the image {image.shape[:2]}; both need the same height and width."
        )


def check_anomaly_map(anomaly_map: np.ndarray) -> None:
    """
    Raises:
        ImageError: the map is not HxW float with values in [0, 1].
    """
    if anomaly_map.ndim != 2 or anomaly_map.size == 0 or anomaly_map.dtype.kind != "f":
        raise ImageError(f"The anomaly map is {anomaly_map.shape} {anomaly_map.dtype}; pass an HxW float array.")
    if not (anomaly_map.min() >= 0 and anomaly_map.max() <= 1):  # NaN compares False
        raise ImageError("The anomaly map has values outside [0, 1]; pass probabilities, not logits or scaled values.")


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} must be a number from 0 to 1, not {value!r:.60}.")
