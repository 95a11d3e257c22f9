"""The field's figures of merit: anomaly scores, maps and masks -> image AUROC, pixel AUROC, AUPRO, AP, F1-max and FNR.

Pixel figures are exact, not binned, and cost one plain sort of the normal pixels. The curves bend only at values that
an anomalous pixel has: between two of those a falling threshold adds nothing but false positives. So it is enough to
know, for each distinct value of the anomalous pixels, how many normal pixels lie above it and how many share it. Shared
values make slanted pieces of the curves, which is what Mann-Whitney's half counts amount to.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from sklearn.metrics import auc, roc_auc_score

from ..errors import DataError

MAX_CURVE_POINTS = 200
"""Of the curves in results.json."""

_STRAIGHT = 1e-9  # twice the area of a triangle that is not worth a point
_SLACK = 1e-6  # values this far outside [0, 1] are rounding of an interpolation


@dataclass(frozen=True)
class Metrics:
    """Figures of one test set: fractions in [0, 1], None where a figure is not defined.

    Args:
        i_auroc: area under the ROC of the anomaly scores; needs normal and anomalous images.
        p_auroc: area under the ROC of all pixels of all images; needs normal and anomalous pixels.
        aupro: area under the per-region overlap curve up to a false-positive rate, over that rate (Bergmann et al., The
            MVTec Anomaly Detection Dataset, IJCV 2021); needs normal and anomalous pixels.
        ap: average precision of the pixels, sum of (R_n - R_{n-1}) P_n as scikit-learn has it; needs anomalous pixels.
        f1_max: highest F1 of the pixels over all thresholds; needs anomalous pixels.
        fnr: share of the anomalous images whose score stays below the threshold, FN / (TP + FN) (arXiv 2402.19145,
            equation 9); needs anomalous images.
    """

    i_auroc: float | None
    p_auroc: float | None
    aupro: float | None
    ap: float | None
    f1_max: float | None
    fnr: float | None


def compute_metrics(
    scores: Sequence[float] | np.ndarray,
    labels: Sequence[int] | np.ndarray,
    maps: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    *,
    threshold: float | None,
    fpr_limit: float = 0.3,
) -> Metrics:
    """Compares predictions with the truth.

    Args:
        scores: anomaly score of each image, in [0, 1].
        labels: of each image, 0 (normal) or 1 (anomalous).
        maps: anomaly map of each image, HxW float in [0, 1]; images may differ in size.
        masks: of each image, HxW bool of its map's shape, True where the defect is. Regions are connected over edges
            and corners (8-neighbourhood), as in MVTec's evaluation code.
        threshold: an image is judged anomalous where its score reaches it; decides `fnr` only, which None leaves open.
        fpr_limit: up to which false-positive rate AUPRO integrates, in (0, 1]. The rate is over the normal pixels of
            all images, of anomalous ones too.

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
    steps = _pixel_steps(maps, masks, fpr_limit)
    for index, (mask, label) in enumerate(zip(masks, truth, strict=True)):
        if not label and mask.any():
            raise DataError(f"Image {index} is labelled normal, but its mask marks a defect; correct one of them.")
    anomalous = truth == 1
    both = bool(anomalous.any() and not anomalous.all())
    fpr, recall, overlap = steps.curve()
    return Metrics(
        i_auroc=float(roc_auc_score(anomalous, values)) if both else None,
        p_auroc=float(auc(fpr, recall)) if len(fpr) else None,
        aupro=float(auc(*_up_to(fpr, overlap, fpr_limit)) / fpr_limit) if len(fpr) else None,
        ap=steps.average_precision(),
        f1_max=steps.f1_max(),
        fnr=float(np.mean(values[anomalous] < threshold)) if anomalous.any() and threshold is not None else None,
    )


