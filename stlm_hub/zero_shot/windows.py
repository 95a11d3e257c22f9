"""Where SAM looks: its scale was learnt on 1024 px, so it sees small photographs enlarged and small defects cropped."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from ..models.sam import SAM_SIDE

AROUND = 4.0
"""Side of a crop, in longer sides of the region in it: enough of the surface around it for SAM to compare."""
SMALLEST = 1 / 4
"""Least side of a crop, as a share of the photograph's longer side: closer, SAM sees noise and compression."""
MOST_REGIONS = 4
"""Regions of one photograph that are refined, the highest first; each crop costs a pass of SAM's encoder."""
SMALLEST_AREA = 6
"""Regions of fewer pixels, counted at 256 px on the longer side, are left as they are."""


class Region(NamedTuple):
    """A connected part of S_a: its box in pixels, its number in `labels`, and the highest value of the map in it."""

    top: int
    left: int
    height: int
    width: int
    label: int
    peak: float


class Window(NamedTuple):
    """A part of a photograph, in its pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, array: np.ndarray) -> np.ndarray:
        """The window's part of an HxW... array, not copied."""
        return array[self.top : self.top + self.height, self.left : self.left + self.width]


def regions_of(anomaly_map: np.ndarray, extreme: np.ndarray) -> tuple[np.ndarray, list[Region]]:
    """Connected parts of S_a that are worth a look, the highest first.

    Args:
        anomaly_map: HxW float.
        extreme: HxW bool, S_a.

    Returns:
        HxW int, the number of each pixel's part, 0 for none; and at most `MOST_REGIONS` of them.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(extreme.astype(np.uint8), connectivity=8)
    smallest = SMALLEST_AREA * (max(extreme.shape) / 256) ** 2
    found = []
    for label in range(1, count):
        left, top, width, height, area = (int(value) for value in stats[label])
        if area < smallest:
            continue
        inside = np.s_[top : top + height, left : left + width]
        peak = float(anomaly_map[inside][labels[inside] == label].max())
        found.append(Region(top, left, height, width, label, peak))
    return labels, sorted(found, key=lambda region: -region.peak)[:MOST_REGIONS]


def window_around(region: Region, shape: tuple[int, int]) -> Window:
    """The square crop that shows a region at SAM's scale, moved into the photograph; the whole of it for a large one.

    Args:
        region: in the photograph.
        shape: height and width of the photograph.
    """
    side = round(max(AROUND * max(region.height, region.width), SMALLEST * max(shape)))
    starts, sides = [], []
    for start, length, whole in ((region.top, region.height, shape[0]), (region.left, region.width, shape[1])):
        sides.append(min(side, whole))
        starts.append(min(max(0, start + length // 2 - sides[-1] // 2), whole - sides[-1]))
    if max(sides) > 0.75 * max(shape):
        return Window(0, 0, *shape)
    return Window(starts[0], starts[1], sides[0], sides[1])


def at_sams_scale(image: np.ndarray) -> np.ndarray:
    """HxWx3 -> the same, with a longer side of at most 1024 px; SAM itself enlarges what is smaller."""
    return limited(image, SAM_SIDE)


def limited(array: np.ndarray, longest: int) -> np.ndarray:
    """HxW or HxWx3 -> the same, shrunk by area means where its longer side is above `longest`."""
    height, width = array.shape[:2]
    if max(height, width) <= longest:
        return array
    factor = longest / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return cv2.resize(array, size, interpolation=cv2.INTER_AREA)
