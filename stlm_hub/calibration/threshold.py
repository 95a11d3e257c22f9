"""Scores of good photographs, and of pseudo anomalies painted on them -> the two thresholds of a verdict.

No really anomalous photograph is ever looked at. Both thresholds are order statistics of the scores: nothing is
extrapolated beyond the highest one seen, so n photographs carry a false-alarm rate of 1 / (n + 1) and no less.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence

import numpy as np

from ..errors import DataError
from ..models.stlm.judging import Calibration

MIN_HELD_OUT = 4
DEFAULT_FALSE_ALARM_RATE = 0.01
HIGHEST_RATE = 0.1
"""Most good parts that are judged anomalous where that finds more pseudo anomalies, photographed as they are."""
HIGHEST_DISTURBED_RATE = 0.2
"""The same under every disturbance at once and at full strength, which is worse than any line."""
HIGHEST_RATE_OF_FEW = 0.2
"""The same where most pseudo anomalies would pass otherwise, and photographs are too few for a tenth: one of nine."""
REVIEW_RATE = 0.1
"""Share of good parts that may be set aside for a second look, those judged anomalous among them."""
CONFIDENCE = 0.95
EDGE = 1e-6
"""Scores this near to 0 or 1 have finite log-odds, too."""
FENCE = 3.0
"""A score this many interquartile ranges above the third quartile is unusual (Tukey 1977, "far out")."""


def choose_threshold(
    scores: Sequence[float],
    false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE,
    *,
    disturbed: Sequence[float] = (),
    probes: Sequence[float] = (),
    careful: bool = False,
) -> Calibration:
    """
    Args:
        scores: anomaly scores in [0, 1] of normal photographs that the model does not know.
        false_alarm_rate: share of future normal parts that may be judged anomalous, in (0, 0.5].
        disturbed: scores of the same photographs, disturbed.
        probes: scores of pseudo anomalies on such photographs.
        careful: whether probes must not lower the threshold, because future parts differ from the photographs more than
            these do from one another; nor are more than twice as many reviewed as rejected.

    Returns:
        `threshold` is an order statistic of the scores (split conformal prediction, Vovk et al.). It is at most that of
        `false_alarm_rate` among all of them, or the highest where they are too few for the rate, and at least those of
        `HIGHEST_RATE` and `HIGHEST_DISTURBED_RATE` among the two kinds. Between these bounds it is where the balanced
        accuracy on good photographs and probes is best: a higher threshold that costs more defects than it saves false
        alarms helps nobody. Where most probes would still pass, it falls to their median, or as far as the second
        highest score of nine photographs or more. `review_threshold` is the order statistic of `REVIEW_RATE`, or the
        second highest score of however few. Unusual scores, see `unusual`, raise neither; they do count as false
        alarms.

    Raises:
        DataError: fewer than 4 scores, a score outside [0, 1] or a rate outside (0, 0.5].
    """
    check_held_out(len(scores))
    check_false_alarm_rate(false_alarm_rate)
    good, copies, painted = _checked(scores), _checked(disturbed), _checked(probes)
    far = unusual([*good, *copies])
    usual, usual_copies = np.sort(good[~far[: len(good)]]), np.sort(copies[~far[len(good) :]])
    kept = np.sort([*usual, *usual_copies])
    threshold = order_statistic(kept, false_alarm_rate)
    if len(painted) and not careful:
        threshold = _balanced(good, (usual, usual_copies), painted, threshold)
    if careful:
        review = order_statistic(kept, 2 * false_alarm_rate)
    else:
        review = order_statistic(usual, max(REVIEW_RATE, _of_second(usual)))
    review = min(threshold, review)
    n = len(scores)
    reached = int((good >= threshold).sum())
    return Calibration(
        threshold=threshold,
        review_threshold=review,
        false_alarm_rate=false_alarm_rate,
        n=n,
        highest_rate=upper_bound(reached, n),
        miss_rate=float((painted < threshold).mean()) if len(painted) else None,
        method="order statistic" + (", balanced with pseudo anomalies" if len(painted) and not careful else ""),
        date=datetime.date.today().isoformat(),
    )


def _balanced(good: np.ndarray, kept: tuple[np.ndarray, np.ndarray], painted: np.ndarray, highest: float) -> float:
    """The threshold up to `highest` that tells good photographs and probes apart best, see `choose_threshold`.

    `kept` are the ordered usual scores of both kinds, the second of which may be none.
    """
    rates = [
        (scores, rate) for scores, rate in zip(kept, (HIGHEST_RATE, HIGHEST_DISTURBED_RATE), strict=True) if len(scores)
    ]
    lowest = min(highest, max(order_statistic(scores, rate) for scores, rate in rates))
    candidates = [_just_above(score) for score in np.unique(np.concatenate(kept))][::-1]
    allowed = [c for c in candidates if lowest <= c <= highest]
    found = smoothed_share(painted, np.array(allowed))
    rejected = np.array([(good >= c).mean() for c in allowed])
    best = allowed[int(np.argmax(found - rejected))]  # of equally good ones the highest
    few = [(scores, max(rate, min(HIGHEST_RATE_OF_FEW, _of_second(scores)))) for scores, rate in rates]
    bound = max(float(np.median(painted)), *(order_statistic(scores, rate) for scores, rate in few))
    return best if best <= bound else next(c for c in candidates if c <= bound)


def smoothed_share(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Which share of further scores reaches each threshold, estimated from few by a kernel density of their log-odds.

    A count would say of the range between two thresholds what one or two of sixty pseudo anomalies happen to say. The
    kernels are normal and as wide as Silverman (1986, equation 3.31) has them for as many scores.

    Args:
        scores: n in [0, 1], at least one.
        thresholds: m in [0, 1].

    Returns:
        m shares in [0, 1].
    """
    from scipy.special import logit, ndtr  # here and not above: loading it takes a while

    odds, limits = (logit(np.clip(values, EDGE, 1 - EDGE)) for values in (scores, thresholds))
    low, high = np.quantile(odds, [0.25, 0.75])
    spread = min(float(odds.std()), float(high - low) / 1.34) or float(odds.std())
    width = max(0.9 * spread * len(odds) ** -0.2, EDGE)
    share: np.ndarray = ndtr((odds[None] - limits[:, None]) / width).mean(1)
    return share


