"""Scores of good photographs, and of pseudo anomalies painted on them -> the two thresholds of a verdict.

No photograph of a real defect takes part. Both thresholds are order statistics of the scores. Nothing is extrapolated
beyond the highest score, so n photographs certify a false-alarm rate of 1 / (n + 1) and no less.
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
"""Share of good photographs that may be judged anomalous where that finds more pseudo anomalies."""
HIGHEST_DISTURBED_RATE = 0.2
"""The same for disturbed copies, which are worse than any line: every disturbance at once and at full strength."""
HIGHEST_RATE_OF_FEW = 0.2
"""In the place of `HIGHEST_RATE` where most pseudo anomalies would pass and a tenth is no photograph: one of nine."""
REVIEW_RATE = 0.1
"""Share of good photographs at or above the review threshold, those judged anomalous among them."""
CAREFUL = 0.5
"""Lowest threshold of a careful model: the score of a photograph that is at the limit of every map, see `in_unit`."""
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
    """Chooses both thresholds of a verdict.

    Each is an order statistic of the scores (split conformal prediction, Vovk et al.). Unusual scores, see `unusual`,
    raise neither; they do count as false alarms.

    `threshold`:
        - It is at most the order statistic of `false_alarm_rate` among all usual scores, good and disturbed together;
          where they are too few for the rate, the highest one.
        - It is at least the order statistics of `HIGHEST_RATE` among the good and of `HIGHEST_DISTURBED_RATE` among the
          disturbed scores.
        - Between these bounds the best balanced accuracy on good photographs and probes decides, the latter counted by
          `smoothed_share`: a higher threshold that costs more defects than it saves false alarms helps nobody.
        - Where most probes would still pass, it falls to their median, or as far as the second highest score of nine
          photographs or more.

    `review_threshold` is the order statistic of `REVIEW_RATE`, or the second highest score where they are few.

    Args:
        scores: anomaly scores in [0, 1] of normal photographs that the model does not know.
        false_alarm_rate: share of future normal parts that may be judged anomalous, in (0, 0.5].
        disturbed: scores of the same photographs, disturbed.
        probes: scores of pseudo anomalies on such photographs.
        careful: for parts that will differ from the photographs more than these do from one another. Probes then do not
            lower the threshold, it is at least `CAREFUL`, and what is reviewed is the order statistic of twice the
            rate.

    Raises:
        DataError: fewer than 4 scores, a score outside [0, 1] or a rate outside (0, 0.5].
    """
    check_held_out(len(scores))
    check_false_alarm_rate(false_alarm_rate)
    good, copies, painted = _checked(scores), _checked(disturbed), _checked(probes)
    far = unusual([*good, *copies])
    usual_good, usual_copies = np.sort(good[~far[: len(good)]]), np.sort(copies[~far[len(good) :]])
    usual = np.sort([*usual_good, *usual_copies])
    threshold = order_statistic(usual, false_alarm_rate)
    balanced = len(painted) > 0 and not careful
    if balanced:
        threshold = _balanced(good, usual_good, usual_copies, painted, threshold)
    if careful:
        threshold = max(threshold, CAREFUL)
        review = order_statistic(usual, 2 * false_alarm_rate)
    else:
        review = order_statistic(usual_good, max(REVIEW_RATE, _rate_of_second_highest(usual_good)))
    n = len(scores)
    return Calibration(
        threshold=threshold,
        review_threshold=min(threshold, review),
        false_alarm_rate=false_alarm_rate,
        n=n,
        highest_rate=upper_bound(int((good >= threshold).sum()), n),
        miss_rate=float((painted < threshold).mean()) if len(painted) else None,
        method="order statistic" + (", balanced with pseudo anomalies" if balanced else ""),
        date=datetime.date.today().isoformat(),
    )


def _balanced(
    good: np.ndarray, usual_good: np.ndarray, usual_copies: np.ndarray, painted: np.ndarray, highest: float
) -> float:
    """The threshold that tells good photographs and probes apart best, within the bounds of `choose_threshold`.

    Args:
        good: scores of all good photographs; those above a threshold are its false alarms.
        usual_good, usual_copies: usual scores of good photographs and of disturbed copies, the lowest first; there may
            be no copies.
        painted: scores of the probes.
        highest: upper bound of the threshold.
    """
    bounded = [(usual_good, HIGHEST_RATE), (usual_copies, HIGHEST_DISTURBED_RATE)]
    bounded = [(scores, rate) for scores, rate in bounded if len(scores)]
    lowest = min(highest, max(order_statistic(scores, rate) for scores, rate in bounded))
    candidates = [_just_above(score) for score in np.unique(np.concatenate([usual_good, usual_copies]))]
    candidates.reverse()  # of equally good ones the highest is taken
    allowed = [candidate for candidate in candidates if lowest <= candidate <= highest]
    rejected = [(good >= candidate).mean() for candidate in allowed]
    best = allowed[int(np.argmax(smoothed_share(painted, np.array(allowed)) - rejected))]
    # Where photographs are few, the second highest may go too, though that is more than the usual rate.
    for_few = max(
        order_statistic(scores, max(rate, min(HIGHEST_RATE_OF_FEW, _rate_of_second_highest(scores))))
        for scores, rate in bounded
    )
    most = max(float(np.median(painted)), for_few)
    return best if best <= most else next(candidate for candidate in candidates if candidate <= most)


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


def _rate_of_second_highest(scores: np.ndarray) -> float:
    """The rate whose order statistic is the second highest score."""
    return 2 / (len(scores) + 1)


def unusual(scores: Sequence[float] | np.ndarray) -> np.ndarray:
    """Which scores in [0, 1) lie far above the others: n bool.

    Odds are compared, because scores crowd together below 1. The third quartile and the interquartile range do not
    change for a few outliers.
    """
    odds = np.asarray(scores, np.float64)
    return far_out(odds / (1 - odds).clip(1e-9))


def far_out(values: np.ndarray) -> np.ndarray:
    """Which values lie above Tukey's outer fence: n bool. Positive ones that are all but equal are not far out."""
    low, high = np.quantile(values, [0.25, 0.75])
    far: np.ndarray = values > high + FENCE * max(high - low, 0.05 * high)
    return far


