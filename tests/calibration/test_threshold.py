"""The thresholds: order statistics of good photographs' scores, between which pseudo anomalies decide."""

from __future__ import annotations

import datetime
import math
from fractions import Fraction

import numpy as np
import pytest

from stlm_hub.calibration.threshold import (
    CAREFUL,
    HIGHEST_DISTURBED_RATE,
    HIGHEST_RATE,
    MIN_HELD_OUT,
    choose_threshold,
    expected_false_alarm_rate,
    order_statistic,
    photographs_for,
    smoothed_share,
    unusual,
    upper_bound,
)
from stlm_hub.errors import DataError
from stlm_hub.models.stlm.judging import Calibration
from stlm_hub.models.stlm.scales import in_unit


def just_above(value: float) -> float:
    return float(np.nextafter(np.float32(value), np.float32(2)))


def false_alarm_rate_at(scores: list[float], threshold: float) -> float:
    return sum(score >= threshold for score in scores) / len(scores)


def spaced(n: int, low: float = 0.1, high: float = 0.9) -> list[float]:
    """n different scores in a random order, exact in float32 as scores are."""
    return [float(v) for v in np.random.default_rng(n).permutation(np.linspace(low, high, n, dtype=np.float32))]


def of_rank(scores: list[float], rate: float | str) -> float:
    """Just above the score at the rank of this rate, or above the highest one."""
    rank = math.ceil((len(scores) + 1) * (1 - Fraction(rate)))
    return just_above(sorted(scores)[min(rank, len(scores)) - 1])


def of_rank_or_second(scores: list[float], rate: str) -> float:
    """`of_rank`, or just above the second highest score where that is lower."""
    return min(of_rank(scores, rate), just_above(sorted(scores)[-2]))


# ---------------------------------------------------------------- by rank


@pytest.mark.parametrize("rate", ["0.01", "0.02", "0.05", "0.1", "0.25", "0.3", "0.45", "0.5"])
@pytest.mark.parametrize("n", [4, 9, 19, 20, 49, 99, 100, 199, 219, 1000])
def test_the_threshold_lies_just_above_the_exact_rank_or_the_highest_score(n: int, rate: str) -> None:
    scores = spaced(n, high=0.5)
    result = choose_threshold(scores, float(rate))
    assert (result.n, result.false_alarm_rate, result.method) == (n, float(rate), "order statistic")
    assert result.threshold == of_rank(scores, rate) == order_statistic(np.sort(scores), float(rate))
    assert result.review_threshold == min(result.threshold, of_rank_or_second(scores, "0.1"))
    assert result.miss_rate is None
    reached = sum(score >= result.threshold for score in scores)
    assert result.highest_rate == upper_bound(reached, n)


@pytest.mark.parametrize("n", [4, 20, 98])
@pytest.mark.parametrize("rate", [0.01, 0.001])
def test_nothing_is_extrapolated_beyond_the_highest_score(n: int, rate: float) -> None:
    scores = spaced(n, high=0.6)
    threshold = choose_threshold(scores, rate).threshold
    assert threshold == just_above(max(scores)) and false_alarm_rate_at(scores, threshold) == 0


def test_99_photographs_carry_1_percent() -> None:
    assert [photographs_for(rate) for rate in (0.5, 0.1, 0.05, 0.01, 0.003)] == [1, 9, 19, 99, 333]
    many = spaced(199, high=0.5)
    assert choose_threshold(many).threshold < max(many)
    assert choose_threshold(many[:99]).threshold > max(many[:99])


def test_disturbed_scores_raise_the_threshold_but_are_no_further_photographs() -> None:
    scores, disturbed = spaced(20, 0.1, 0.3), spaced(20, 0.2, 0.4)
    for rate in (0.01, 0.1, 0.3):
        result = choose_threshold(scores, rate, disturbed=disturbed)
        assert result.n == 20 and result.threshold == of_rank([*scores, *disturbed], str(rate))
        assert result.review_threshold == min(result.threshold, of_rank(scores, "0.1"))
        assert result.highest_rate == upper_bound(sum(score >= result.threshold for score in scores), 20)


