"""Co-feature point prompt generation, PPG: an anomaly map and SAM's features -> points inside and outside a defect.

Hou et al., arXiv 2510.11028, equations 1 to 7. Positive points alone make SAM segment the whole part; negatives next to
the defect, where the surface looks least like it, keep SAM at the defect.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

K_POINTS = 4
"""Points of each kind; fewer where there is no room."""
RING = 0.35
"""Width of the ring around a region, as a share of the region's longer side."""
MIN_RING = 3
"""And at least this many pixels of the map."""
SPACING = 1 / 64
"""Least distance of two points of one kind, as a share of the longer side: a cell of SAM's embedding."""


@dataclass(frozen=True, eq=False)  # arrays have no single answer to ==
class PointPrompts:
    """Points for SAM, in pixels of the map, the best first.

    Args:
        positive: Px2 int (x, y), inside the extreme region: P_h.
        negative: Nx2 int (x, y), in the ring around it: P_l. Empty where the region fills the map.
    """

    positive: np.ndarray
    negative: np.ndarray

    @property
    def points(self) -> np.ndarray:
        """(P+N)x2 float, the positive ones first."""
        return np.concatenate([self.positive, self.negative]).astype(float)

    @property
    def labels(self) -> np.ndarray:
        """P+N int: 1 for positive, 0 for negative."""
        return np.repeat([1, 0], [len(self.positive), len(self.negative)])


def extreme_region(anomaly_map: np.ndarray, threshold: float) -> np.ndarray:
    """Equation 1, S_a: HxW float -> HxW bool, where the map reaches the threshold."""
    return anomaly_map >= threshold


def ring_around(region: np.ndarray) -> np.ndarray:
    """Equation 3, N_a = dilate(S_a) - S_a: HxW bool -> HxW bool. The ring's width follows the region's size."""
    radius = ring_radius(region)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    ring: np.ndarray = (cv2.dilate(region.astype(np.uint8), kernel) > 0) & ~region
    return ring


def ring_radius(region: np.ndarray) -> int:
    """Width of the ring in pixels; `MIN_RING` for an empty region."""
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    if not len(rows):
        return MIN_RING
    return max(MIN_RING, round(RING * (1 + max(int(np.ptp(rows)), int(np.ptp(columns))))))


def similarity_to(region: np.ndarray, ring: np.ndarray, features: Tensor) -> np.ndarray:
    """Equations 4 to 6: how much each place of the ring looks to SAM like the region.

    Args:
        region, ring: HxW bool, S_a and N_a.
        features: Cxhxw, SAM's embedding F of the same frame, of any grid.

    Returns:
        HxW float32: the mean cosine similarity of the place's features, F * N_a, to those of all places of the region,
        F * S_a; NaN outside the ring.
    """
    whole = F.interpolate(features[None].float().cpu(), size=region.shape, mode="bilinear", align_corners=False)[0]
    # The mean of cosines to many vectors is the product with the mean of their directions.
    directions = F.normalize(whole[:, torch.from_numpy(region)], dim=0).mean(1)
    outside = F.normalize(whole[:, torch.from_numpy(ring)], dim=0)
    result = np.full(region.shape, np.nan, np.float32)
    result[ring] = (directions @ outside).numpy()
    return result


def point_prompts(
    anomaly_map: np.ndarray, region: np.ndarray, features: Tensor, *, k: int = K_POINTS, avoid: np.ndarray | None = None
) -> PointPrompts:
    """Positive and negative points for one region.

    Args:
        anomaly_map: HxW float.
        region: HxW bool, S_a or a connected part of it, not empty.
        features: Cxhxw, SAM's embedding of the same frame.
        k: points of each kind.
        avoid: HxW bool, places that are no negatives: other regions, which may be defects as well.

    Returns:
        Equation 2, P_h: the k highest places of R_a, the map within S_a. Equation 7, P_l: the k places of the ring
        that look least like the region. Points of one kind keep `SPACING`, for the highest k pixels of a smooth map
        are neighbours and say one thing k times.
    """
    ring = ring_around(region)
    if avoid is not None:
        ring &= ~avoid
    positive = _best(np.where(region, anomaly_map, np.nan), k)
    if not ring.any():
        return PointPrompts(positive, np.empty((0, 2), int))
    return PointPrompts(positive, _best(-similarity_to(region, ring, features), k))


def _best(values: np.ndarray, k: int) -> np.ndarray:
    """(x, y) of the k highest values that are no NaN, highest first, none closer than `SPACING` to one before: Nx2."""
    left = np.where(np.isnan(values), -np.inf, values)
    spacing = max(1, round(SPACING * max(values.shape)))
    found: list[tuple[int, int]] = []
    while len(found) < k and np.isfinite(left.max()):
        row, column = np.unravel_index(int(left.argmax()), left.shape)
        found.append((int(column), int(row)))
        left[max(0, row - spacing) : row + spacing + 1, max(0, column - spacing) : column + spacing + 1] = -np.inf
    return np.array(found, int).reshape(-1, 2)