def upper_bound(reached: int, n: int, confidence: float = CONFIDENCE) -> float:
    """Upper confidence bound of the false-alarm rate, in [0, 1].

    It is the bound of Clopper and Pearson (1934). For an order statistic of the same scores it is also the tolerance
    limit of Wilks (1941).

    Args:
        reached: number of good photographs whose score reaches the threshold.
        n: number of all good photographs.
        confidence: in (0, 1).
    """
    from scipy.stats import beta  # takes a while to import

    return 1.0 if reached >= n else float(beta.ppf(confidence, reached + 1, n - reached))


def order_statistic(ordered: np.ndarray, rate: float) -> float:
    """The threshold that a new score of the same kind reaches with at most this probability.

    Args:
        ordered: n scores in [0, 1], the lowest first.
        rate: in (0, 1).

    Returns:
        Just above the score of rank (n + 1) (1 - rate), rounded up; just above the highest where n is too small for
        the rate.
    """
    n = len(ordered)
    rank = math.ceil(round((n + 1) * (1 - rate), 8))  # 100 * (1 - 0.45) is 55.00000000000001
    return _just_above(float(ordered[min(rank, n) - 1]))


def photographs_for(rate: float) -> int:
    """The smallest n whose order statistic carries a false-alarm rate in (0, 1): 1 / (n + 1) is at most the rate."""
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
    """The share of good parts that is expected to reach a threshold.

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
    """n float64. Raises DataError for a score that is not finite or outside [0, 1]."""
    values = np.asarray(scores, dtype=np.float64)
    if len(values) and not (np.all(np.isfinite(values)) and values.min() >= 0 and values.max() <= 1):
        raise DataError("Calibration needs anomaly scores in [0, 1]; the model is broken, train it again.")
    return values


def _just_above(score: float) -> float:
    """The next float32 above a score, at most 1: a score equal to the threshold is judged anomalous."""
    return min(1.0, float(np.nextafter(np.float32(score), np.float32(2.0))))