@pytest.mark.parametrize("n, rate", [(99, 0.01), (150, 0.01), (60, 0.05), (30, 0.1)])
def test_the_expected_false_alarm_rate_of_the_threshold_is_at_most_the_stated_one(n: int, rate: float) -> None:
    """For any distribution; here a skewed one with two modes. Its exact quantiles are known through the uniform."""
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(1500):
        uniform = rng.random(n)
        scores = np.where(uniform < 0.7, 0.2 * uniform**2, 0.5 + 0.3 * uniform)  # increasing in `uniform`
        threshold = order_statistic(np.sort(scores), rate)
        inverse = math.sqrt(threshold / 0.2) if threshold < 0.3 else (threshold - 0.5) / 0.3
        rates.append(1 - inverse)
    spread = np.std(rates) / math.sqrt(len(rates))
    assert rate - 1 / (n + 1) - 4 * spread < np.mean(rates) < rate + 4 * spread


@pytest.mark.parametrize(
    "scores",
    [
        [0.0, 0.0, 0.0, 0.0],
        [0.3, 0.3, 0.3, 0.3, 0.3],
        [1e-9, 2e-9, 1e-9, 3e-9],
        [0.999, 0.9991, 0.9992, 0.9993],
        [1.0, 1.0, 1.0, 1.0],
    ],
    ids=str,
)
def test_the_threshold_of_scores_of_any_size_lies_above_them(scores: list[float]) -> None:
    threshold = choose_threshold(scores, 0.01).threshold
    assert (threshold == min(1.0, just_above(max(scores))) and threshold > max(scores)) or max(scores) == threshold == 1


def test_a_smaller_rate_never_gives_a_lower_threshold() -> None:
    for n in (6, 30, 120):
        for probes in ([], spaced(40, 0.3, 0.95)):
            rates = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.001)
            thresholds = [choose_threshold(spaced(n), rate, probes=probes).threshold for rate in rates]
            assert thresholds == sorted(thresholds)


def test_the_order_of_the_scores_does_not_matter() -> None:
    probes = spaced(30, 0.5, 0.95)
    for n in (10, 150):
        first = choose_threshold(spaced(n), probes=probes)
        assert first == choose_threshold(sorted(spaced(n), reverse=True), probes=sorted(probes))


def test_the_result_goes_into_a_configuration_as_it_is() -> None:
    for probes in ([], [0.5, 0.6]):
        result = choose_threshold([0.1, 0.2, 0.3, 0.4], 0.25, probes=probes)
        assert isinstance(result, Calibration) and result.date == datetime.date.today().isoformat()
        numbers = (result.threshold, result.review_threshold, result.highest_rate, result.n)
        assert all(type(value) in (float, int) for value in numbers)
        assert result.miss_rate is None or type(result.miss_rate) is float


# ---------------------------------------------------------------- pseudo anomalies


def test_probes_that_all_lie_above_leave_the_threshold_at_the_highest_of_equally_good_ones() -> None:
    scores = spaced(50, 0.1, 0.4)
    result = choose_threshold(scores, probes=[0.8, 0.9, 0.95])
    assert result.threshold == just_above(max(scores)) and result.miss_rate == 0
    assert result.method == "order statistic, balanced with pseudo anomalies"


def test_probes_among_the_highest_normal_scores_pull_the_threshold_down() -> None:
    scores, probes = spaced(100, 0.1, 0.4), [*spaced(80, 0.34, 0.42), *[0.9] * 20]
    result = choose_threshold(scores, probes=probes)
    assert result.threshold == of_rank(scores, "0.1") and 0.2 < (result.miss_rate or 0) < 0.4
    assert result.highest_rate == upper_bound(round(100 * false_alarm_rate_at(scores, result.threshold)), 100)
    assert choose_threshold(scores, probes=[]).threshold == of_rank(scores, "0.01")


def test_a_probe_that_costs_more_false_alarms_than_it_is_worth_does_not_move_the_threshold() -> None:
    scores = spaced(100, 0.1, 0.4)
    probes = [sorted(scores)[-5] + 0.0005] + [0.9] * 99
    result = choose_threshold(scores, probes=probes)
    assert result.threshold == of_rank(scores, "0.01") and result.miss_rate == 0.01


