"""How well one outline agrees with the true one: F1, IoU and boundary F of two masks."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from stlm_hub.calibration.outlines import f1

TOLERANCE = 0.0075
"""Distance up to which two boundaries meet, as a share of the photograph's diagonal: that of DAVIS (Perazzi et al.,
CVPR 2016) is 0.008. At least one pixel."""


class Agreement(NamedTuple):
    """Of a found mask with the true one, each in [0, 1]."""

    f1: float
    iou: float
    boundary_f: float


def agreement(found: np.ndarray, truth: np.ndarray) -> Agreement:
    """
    Args:
        found: HxW bool; where nothing is found, all figures are 0.
        truth: HxW bool, not empty.
    """
    both = int((found & truth).sum())
    return Agreement(f1(found, truth), both / max(1, int((found | truth).sum())), boundary_f(found, truth))


def boundary_f(found: np.ndarray, truth: np.ndarray) -> float:
    """F of the boundaries: HxW bool each -> [0, 1]. Precision and recall count pixels within `TOLERANCE`."""
    first, second = boundary(found), boundary(truth)
    if not first.any() or not second.any():
        return 0.0
    radius = max(1.0, TOLERANCE * float(np.hypot(*truth.shape)))
    precision, recall = _near(first, second, radius), _near(second, first, radius)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(mask: np.ndarray) -> np.ndarray:
    """HxW bool -> HxW bool: pixels of the mask that touch one outside it, the photograph's border included."""
    padded = np.pad(mask.astype(np.uint8), 1)
    inner = cv2.erode(padded, np.ones((3, 3), np.uint8))[1:-1, 1:-1] > 0
    return mask & ~inner


def _near(boundary: np.ndarray, other: np.ndarray, radius: float) -> float:
    """Share of one boundary's pixels that the other is near to."""
    away = cv2.distanceTransform((~other).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float((away[boundary] <= radius).mean())
