"""The threshold: exact by rank where there are enough photographs, at the stated rate on the average where not."""

from __future__ import annotations

import datetime
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import norm, t

from stlm_hub.calibration.threshold import MIN_HELD_OUT, choose_threshold, expected_false_alarm_rate
from stlm_hub.errors import DataError
from stlm_hub.models.stlm.judging import Calibration


def just_above(value: float) -> float:
    return float(np.nextafter(np.float32(value), np.float32(2)))


def false_alarm_rate_at(scores: list[float], threshold: float) -> float:
    return sum(score >= threshold for score in scores) / len(scores)


def spaced(n: int) -> list[float]:
    """n different scores in a random order, exact in float32 as scores are."""
    return [float(v) for v in np.random.default_rng(n).permutation(np.linspace(0.1, 0.9, n, dtype=np.float32))]


@pytest.mark.parametrize("rate", ["0.01", "0.02", "0.05", "0.1", "0.25", "0.3", "0.45", "0.5"])
@pytest.mark.parametrize("n", [4, 9, 19, 20, 49, 99, 100, 199, 219, 1000])
def test_conformal_threshold_lies_just_above_the_exact_rank(n: int, rate: str) -> None:
    scores = spaced(n)
    rank = math.ceil((n + 1) * (1 - Fraction(rate)))
    result = choose_threshold(scores, float(rate))
    assert (result.n, result.false_alarm_rate) == (n, float(rate))
    if rank > n:
        assert result.method == "log-odds-t"
    else:
        assert result.method == "conformal"
        assert result.threshold == just_above(sorted(scores)[rank - 1])
        assert false_alarm_rate_at(scores, result.threshold) == (n - rank) / n


def test_99_photographs_are_enough_for_1_percent_and_98_are_not() -> None:
    assert choose_threshold(spaced(99)).method == "conformal"
    assert choose_threshold(spaced(98)).method == "log-odds-t"
    assert choose_threshold(spaced(98)).false_alarm_rate == 0.01


def test_the_result_goes_into_a_configuration_as_it_is() -> None:
    result = choose_threshold([0.1, 0.2, 0.3, 0.4], 0.25)
    assert isinstance(result, Calibration)
    assert result.date == datetime.date.today().isoformat()
    assert all(type(value) in (float, int, str) for value in (result.threshold, result.n, result.method))


@pytest.mark.parametrize("n, rate", [(99, 0.01), (150, 0.01), (60, 0.05), (30, 0.1)])
def test_the_expected_false_alarm_rate_of_the_conformal_threshold_is_at_most_the_stated_one(
    n: int, rate: float
) -> None:
    """For any distribution; here a skewed one with two modes. Its exact quantiles are known through the uniform."""
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(1500):
        uniform = rng.random(n)
        scores = np.where(uniform < 0.7, 0.2 * uniform**2, 0.5 + 0.3 * uniform)  # increasing in `uniform`
        threshold = choose_threshold(scores.tolist(), rate).threshold
        inverse = math.sqrt(threshold / 0.2) if threshold < 0.3 else (threshold - 0.5) / 0.3
        rates.append(1 - inverse)
    spread = np.std(rates) / math.sqrt(len(rates))
    assert rate - 1 / (n + 1) - 4 * spread < np.mean(rates) < rate + 4 * spread


@pytest.mark.parametrize("n, rate", [(31, 0.01), (20, 0.01), (8, 0.05), (15, 0.05)])
def test_the_log_odds_bound_keeps_the_stated_rate_on_the_average(n: int, rate: float) -> None:
    mean, spread = -2.0, 0.7
    rng = np.random.default_rng(1)
    rates, thresholds = [], []
    for _ in range(3000):
        odds = rng.normal(mean, spread, n)
        result = choose_threshold((1 / (1 + np.exp(-odds))).tolist(), rate)
        assert result.method == "log-odds-t"
        bound = math.log(result.threshold / (1 - result.threshold))
        rates.append(norm.sf((bound - mean) / spread))
        thresholds.append(bound < odds.max())
    assert not any(thresholds)
    # the bound alone is exact; that it is never below the highest score only lowers the rate
    assert 0.75 * rate < np.mean(rates) < 1.06 * rate


def test_the_log_odds_bound_is_the_formula() -> None:
    scores = [0.10, 0.12, 0.15, 0.11, 0.18, 0.14]
    odds = np.log(np.array(scores) / (1 - np.array(scores)))
    bound = odds.mean() + t.ppf(0.99, 5) * odds.std(ddof=1) * math.sqrt(1 + 1 / 6)
    assert choose_threshold(scores, 0.01).threshold == pytest.approx(1 / (1 + math.exp(-bound)), rel=1e-6)


@pytest.mark.parametrize(
    "scores",
    [
        [0.1, 0.1, 0.1, 0.1, 0.9],  # an outlier far above the others
        [0.0, 0.0, 0.0, 0.0],
        [0.3, 0.3, 0.3, 0.3, 0.3],
        [1e-9, 2e-9, 1e-9, 3e-9],
        [0.999] * 3 + [0.9999],
        [0.0, 1.0, 0.0, 0.5],
    ],
)
def test_the_threshold_of_few_photographs_lies_above_every_score(scores: list[float]) -> None:
    result = choose_threshold(scores, 0.01)
    assert result.method == "log-odds-t"
    assert max(scores) < result.threshold <= 1 or max(scores) == result.threshold == 1
    if max(scores) < 1:
        assert false_alarm_rate_at(scores, result.threshold) == 0


