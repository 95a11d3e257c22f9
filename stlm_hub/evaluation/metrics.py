"""Anomaly scores, maps and masks -> image-level and pixel-level AUROC, AUPRO, AP, F1-max and FNR.

Pixel-level metrics are exact, not binned, and cost one sort of the normal pixels. As the threshold falls, a curve bends
only at values of anomalous pixels: between two of them it adds nothing but false positives. So for each distinct value
of the anomalous pixels it is enough to count the normal pixels above it and those equal to it. Equal values make a
slanted piece of the curve, which counts a tie as one half, as the Mann-Whitney statistic does.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from sklearn.metrics import auc, roc_auc_score

from ..errors import DataError
from ..model_folder.figures import MapFigures

MAX_CURVE_POINTS = 200
"""Most points of a curve in results.json."""

_STRAIGHT = 1e-9  # twice the area of the triangle below which a curve counts as straight
_SLACK = 1e-6  # values this far outside [0, 1] come from rounding in an interpolation


def compute_metrics(
    scores: Sequence[float] | np.ndarray,
    labels: Sequence[int] | np.ndarray,
    maps: Sequence[np.ndarray],
    masks: Sequence[np.ndarray] | None,
    *,
    threshold: float | None,
    fpr_limit: float = 0.3,
) -> MapFigures:
    """Compares predictions with the ground truth.

    Args:
        scores: anomaly score of each image, in [0, 1].
        labels: label of each image, 0 (normal) or 1 (anomalous).
        maps: anomaly map of each image, HxW float in [0, 1]. Images may differ in size.
        masks: ground-truth mask of each image, bool of the map's shape, True where the defect is. Regions are connected
            over edges and corners (8-neighbourhood), as in MVTec's evaluation code. None: there are none, and no
            figures of pixels.
        threshold: an image is judged anomalous if its score is >= the threshold. Only `fnr` needs it.
        fpr_limit: highest false-positive rate of the AUPRO integral, in (0, 1]. The rate counts the normal pixels of
            all images, anomalous ones included.

    Raises:
        DataError: lengths or shapes do not fit, a value is NaN or out of range, or the mask of a normal image is not
            empty.
    """
    truth = np.asarray(labels)
    values = np.asarray(scores, dtype=np.float64)
    _check_fractions("The anomaly scores", values)
    _check_labels(values, truth)
    if threshold is not None and not 0 <= threshold <= 1:
        raise DataError(f"The threshold must be a number from 0 to 1, not {threshold!r}.")
    if len(maps) != len(values):
        raise DataError(f"There are {len(values)} scores, but {len(maps)} maps; each image needs one of each.")
    anomalous = truth == 1
    both = bool(anomalous.any() and not anomalous.all())
    images = MapFigures(
        i_auroc=float(roc_auc_score(anomalous, values)) if both else None,
        fnr=float(np.mean(values[anomalous] < threshold)) if anomalous.any() and threshold is not None else None,
    )
    if masks is None:
        return images
    counts = _count_pixels(maps, masks, fpr_limit)
    for index, (mask, label) in enumerate(zip(masks, truth, strict=True)):
        if not label and mask.any():
            raise DataError(f"Image {index} is labelled normal, but its mask marks a defect; correct one of them.")
    fpr, recall, overlap = counts.curve()
    return dataclasses.replace(
        images,
        p_auroc=float(auc(fpr, recall)) if len(fpr) else None,
        aupro=float(auc(*_up_to(fpr, overlap, fpr_limit)) / fpr_limit) if len(fpr) else None,
        ap=counts.average_precision(),
        f1_max=counts.f1_max(),
    )


def average_precision(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> float | None:
    """Average precision of the pixels alone, also for a single image. Arguments and errors: see `compute_metrics`."""
    return _count_pixels(maps, masks, 1.0).average_precision()


def roc_points(scores: np.ndarray, labels: np.ndarray) -> dict[str, list[float]]:
    """ROC curve of images or pixels, for plots.

    Args:
        scores: N values in [0, 1].
        labels: N labels, 0 or False for normal, 1 or True for anomalous.

    Returns:
        "fpr" and "tpr": up to 200 points from (0, 0) to (1, 1), rounded to 5 digits. Both are empty where all labels
        are equal.

    Raises:
        DataError: lengths do not fit, or a value is NaN or out of range.
    """
    values, truth = np.asarray(scores), np.asarray(labels)
    _check_fractions("The anomaly scores", values)
    _check_labels(values, truth)
    anomalous = truth.astype(bool)
    fpr, tpr, _ = _Counts.of(values[anomalous], values[~anomalous]).curve()
    return _thinned("tpr", fpr, tpr)


def pro_points(
    maps: Sequence[np.ndarray], masks: Sequence[np.ndarray], fpr_limit: float = 0.3
) -> dict[str, list[float]]:
    """Per-region overlap curve, for plots. Arguments and errors: see `compute_metrics`.

    Returns:
        "fpr" and "pro": up to 200 points from FPR 0 to `fpr_limit`, rounded to 5 digits. Both are empty where normal or
        anomalous pixels are missing.
    """
    fpr, _, overlap = _count_pixels(maps, masks, fpr_limit).curve()
    return _thinned("pro", *_up_to(fpr, overlap, fpr_limit))


@dataclass(frozen=True)
class _Counts:
    """Counts at each of the K distinct values of the positives, from the highest value to the lowest.

    Args:
        true_positives: positives at or above the value.
        overlap: sum of their weights.
        false_above: negatives above the value.
        false_positives: negatives at or above the value.
        negatives: number of all negatives.
    """

    true_positives: np.ndarray
    overlap: np.ndarray
    false_above: np.ndarray
    false_positives: np.ndarray
    negatives: int

    @classmethod
    def of(cls, positives: np.ndarray, negatives: np.ndarray, weights: np.ndarray | None = None) -> _Counts:
        """Counts flat arrays of values. Sorts `negatives` in place.

        Args:
            positives: values of the anomalous pixels or images.
            negatives: values of the normal ones.
            weights: one weight for each positive; 1 by default.
        """
        order = np.argsort(positives)[::-1]
        falling = positives[order]
        last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True)) if len(falling) else order
        true_positives = last + 1
        negatives.sort()
        return cls(
            true_positives=true_positives,
            overlap=true_positives if weights is None else np.cumsum(weights[order])[last],
            false_above=len(negatives) - np.searchsorted(negatives, falling[last], side="right"),
            false_positives=len(negatives) - np.searchsorted(negatives, falling[last], side="left"),
            negatives=len(negatives),
        )

    def curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """False-positive rate, recall and overlap at the 2K + 2 bends of the curves, all from 0 to 1.

        All are empty where positives or negatives are missing.
        """
        if not len(self.true_positives) or not self.negatives:
            return np.empty(0), np.empty(0), np.empty(0)
        fpr = np.empty(2 * len(self.true_positives) + 2)
        fpr[1:-1:2], fpr[2:-1:2] = self.false_above / self.negatives, self.false_positives / self.negatives
        fpr[0], fpr[-1] = 0, 1
        recall, overlap = (np.repeat(np.append(0, y / y[-1]), 2) for y in (self.true_positives, self.overlap))
        return fpr, recall, overlap

    def average_precision(self) -> float | None:
        """Sum of (R_n - R_{n-1}) P_n over recall R and precision P; None without positives."""
        if not len(self.true_positives):
            return None
        gained = np.diff(self.true_positives, prepend=0)
        precision = self.true_positives / (self.true_positives + self.false_positives)
        return float(np.sum(gained * precision) / self.true_positives[-1])

    def f1_max(self) -> float | None:
        """Highest F1 over all thresholds, 2 TP / (P + TP + FP); None without positives."""
        if not len(self.true_positives):
            return None
        positives = self.true_positives[-1]
        return float(np.max(2 * self.true_positives / (positives + self.true_positives + self.false_positives)))


def _count_pixels(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray], fpr_limit: float) -> _Counts:
    """Counts over the pixels of all images. The weights give each region of a mask a sum of 1.

    Raises:
        DataError: see `compute_metrics`.
    """
    if not 0 < fpr_limit <= 1:
        raise DataError(f"The limit of the false-positive rate must lie above 0 and not above 1, not {fpr_limit!r}.")
    if len(maps) != len(masks) or not len(maps):
        raise DataError(f"There are {len(maps)} maps and {len(masks)} masks; evaluation needs one mask for each map.")
    for index, (values, mask) in enumerate(zip(maps, masks, strict=True)):
        _check_map_and_mask(index, values, mask)
    normal = np.empty(sum(int((~mask).sum()) for mask in masks), np.result_type(*{values.dtype for values in maps}))
    filled = 0
    anomalous, weights = [], []
    for values, mask in zip(maps, masks, strict=True):
        rest = values[~mask]
        normal[filled : filled + len(rest)] = rest
        filled += len(rest)
        anomalous.append(values[mask])
        _, regions = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        inside = regions[mask]
        weights.append(1 / np.bincount(inside)[inside])  # every region has the same weight, whatever its size
    return _Counts.of(np.concatenate(anomalous), normal, np.concatenate(weights))


def _up_to(fpr: np.ndarray, y: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """The part of a curve with fpr <= limit. It ends in an interpolated point at the limit."""
    inside = fpr <= limit
    if not len(fpr) or fpr[inside][-1] == limit:
        return fpr[inside], y[inside]
    return np.append(fpr[inside], limit), np.append(y[inside], np.interp(limit, fpr, y))


def _thinned(name: str, fpr: np.ndarray, y: np.ndarray) -> dict[str, list[float]]:
    """A curve with at most `MAX_CURVE_POINTS` points, under the keys "fpr" and `name`.

    It starts as the line between the two ends. Then the point is added that forms the largest triangle with its
    neighbours on the line so far, again and again, until the points are used up or the rest lies on the line.
    """
    if not len(fpr):
        return {"fpr": [], name: []}

    def largest_triangle(first: int, last: int) -> tuple[float, int, int, int]:
        """Minus twice its area, the index of its middle point, and its ends; the largest comes first in a heap."""
        run, rise = fpr[first : last + 1] - fpr[first], y[first : last + 1] - y[first]
        areas = np.abs(run[-1] * rise - rise[-1] * run)
        best = int(areas.argmax())
        return -float(areas[best]), first + best, first, last

    kept = [0, len(fpr) - 1]
    pieces = [largest_triangle(*kept)]
    while len(kept) < MAX_CURVE_POINTS and pieces[0][0] < -_STRAIGHT:
        _, middle, first, last = heapq.heappop(pieces)
        kept.append(middle)
        heapq.heappush(pieces, largest_triangle(first, middle))
        heapq.heappush(pieces, largest_triangle(middle, last))
    kept.sort()
    return {"fpr": fpr[kept].round(5).tolist(), name: y[kept].round(5).tolist()}


def _check_fractions(name: str, values: np.ndarray) -> None:
    if values.size and not (values.min() >= -_SLACK and values.max() <= 1 + _SLACK):  # NaN compares False
        raise DataError(f"{name} must be numbers from 0 to 1; the model is broken, train it again.")


def _check_labels(values: np.ndarray, labels: np.ndarray) -> None:
    if values.ndim != 1 or labels.shape != values.shape or not len(values):
        raise DataError(
            f"Scores have the shape {values.shape}, labels {labels.shape}; both must be one list of the same length."
        )
    if labels.dtype != bool and not np.isin(labels, (0, 1)).all():
        raise DataError("Labels must be 0 (normal) or 1 (anomalous).")


def _check_map_and_mask(index: int, values: np.ndarray, mask: np.ndarray) -> None:
    if values.ndim != 2 or not values.size or values.dtype.kind != "f":
        raise DataError(f"Map {index} is {values.shape} {values.dtype}; evaluation needs HxW floats.")
    if mask.shape != values.shape or mask.dtype != bool:
        raise DataError(f"Mask {index} is {mask.shape} {mask.dtype}; its map needs {values.shape} bool.")
    _check_fractions(f"The values of map {index}", values)