def _of_second(scores: np.ndarray) -> float:
    """The rate of which the second highest score is the order statistic."""
    return 2 / (len(scores) + 1)


def unusual(scores: Sequence[float] | np.ndarray) -> np.ndarray:
    """Which scores in [0, 1) lie far above the others: n bool.

    They are compared as odds, in which scores do not crowd together below 1. The third quartile and the range between
    the quartiles do not change for a few outliers.
    """
    odds = np.asarray(scores, np.float64)
    odds = odds / (1 - odds).clip(1e-9)
    low, high = np.quantile(odds, [0.25, 0.75])
    far: np.ndarray = odds > high + FENCE * max(high - low, 0.05 * high)
    return far


def upper_bound(reached: int, n: int, confidence: float = CONFIDENCE) -> float:
    """The highest false-alarm rate that `reached` of n good photographs above a threshold are compatible with.

    The bound of Clopper and Pearson (1934), which for an order statistic of the same scores is the tolerance limit of
    Wilks (1941).
    """
    from scipy.stats import beta  # here and not above: loading it takes a while

    return 1.0 if reached >= n else float(beta.ppf(confidence, reached + 1, n - reached))


def order_statistic(ordered: np.ndarray, rate: float) -> float:
    """The threshold just above the score that a new one exceeds with at most this probability.

    Args:
        ordered: n scores in [0, 1], the lowest first. Where they are too few for the rate, the highest decides.
        rate: in (0, 1).
    """
    n = len(ordered)
    rank = math.ceil(round((n + 1) * (1 - rate), 8))  # 100 * (1 - 0.45) is 55.00000000000001
    return _just_above(float(ordered[min(rank, n) - 1]))


def photographs_for(rate: float) -> int:
    """How many good photographs carry a false-alarm rate."""
    return math.ceil(round(1 / rate - 1, 8))


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
    """What a threshold means: the share of good parts that is expected to reach it.

    Args:
        scores: anomaly scores of at least 4 normal photographs that the model does not know, each in [0, 1].
        threshold: in [0, 1].

    Returns:
        (k + 1) / (n + 1) where k of the n scores reach the threshold: never below what n photographs carry.

    Raises:
        DataError: fewer than 4 scores.
    """
    values = np.asarray(scores, dtype=np.float64)
    if len(values) < MIN_HELD_OUT:
        raise DataError(f"A false-alarm rate needs at least {MIN_HELD_OUT} normal photographs, got {len(values)}.")
    return (int((values >= threshold).sum()) + 1) / (len(values) + 1)


def _checked(scores: Sequence[float]) -> np.ndarray:
    values = np.asarray(scores, dtype=np.float64)
    if len(values) and not (np.all(np.isfinite(values)) and values.min() >= 0 and values.max() <= 1):
        raise DataError("Calibration needs anomaly scores in [0, 1]; the model is broken, train it again.")
    return values


def _just_above(score: float) -> float:
    """A score equal to the threshold is judged anomalous, so the threshold lies just above the score it is built on."""
    return min(1.0, float(np.nextafter(np.float32(score), np.float32(2.0))))
