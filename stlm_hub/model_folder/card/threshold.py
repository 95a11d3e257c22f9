"""What a model card says of the thresholds: how they came about, what they do, and what others would do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...calibration.threshold import DEFAULT_FALSE_ALARM_RATE, MIN_HELD_OUT, order_statistic, photographs_for
from ...models.stlm.judging import Calibration, Judging
from ...wording import percent
from ..figures import TestScores
from ..results import Results
from .text import Ready

RATES = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Shares of the normal photographs, disturbed ones among them, whose thresholds the table has."""


@dataclass(frozen=True)
class ThresholdFacts:
    """Calibrated thresholds, in words and counts.

    Args:
        threshold, review: as people read them; `review` is "" where the two are one.
        n: normal photographs behind them.
        highest_rate: upper confidence bound of the false-alarm rate.
        missed_probes: share of pseudo anomalies below the threshold; "" where there are none.
        enough: how many photographs would carry 1 %; 0 where there are as many.
        rejected, missed: of good and anomalous test photographs, e.g. "2 of 41"; "" where none count.
        misses_most, misses_many: whether it misses more than half, or more than a quarter, of the test photographs.
        rows: cells of the table of thresholds, the heading first; empty where there are too few scores.
    """

    threshold: str
    review: str
    n: int
    highest_rate: str
    missed_probes: str
    enough: int
    rejected: str
    missed: str
    misses_most: bool
    misses_many: bool
    rows: list[list[str]]


def threshold_facts(results: Results, judging: Judging) -> ThresholdFacts | None:
    """What the template needs of the calibration; None for a model that has none."""
    calibration = judging.calibration
    if calibration is None:
        return None
    # After a calibration for another setting, test photographs of the old one say nothing of the threshold.
    scores = (None if results.recalibration else results.test_scores) or TestScores()
    missed = _n_below(scores.anomalous, calibration.threshold)
    enough = photographs_for(DEFAULT_FALSE_ALARM_RATE)
    return ThresholdFacts(
        threshold=f"{calibration.threshold:.6g}",
        review=f"{calibration.review_threshold:.6g}" if calibration.review_threshold < calibration.threshold else "",
        n=calibration.n,
        highest_rate=percent(calibration.highest_rate),
        missed_probes=percent(calibration.miss_rate) if calibration.miss_rate is not None else "",
        enough=enough if calibration.n < enough else 0,
        rejected=_rejected(scores.good, calibration.threshold),
        missed=_missed(scores.anomalous, calibration.threshold),
        misses_most=missed > len(scores.anomalous) / 2,
        misses_many=missed > len(scores.anomalous) / 4,
        rows=_table(calibration, judging, scores),
    )


def _table(calibration: Calibration, judging: Judging, scores: TestScores) -> list[list[str]]:
    """Thresholds, and what each does with every kind of photograph that there are scores of."""
    normal = np.sort(np.array([*judging.normal_scores, *judging.disturbed_scores]))
    if len(judging.normal_scores) < MIN_HELD_OUT:
        return []
    columns = {
        "good parts rejected": (_rejected, judging.normal_scores),
        "disturbed copies rejected": (_rejected, judging.disturbed_scores),
        "painted defects missed": (_missed, judging.probe_scores),
        "good test parts rejected": (_rejected, scores.good),
        "test defects missed": (_missed, scores.anomalous),
    }
    shown = {name: column for name, column in columns.items() if column[1]}
    thresholds = {order_statistic(normal, rate) for rate in RATES} | {calibration.threshold}
    rows = [["threshold", *shown]]
    for threshold in sorted(thresholds, reverse=True):
        own = threshold == calibration.threshold
        cells = [count(values, threshold) for count, values in shown.values()]
        rows.append([Ready(f"**{threshold:.4f}**") if own else f"{threshold:.4f}", *cells])
    return rows


def _rejected(good: Sequence[float], threshold: float) -> str:
    return f"{len(good) - _n_below(good, threshold)} of {len(good)}" if good else ""


def _missed(anomalous: Sequence[float], threshold: float) -> str:
    return f"{_n_below(anomalous, threshold)} of {len(anomalous)}" if anomalous else ""


def _n_below(scores: Sequence[float], threshold: float) -> int:
    return sum(score < threshold for score in scores)