@pytest.mark.parametrize("size", [1e-9, 1e-5, 0.1])
def test_small_scores_get_a_threshold_as_far_above_them_as_large_ones(size: float) -> None:
    spread = np.random.default_rng(0).lognormal(0, 0.3, 30)
    threshold = choose_threshold((size * spread / spread.max()).tolist(), 0.01).threshold
    assert size < threshold < 3 * size


def test_equal_scores_leave_room_for_the_next_photograph() -> None:
    threshold = choose_threshold([0.2] * 10, 0.01).threshold
    assert 0.21 < threshold < 0.25


def test_a_smaller_rate_never_gives_a_lower_threshold() -> None:
    for n in (6, 30, 120):
        thresholds = [choose_threshold(spaced(n), rate).threshold for rate in (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.001)]
        assert thresholds == sorted(thresholds)


def test_the_order_of_the_scores_does_not_matter() -> None:
    for n in (10, 150):
        assert choose_threshold(spaced(n)) == choose_threshold(sorted(spaced(n), reverse=True))


@pytest.mark.parametrize(
    "scores, rate, message",
    [
        ([0.1] * (MIN_HELD_OUT - 1), 0.01, "at least 4 normal photographs, got 3"),
        ([], 0.01, "got 0"),
        ([0.1, 0.2, 0.3, 1.01], 0.01, r"scores in \[0, 1\]"),
        ([0.1, 0.2, 0.3, -0.01], 0.01, r"scores in \[0, 1\]"),
        ([0.1, 0.2, math.nan, 0.3], 0.01, r"scores in \[0, 1\]"),
        ([0.1, 0.2, 0.3, math.inf], 0.01, r"scores in \[0, 1\]"),
        ([0.1, 0.2, 0.3, 0.4], 0.0, "above 0 and not above 0.5"),
        ([0.1, 0.2, 0.3, 0.4], -0.1, "above 0 and not above 0.5"),
        ([0.1, 0.2, 0.3, 0.4], 0.51, "above 0 and not above 0.5"),
        ([0.1, 0.2, 0.3, 0.4], math.nan, "above 0 and not above 0.5"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(scores: list[float], rate: float, message: str) -> None:
    with pytest.raises(DataError, match=message):
        choose_threshold(scores, rate)


@pytest.mark.parametrize(
    "n, rate",
    [(9, 0.1), (9, 0.25), (20, 0.05), (20, 0.5), (99, 0.01), (99, 0.02), (219, 0.01), (219, 0.1), (1000, 0.01)],
)
def test_the_expected_rate_at_a_conformal_threshold_is_the_stated_one_rounded_down(n: int, rate: float) -> None:
    scores = spaced(n)
    result = choose_threshold(scores, rate)
    assert result.method == "conformal"
    reached = sum(score >= result.threshold for score in scores)
    found = expected_false_alarm_rate(scores, result.threshold)
    assert found <= rate + 1e-12
    if reached:
        assert found == (reached + 1) / (n + 1) > rate - 1 / (n + 1)


@pytest.mark.parametrize("n, rate", [(31, 0.01), (20, 0.01), (8, 0.05), (15, 0.05), (4, 0.001)])
def test_the_expected_rate_at_a_log_odds_threshold_is_the_stated_one(n: int, rate: float) -> None:
    odds = np.random.default_rng(n).normal(-2.0, 0.7, n)
    scores = (1 / (1 + np.exp(-odds))).tolist()
    result = choose_threshold(scores, rate)
    found = expected_false_alarm_rate(scores, result.threshold)
    assert result.method == "log-odds-t"
    if result.threshold > just_above(max(scores)):
        assert found == pytest.approx(rate, rel=1e-4)
    else:  # the bound was raised to the highest score
        assert n == 15 and 0.5 * rate < found < rate


def test_the_expected_rate_of_few_photographs_counts_up_to_the_highest_score() -> None:
    scores = [0.1, 0.2, 0.3, 0.4, 0.5]
    assert [expected_false_alarm_rate(scores, at) for at in (0.0, 0.1, 0.15, 0.3, 0.5)] == [1, 1, 5 / 6, 4 / 6, 2 / 6]
    assert expected_false_alarm_rate(scores, just_above(0.5)) == 1 / 6  # the tail alone would say 0.18
    odds = np.log(np.array(scores) / (1 - np.array(scores)))
    deviations = (math.log(9) - odds.mean()) / (odds.std(ddof=1) * math.sqrt(1 + 1 / 5))
    assert t.sf(deviations, 4) < 1 / 6
    assert expected_false_alarm_rate(scores, 0.9) == pytest.approx(t.sf(deviations, 4))


@pytest.mark.parametrize("n", [4, 12, 130])
def test_the_expected_rate_never_rises_with_the_threshold(n: int) -> None:
    scores = spaced(n)
    for values in (scores, [0.2] * n, [0.0, *scores[1:]], [1.0, *scores[1:]]):
        rates = [expected_false_alarm_rate(values, at) for at in np.linspace(0, 1, 401)]
        assert rates == sorted(rates, reverse=True)
        assert rates[0] == 1 and 0 < rates[-1] <= (1 + (max(values) == 1)) / (n + 1)


def test_the_expected_rate_needs_photographs() -> None:
    with pytest.raises(DataError, match="at least 4 normal photographs, got 3"):
        expected_false_alarm_rate([0.1, 0.2, 0.3], 0.5)
    assert expected_false_alarm_rate([0.1, 0.2, 0.3, 0.3], 0.25) == 3 / 5