def test_a_gap_between_probes_is_chance() -> None:
    """Sixty probes say little of a narrow range: where those around it are dense, real defects lie in it, too."""
    scores = spaced(100, 0.1, 0.4)
    dense = np.array(spaced(60, 0.3, 0.5))
    lowest, highest = of_rank(scores, "0.1"), of_rank(scores, "0.01")
    gap = dense[(dense < lowest) | (dense > highest)].tolist()
    assert len(gap) < 56, "there is no gap"
    found = choose_threshold(scores, probes=gap)
    assert found.threshold < (lowest + highest) / 2
    assert false_alarm_rate_at(scores, found.threshold) > 0.05


def test_a_smoothed_share_is_the_share_of_many_scores_and_falls_with_the_threshold() -> None:
    rng = np.random.default_rng(0)
    few, many = (rng.beta(8, 8, n) for n in (200, 100_000))
    thresholds = np.linspace(0.2, 0.8, 13)
    shares = smoothed_share(few, thresholds)
    assert np.all(np.diff(shares) < 0) and np.all((shares > 0) & (shares < 1))
    assert np.abs(shares - [(many >= t).mean() for t in thresholds]).max() < 0.08
    assert 0.3 < smoothed_share(np.array([0.0, 1.0, 0.7, 0.7]), np.array([0.5]))[0] < 0.9
    assert smoothed_share(np.array([0.7]), np.array([0.6, 0.8])) == pytest.approx([1, 0])  # of one width there is none


