"""What a model card says of the threshold: how it came about, what it does, and what others would do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...calibration.threshold import MIN_PHOTOGRAPHS, calibrate
from ...models.stlm.config import Calibration, STLMConfig
from .text import percent

RATES = (0.01, 0.02, 0.05, 0.1, 0.2)
"""False-alarm rates that the table of thresholds has, beside the model's own."""


def threshold_facts(results: dict[str, Any], config: STLMConfig) -> dict[str, Any] | None:
    """What the template needs of the calibration; None for a model that has none.

    Counts are texts like "2 of 41", empty where nothing was scored. `n_by_counting` is how many photographs the rate
    needs to be chosen by counting; `counted` is what counting says of the highest held-out score where the threshold is
    that one, in place of the prediction bound, else "".
    """
    calibration = config.calibration
    if calibration is None:
        return None
    held_out = _scores(results, "held_out_scores")
    rate = calibration.false_alarm_rate
    missed, n_anomalous = _below(_scores(results, "test_scores", "anomalous"), calibration.threshold)
    return {
        "threshold": f"{calibration.threshold:.6g}",
        "rate": percent(rate),
        "n": calibration.n,
        "n_by_counting": math.ceil(1 / rate - 1 - 1e-9) if rate else None,  # see `stlm_hub.calibration.threshold`
        "counted": percent(1 / (calibration.n + 1), 2) if _is_highest(calibration, held_out) else "",
        "method": calibration.method,
        "date": calibration.date,
        "held_out_rejected": _reached(held_out, calibration.threshold),
        "good_rejected": _reached(_scores(results, "test_scores", "good"), calibration.threshold),
        "anomalous_missed": f"{missed} of {n_anomalous}" if n_anomalous else "",
        "misses_most": missed > n_anomalous / 2,
        "misses_many": missed > n_anomalous / 4,
        "others": _other_thresholds(results, calibration, held_out),
    }


def _other_thresholds(
    results: dict[str, Any], calibration: Calibration, held_out: Sequence[float]
) -> list[tuple[str, str, str, str]]:
    """Rows of false-alarm rate, threshold, good test photographs rejected, anomalous ones missed."""
    if len(held_out) < MIN_PHOTOGRAPHS:
        return []
    rows = []
    for rate in sorted({*RATES, calibration.false_alarm_rate}):
        own = rate == calibration.false_alarm_rate
        threshold = calibration.threshold if own else calibrate(held_out, rate).threshold
        missed, n = _below(_scores(results, "test_scores", "anomalous"), threshold)
        rows.append(
            (
                f"**{percent(rate)}**" if own else percent(rate),
                f"{threshold:.4f}",
                _reached(_scores(results, "test_scores", "good"), threshold) or "-",
                f"{missed} of {n}" if n else "-",
            )
        )
    return rows


def _is_highest(calibration: Calibration, held_out: Sequence[float]) -> bool:
    """Whether the threshold lies just above the highest held-out score because the prediction bound is lower."""
    if calibration.method != "log-odds-t" or not held_out:
        return False
    highest = np.float32(max(held_out))
    return bool(highest <= calibration.threshold <= np.nextafter(highest, np.float32(2)))


def _scores(results: Any, *path: str) -> list[float]:
    for key in path:
        results = results.get(key) if isinstance(results, dict) else None
    return results if isinstance(results, list) else []


def _reached(scores: Sequence[float], threshold: float) -> str:
    return f"{sum(score >= threshold for score in scores)} of {len(scores)}" if scores else ""


def _below(scores: Sequence[float], threshold: float) -> tuple[int, int]:
    return sum(score < threshold for score in scores), len(scores)
