"""Scores of held-out normal photographs -> the threshold at a stated false-alarm rate.

No anomalous photograph is ever looked at. With enough photographs the threshold is an order statistic, which holds
for any distribution of scores; with fewer it is a prediction bound under a normal distribution of the scores' log-
odds.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence

import numpy as np

from ..errors import DataError
from ..log_odds import log_odds
from ..models.stlm.judging import Calibration

MIN_HELD_OUT = 4
DEFAULT_FALSE_ALARM_RATE = 0.01
_LOWEST, _HIGHEST = 1e-12, 1 - 1e-6  # scores are cut here before their log-odds are taken
_MIN_SPREAD = 0.05  # log-odds; a few nearly equal scores must not put the threshold right on top of them


def choose_threshold(scores: Sequence[float], false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE) -> Calibration:
    """
    Args:
        scores: anomaly scores of normal photographs that the model was not trained on, each in [0, 1].
        false_alarm_rate: share of future normal parts that may be judged anomalous, in (0, 0.5].

    Returns:
        Threshold with its method, number of photographs and date. Methods:
        "conformal": the ceil((n + 1)(1 - rate))-th smallest score, where n is large enough for one (n >= 1 / rate - 1);
        the expected false-alarm rate is then at most `rate` (Vovk et al., split conformal prediction).
        "log-odds-t": mean + t(n - 1, 1 - rate) s sqrt(1 + 1 / n) of the scores' log-odds, the prediction bound of a
        normal sample, and never below the highest score seen.

    Raises:
        DataError: fewer than 4 scores, a score outside [0, 1] or a rate outside (0, 0.5].
    """
    values = np.sort(np.asarray(scores, dtype=np.float64))
    n = len(values)
    check_held_out(n)
    if not np.all(np.isfinite(values)) or values[0] < 0 or values[-1] > 1:
        raise DataError("Calibration needs anomaly scores in [0, 1]; the model is broken, train it again.")
    check_false_alarm_rate(false_alarm_rate)
    rank = math.ceil(round((n + 1) * (1 - false_alarm_rate), 8))  # 100 * (1 - 0.45) is 55.00000000000001
    if rank <= n:
        method, threshold = "conformal", float(values[rank - 1])
    else:
        method, threshold = "log-odds-t", _prediction_bound(values, false_alarm_rate)
    # A score equal to the threshold is judged anomalous, so the threshold lies just above the scores it is built on.
    threshold = min(1.0, float(np.nextafter(np.float32(threshold), np.float32(2.0))))
    return Calibration(threshold, false_alarm_rate, n, method, datetime.date.today().isoformat())


def check_held_out(photographs: int) -> None:
    """Raises DataError for fewer than 4 photographs."""
    if photographs < MIN_HELD_OUT:
        raise DataError(
            f"Calibration needs at least {MIN_HELD_OUT} normal photographs, got {photographs}; add more good photos."
        )


def check_false_alarm_rate(rate: float) -> None:
    """Raises DataError for a rate outside (0, 0.5]."""
    if not 0 < rate <= 0.5:
        raise DataError(f"The false-alarm rate must lie above 0 and not above 0.5, not {rate}.")


def expected_false_alarm_rate(scores: Sequence[float], threshold: float) -> float:
    """What a threshold means: the share of good parts that is expected to reach it. The inverse of `choose_threshold`.

    Args:
        scores: anomaly scores of at least 4 normal photographs that the model was not trained on, each in [0, 1].
        threshold: in [0, 1].

    Returns:
        (k + 1) / (n + 1) where k >= 1 of the n scores reach the threshold. Above all of them, the tail of the scores'
        log-odds under a normal distribution, and at most 1 / (n + 1). It never rises with the threshold.

    Raises:
        DataError: fewer than 4 scores.
    """
    values = np.asarray(scores, dtype=np.float64)
    n = len(values)
    if n < MIN_HELD_OUT:
        raise DataError(f"A false-alarm rate needs at least {MIN_HELD_OUT} normal photographs, got {n}.")
    reached = int((values >= threshold).sum())
    counted = (reached + 1) / (n + 1)
    if reached:
        return counted
    from scipy.stats import t

    centre, scale = _log_odds_sample(values)
    return min(counted, float(t.sf((float(log_odds(threshold, _LOWEST, _HIGHEST)) - centre) / scale, n - 1)))


def _prediction_bound(values: np.ndarray, rate: float) -> float:
    from scipy.stats import t  # here and not above: loading it takes a while

    centre, scale = _log_odds_sample(values)
    bound = centre + float(t.ppf(1 - rate, len(values) - 1)) * scale
    return max(1 / (1 + math.exp(-bound)), float(values[-1]))


def _log_odds_sample(values: np.ndarray) -> tuple[float, float]:
    """Mean of the scores' log-odds, and the standard error of the next one: s sqrt(1 + 1 / n)."""
    odds = log_odds(values, _LOWEST, _HIGHEST)
    spread = max(float(odds.std(ddof=1)), _MIN_SPREAD)
    return float(odds.mean()), spread * math.sqrt(1 + 1 / len(values))