def average_precision(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> float | None:
    """The pixels' average precision alone, also of a single image; see `compute_metrics` for arguments and errors."""
    return _pixel_steps(maps, masks, 1.0).average_precision()


def roc_points(scores: np.ndarray, labels: np.ndarray) -> dict[str, list[float]]:
    """The ROC of images or pixels, for plots.

    Args:
        scores: N values in [0, 1].
        labels: N values, 0 or False for normal, 1 or True for anomalous.

    Returns:
        "fpr" and "tpr": up to 200 points from (0, 0) to (1, 1), rounded to 5 digits; empty where one kind is missing.

    Raises:
        DataError: lengths do not fit, or a value is NaN or out of range.
    """
    values, truth = np.asarray(scores), np.asarray(labels)
    _check_fractions("The anomaly scores", values)
    _check_labels(values, truth)
    anomalous = truth.astype(bool)
    fpr, tpr, _ = _Steps.count(values[anomalous], values[~anomalous]).curve()
    return _thin("tpr", fpr, tpr)


def pro_points(
    maps: Sequence[np.ndarray], masks: Sequence[np.ndarray], fpr_limit: float = 0.3
) -> dict[str, list[float]]:
    """The per-region overlap curve, for plots; see `compute_metrics` for arguments and errors.

    Returns:
        "fpr" and "pro": up to 200 points from FPR 0 to `fpr_limit`, rounded to 5 digits; empty where one kind of pixel
        is missing.
    """
    fpr, _, overlap = _pixel_steps(maps, masks, fpr_limit).curve()
    return _thin("pro", *_up_to(fpr, overlap, fpr_limit))


@dataclass(frozen=True)
class _Steps:
    """What a falling threshold finds at each of the K distinct values of the positives.

    `found` counts positives at or above the value, `overlap` is the sum of their weights; `above` counts negatives
    above it and `reached` those at or above it. `total` counts all negatives.
    """

    found: np.ndarray
    overlap: np.ndarray
    above: np.ndarray
    reached: np.ndarray
    total: int

    @classmethod
    def count(cls, positives: np.ndarray, negatives: np.ndarray, weights: np.ndarray | None = None) -> _Steps:
        """Of flat arrays; `negatives` is sorted in place, `weights` are those of the positives."""
        order = np.argsort(positives)[::-1]
        falling = positives[order]
        last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True)) if len(falling) else order
        found = last + 1
        overlap = found if weights is None else np.cumsum(weights[order])[last]
        negatives.sort()
        return cls(
            found=found,
            overlap=overlap,
            above=len(negatives) - np.searchsorted(negatives, falling[last], side="right"),
            reached=len(negatives) - np.searchsorted(negatives, falling[last], side="left"),
            total=len(negatives),
        )

    def curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """False-positive rate, recall, overlap at the 2K + 2 bends from 0 to 1; all empty where a kind is missing."""
        if not len(self.found) or not self.total:
            return np.empty(0), np.empty(0), np.empty(0)
        fpr = np.empty(2 * len(self.found) + 2)
        fpr[1:-1:2], fpr[2:-1:2] = self.above / self.total, self.reached / self.total
        fpr[0], fpr[-1] = 0, 1
        recall, overlap = (np.repeat(np.append(0, y / y[-1]), 2) for y in (self.found, self.overlap))
        return fpr, recall, overlap

    def average_precision(self) -> float | None:
        if not len(self.found):
            return None
        gained = np.diff(self.found, prepend=0)
        return float(np.sum(gained * (self.found / (self.found + self.reached))) / self.found[-1])

    def f1_max(self) -> float | None:
        if not len(self.found):
            return None
        return float(np.max(2 * self.found / (self.found[-1] + self.found + self.reached)))


def _pixel_steps(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray], fpr_limit: float) -> _Steps:
    if not 0 < fpr_limit <= 1:
        raise DataError(f"The limit of the false-positive rate must lie above 0 and not above 1, not {fpr_limit!r}.")
    if len(maps) != len(masks) or not len(maps):
        raise DataError(f"There are {len(maps)} maps and {len(masks)} masks; evaluation needs one mask for each map.")
    for index, (values, mask) in enumerate(zip(maps, masks, strict=True)):
        _check_map(index, values, mask)
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
        weights.append(1 / np.bincount(inside)[inside])  # each region weighs as much as any other
    return _Steps.count(np.concatenate(anomalous), normal, np.concatenate(weights))


def _up_to(fpr: np.ndarray, y: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """The part of a curve up to `limit`, where it ends in an interpolated point."""
    inside = fpr <= limit
    if not len(fpr) or fpr[inside][-1] == limit:
        return fpr[inside], y[inside]
    return np.append(fpr[inside], limit), np.append(y[inside], np.interp(limit, fpr, y))


def _thin(name: str, fpr: np.ndarray, y: np.ndarray) -> dict[str, list[float]]:
    """A curve with fewer points, its axis called `name`: again and again the point that cuts the largest triangle off
    the drawn curve is added to it, until there are 200 or all others lie on it."""
    if not len(fpr):
        return {"fpr": [], name: []}

    def largest(first: int, last: int) -> tuple[float, int, int, int]:
        run, rise = fpr[first : last + 1] - fpr[first], y[first : last + 1] - y[first]
        areas = np.abs(run[-1] * rise - rise[-1] * run)
        best = int(areas.argmax())
        return -float(areas[best]), first + best, first, last

    kept = [0, len(fpr) - 1]
    pieces = [largest(*kept)]
    while len(kept) < MAX_CURVE_POINTS and pieces[0][0] < -_STRAIGHT:
        _, middle, first, last = heapq.heappop(pieces)
        kept.append(middle)
        heapq.heappush(pieces, largest(first, middle))
        heapq.heappush(pieces, largest(middle, last))
    kept.sort()
    return {"fpr": fpr[kept].round(5).tolist(), name: y[kept].round(5).tolist()}


def _check_fractions(what: str, values: np.ndarray) -> None:
    if values.size and not (values.min() >= -_SLACK and values.max() <= 1 + _SLACK):  # NaN compares False
        raise DataError(f"{what} must be numbers from 0 to 1; the model is broken, train it again.")


def _check_labels(values: np.ndarray, labels: np.ndarray) -> None:
    if values.ndim != 1 or labels.shape != values.shape or not len(values):
        raise DataError(
            f"Scores have the shape {values.shape}, labels {labels.shape}; both must be one list of the same length."
        )
    if labels.dtype != bool and not np.isin(labels, (0, 1)).all():
        raise DataError("Labels must be 0 (normal) or 1 (anomalous).")


def _check_map(index: int, values: np.ndarray, mask: np.ndarray) -> None:
    if values.ndim != 2 or not values.size or values.dtype.kind != "f":
        raise DataError(f"Map {index} is {values.shape} {values.dtype}; evaluation needs HxW floats.")
    if mask.shape != values.shape or mask.dtype != bool:
        raise DataError(f"Mask {index} is {mask.shape} {mask.dtype}; its map needs {values.shape} bool.")
    _check_fractions(f"The values of map {index}", values)