@pytest.mark.parametrize("n", [9, 40, 100, 300])
def test_probes_never_cost_more_than_the_highest_rate_of_good_parts_or_one_of_few(n: int) -> None:
    scores = spaced(n, 0.1, 0.4)
    for probes in ([0.11] * 50, [sorted(scores)[n // 2]] * 50, [0.39] * 50):  # the first are all but invisible
        result = choose_threshold(scores, probes=probes)
        assert of_rank_or_second(scores, "0.1") <= result.threshold <= of_rank(scores, "0.01")
        assert false_alarm_rate_at(scores, result.threshold) <= max(HIGHEST_RATE, 1 / n) and HIGHEST_RATE == 0.1


def test_probes_never_cost_more_than_the_highest_rate_of_disturbed_copies() -> None:
    scores, disturbed = spaced(100, 0.1, 0.2), spaced(100, 0.2, 0.4)
    result = choose_threshold(scores, disturbed=disturbed, probes=[0.25] * 50)
    assert result.threshold == of_rank(disturbed, "0.2") and result.miss_rate == 1  # none can be had
    found = choose_threshold(scores, disturbed=disturbed, probes=[0.375] * 50)
    assert of_rank(disturbed, "0.2") < found.threshold < 0.375 and found.miss_rate == 0
    assert false_alarm_rate_at(disturbed, found.threshold) <= HIGHEST_DISTURBED_RATE == 0.2


@pytest.mark.parametrize("n", [6, 8, 9, 18])
def test_one_high_score_of_few_lets_no_defect_pass_unseen(n: int) -> None:
    """Nothing certifies a rate here. What lies between is looked at again, or of nine rejected if most probes do."""
    scores = [*spaced(n - 1, 0.3, 0.36), 0.42]
    assert not unusual(scores).any()
    faint, clear = [0.3] * 9 + [0.4] * 20, [0.4] * 9 + [0.5] * 20
    assert choose_threshold(scores, probes=faint).threshold == just_above(sorted(scores)[-2] if n >= 9 else 0.42)
    found = choose_threshold(scores, probes=clear)
    assert found.review_threshold == just_above(sorted(scores)[-2]) < 0.4 < found.threshold == just_above(0.42)


def test_the_threshold_does_not_lie_above_most_probes_where_good_photographs_allow_it() -> None:
    scores = spaced(99, 0.1, 0.4)
    spread = spaced(99, 0.3, 0.45)  # each costs a good photograph, so that by balance the highest would stay
    found = choose_threshold(scores, probes=spread)
    assert found.threshold <= np.median(spread) and found.miss_rate is not None and found.miss_rate <= 0.5
    hopeless = choose_threshold(scores, probes=[0.11] * 50)
    assert hopeless.threshold == of_rank(scores, "0.1")  # no further down than good photographs bear


def test_only_photographs_as_they_are_weigh_against_probes() -> None:
    """Copies under every disturbance at once are worse than any line; they bound the threshold and no more."""
    scores, disturbed = spaced(50, 0.1, 0.2), spaced(50, 0.1, 0.4)
    probes = [sorted(disturbed)[-5] + 0.0005] + [0.9] * 99  # one of a hundred, for five of fifty copies
    assert choose_threshold(scores, disturbed=disturbed, probes=probes).threshold <= probes[0]


@pytest.mark.parametrize("seed", range(8))
def test_the_threshold_lies_between_the_two_order_statistics_and_balances_best(seed: int) -> None:
    rng = np.random.default_rng(seed)
    normal = rng.beta(4, 12, 60).astype(np.float32).tolist()
    probes = rng.beta(8, 8, 80).astype(np.float32).tolist()
    usual = [score for score, far in zip(normal, unusual(normal), strict=True) if not far]
    lowest, highest = of_rank(usual, "0.1"), of_rank(usual, "0.01")
    result = choose_threshold(normal, 0.01, probes=probes)
    assert lowest <= result.threshold <= highest
    assert result.review_threshold <= result.threshold
    assert result.miss_rate == np.mean(np.array(probes) < result.threshold)

    def balanced(threshold: float) -> float:
        return smoothed_share(np.array(probes), np.array([threshold]))[0] - false_alarm_rate_at(normal, threshold)

    allowed = [t for t in map(just_above, usual) if lowest <= t <= highest]
    assert balanced(result.threshold) == max(map(balanced, allowed)) or result.threshold == max(
        t for t in allowed if t <= max(lowest, np.median(probes))
    )


def test_a_rate_above_the_highest_is_left_to_whoever_asks_for_it() -> None:
    scores = spaced(50, 0.1, 0.4)
    asked = choose_threshold(scores, 0.3, probes=[0.1] * 9)
    assert asked.threshold == asked.review_threshold == of_rank(scores, "0.3")


def test_a_careful_threshold_knows_the_copies_and_looks_twice_at_twice_the_rate() -> None:
    scores, copies = spaced(50, 0.1, 0.6), spaced(49, 0.2, 0.65)
    found = choose_threshold(scores, 0.1, disturbed=copies, probes=[0.2] * 9, careful=True)
    assert found.threshold == of_rank(scores + copies, "0.1") > CAREFUL
    assert found.review_threshold == of_rank(scores + copies, "0.2")


def test_a_careful_threshold_is_never_below_the_limit_of_all_maps() -> None:
    scores, copies = spaced(50, 0.1, 0.4), spaced(49, 0.2, 0.45)
    found = choose_threshold(scores, 0.1, disturbed=copies, probes=[0.2] * 9, careful=True)
    assert found.threshold == CAREFUL == in_unit(np.array(1.0))
    assert found.review_threshold == of_rank(scores + copies, "0.2")
    assert choose_threshold(scores, 0.1, disturbed=copies).threshold < CAREFUL


def test_what_scores_exactly_the_threshold_reaches_it() -> None:
    scores = sorted(spaced(60, 0.1, 0.4))
    probed = choose_threshold(scores, 0.01, probes=[just_above(scores[57])] * 9)
    assert scores[53] < probed.threshold <= just_above(scores[57]) and probed.miss_rate == 0

    good = sorted(spaced(19, 0.1, 0.4))
    good[18] = just_above(good[17])
    assert choose_threshold(good, 0.1).threshold == good[18]
    assert choose_threshold(good, 0.1).highest_rate == upper_bound(1, 19)


# ---------------------------------------------------------------- unusual scores


def test_a_few_outliers_among_good_photographs_do_not_raise_the_threshold() -> None:
    scores = spaced(40, 0.3, 0.45)
    clean = choose_threshold(scores)
    found = choose_threshold([*scores, 0.9, 0.97])
    assert found.threshold == clean.threshold and found.review_threshold == clean.review_threshold
    assert found.n == 42 and found.highest_rate == upper_bound(2, 42) > clean.highest_rate  # they are false alarms


def test_unusual_scores_are_named_wherever_they_stand() -> None:
    scores = [0.9, *spaced(20, 0.3, 0.4), 0.99]
    assert np.flatnonzero(unusual(scores)).tolist() == [0, 21]
    assert not unusual(spaced(50, 0.3, 0.45)).any() and not unusual([0.5] * 9).any() and not unusual([0.0] * 9).any()


def test_scores_that_crowd_below_1_are_compared_as_limits() -> None:
    crowded = [0.98 + 0.0005 * i for i in range(20)]  # 49 to 95 limits
    assert not unusual(crowded).any()
    assert unusual([*crowded, 0.998]).tolist() == [False] * 20 + [True]  # 499


def test_equal_scores_leave_room_for_a_little_difference() -> None:
    assert unusual([0.5] * 9 + [0.53]).tolist() == [False] * 10
    assert unusual([0.5] * 9 + [0.6]).tolist() == [False] * 9 + [True]


# ---------------------------------------------------------------- what the threshold means


@pytest.mark.parametrize(
    ("reached", "n", "percent"), [(0, 40, 7.2), (0, 267, 1.1), (2, 267, 2.3), (0, 4, 52.7), (4, 4, 100.0)]
)
def test_the_upper_bound_is_that_of_clopper_and_pearson(reached: int, n: int, percent: float) -> None:
    assert round(100 * upper_bound(reached, n), 1) == percent


@pytest.mark.parametrize("n", [5, 40, 300])
def test_the_upper_bound_rises_with_false_alarms_and_falls_with_photographs(n: int) -> None:
    bounds = [upper_bound(reached, n) for reached in range(n + 1)]
    assert bounds == sorted(bounds) and bounds[-1] == 1 and all(b > r / n for r, b in enumerate(bounds[:-1]))
    assert bounds[0] == pytest.approx(1 - 0.05 ** (1 / n)) and bounds[0] > upper_bound(0, n + 1)


def test_the_expected_rate_counts_the_scores_above_and_never_says_none() -> None:
    scores = [0.1, 0.2, 0.3, 0.4, 0.5]
    found = [expected_false_alarm_rate(scores, at) for at in (0.0, 0.1, 0.15, 0.3, 0.5, just_above(0.5), 0.9, 1.0)]
    assert found == [1, 1, 5 / 6, 4 / 6, 2 / 6, 1 / 6, 1 / 6, 1 / 6]


@pytest.mark.parametrize(
    "n, rate",
    [(9, 0.1), (9, 0.25), (20, 0.05), (20, 0.5), (99, 0.01), (99, 0.02), (219, 0.01), (219, 0.1), (1000, 0.01)],
)
def test_the_expected_rate_at_the_threshold_is_the_stated_one_rounded_down(n: int, rate: float) -> None:
    scores = spaced(n, high=0.5)
    result = choose_threshold(scores, rate)
    reached = sum(score >= result.threshold for score in scores)
    found = expected_false_alarm_rate(scores, result.threshold)
    assert rate - 1 / (n + 1) < found == (reached + 1) / (n + 1) <= rate + 1e-12


@pytest.mark.parametrize("n", [4, 12, 130])
def test_the_expected_rate_never_rises_with_the_threshold(n: int) -> None:
    scores = spaced(n)
    for values in (scores, [0.2] * n, [0.0, *scores[1:]], [1.0, *scores[1:]]):
        rates = [expected_false_alarm_rate(values, at) for at in np.linspace(0, 1, 401)]
        assert rates == sorted(rates, reverse=True)
        assert rates[0] == 1 and 0 < rates[-1] <= (1 + (max(values) == 1)) / (n + 1)


# ---------------------------------------------------------------- refusals


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


@pytest.mark.parametrize("bad", [1.5, math.nan])
def test_scores_of_copies_and_probes_are_checked_too(bad: float) -> None:
    good = [0.1, 0.2, 0.3, 0.4]
    with pytest.raises(DataError, match=r"scores in \[0, 1\]"):
        choose_threshold(good, disturbed=[bad])
    with pytest.raises(DataError, match=r"scores in \[0, 1\]"):
        choose_threshold(good, probes=[bad])


def test_the_expected_rate_needs_photographs() -> None:
    with pytest.raises(DataError, match="at least 4 normal photographs, got 3"):
        expected_false_alarm_rate([0.1, 0.2, 0.3], 0.5)
    assert expected_false_alarm_rate([0.1, 0.2, 0.3, 0.3], 0.25) == 3 / 5
