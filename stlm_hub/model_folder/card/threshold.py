"""What a model card says of the threshold: how it came about, what it does, and what others would do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...calibration.threshold import MIN_HELD_OUT, choose_threshold
from ...models.stlm.judging import Calibration, Judging
from ..results import Results, TestScores
from .text import Ready, percent

RATES = (0.01, 0.02, 0.05, 0.1, 0.2)
"""False-alarm rates that the table of thresholds has, beside the model's own."""


@dataclass(frozen=True)
class ThresholdFacts:
    """A calibrated threshold, in words and counts.

    Args:
        threshold, rate: as people read them.
        n: held-out photographs behind it.
        n_by_counting: photographs that the rate needs to be chosen by counting; None for a rate of 0.
        counted: the rate that counting gives the highest held-out score, where the threshold is that one instead of the
            prediction bound; else "".
        method: see `calibrate`.
        rejected, missed: of good and anomalous test photographs, e.g. "2 of 41"; "" where none count.
        misses_most, misses_many: whether it misses more than half, or more than a quarter.
        rows: cells of the table of thresholds, the heading first; empty where there are too few scores.
    """

    threshold: str
    rate: str
    n: int
    n_by_counting: int | None
    counted: str
    method: str
    rejected: str
    missed: str
    misses_most: bool
    misses_many: bool
    rows: list[list[str]]


def threshold_facts(results: Results, judging: Judging) -> ThresholdFacts | None:
    """What the template needs of the calibration; None for a model that has none."""
    calibration, held_out = judging.calibration, judging.held_out_scores
    if calibration is None:
        return None
    # After a calibration for another setting, test photographs of the old one say nothing of the threshold.
    scores = (None if results.recalibration else results.test_scores) or TestScores()
    rate = calibration.false_alarm_rate
    missed = _n_below(scores.anomalous, calibration.threshold)
    return ThresholdFacts(
        threshold=f"{calibration.threshold:.6g}",
        rate=percent(rate),
        n=calibration.n,
        n_by_counting=math.ceil(1 / rate - 1 - 1e-9) if rate else None,  # see `stlm_hub.calibration.threshold`
        counted=percent(1 / (calibration.n + 1), 2) if _is_highest(calibration, held_out) else "",
        method=calibration.method,
        rejected=_rejected(scores.good, calibration.threshold),
        missed=_missed(scores.anomalous, calibration.threshold),
        misses_most=missed > len(scores.anomalous) / 2,
        misses_many=missed > len(scores.anomalous) / 4,
        rows=_table(calibration, held_out, scores),
    )


def _table(calibration: Calibration, held_out: Sequence[float], scores: TestScores) -> list[list[str]]:
    if len(held_out) < MIN_HELD_OUT:
        return []
    rows = [["false-alarm rate", "threshold", "good ones rejected", "anomalous ones missed"]]
    for rate in sorted({*RATES, calibration.false_alarm_rate}):
        own = rate == calibration.false_alarm_rate
        threshold = calibration.threshold if own else choose_threshold(held_out, rate).threshold
        rows.append(
            [
                Ready(f"**{percent(rate)}**") if own else percent(rate),
                f"{threshold:.4f}",
                _rejected(scores.good, threshold) or "-",
                _missed(scores.anomalous, threshold) or "-",
            ]
        )
    return rows if scores.good or scores.anomalous else [row[:2] for row in rows]


def _is_highest(calibration: Calibration, held_out: Sequence[float]) -> bool:
    """Whether the threshold lies just above the highest held-out score because the prediction bound is lower."""
    if calibration.method != "log-odds-t" or not held_out:
        return False
    highest = np.float32(max(held_out))
    return bool(highest <= calibration.threshold <= np.nextafter(highest, np.float32(2)))


def _rejected(good: Sequence[float], threshold: float) -> str:
    return f"{len(good) - _n_below(good, threshold)} of {len(good)}" if good else ""


def _missed(anomalous: Sequence[float], threshold: float) -> str:
    return f"{_n_below(anomalous, threshold)} of {len(anomalous)}" if anomalous else ""


def _n_below(scores: Sequence[float], threshold: float) -> int:
    return sum(score < threshold for score in scores)
