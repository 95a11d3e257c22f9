"""The stated false-alarm rate holds, and a change is found."""

from __future__ import annotations

import random

import pytest

from stlm_hub.line import drift as module
from stlm_hub.line.drift import ADVICE, Drift, Ranks, Share
from stlm_hub.line.row import Row
from stlm_hub.model_folder.zoo import CHECKOUT
from stlm_hub.models.stlm.judging import Judging


def row(score: float, verdict: str = "pass", unfamiliarity: float = 0.5) -> Row:
    return Row("0", "x", "", verdict, score, 0.5, 0.4, unfamiliarity)


def first_alarm(seed: int, change: float, n: int, every: int = 1000) -> tuple[int, str | None]:
    source = random.Random(seed)
    drift = Drift(Judging(normal_scores=tuple(source.gauss(0.25, 0.03) for _ in range(100))), false_alarm_every=every)
    for i in range(n):
        shift = change if i >= 300 else 0.0
        said = drift.add(row(source.gauss(0.25 + shift, 0.03), unfamiliarity=source.uniform(0.3, 0.7)))
        if said:
            return i, said
    return n, None


def test_false_alarms_are_as_rare_as_stated() -> None:
    """Runs are cut at `n`, which only lowers the mean; it must still be at least what is stated."""
    runs = [first_alarm(seed, 0.0, 3000, every=100)[0] for seed in range(20)]
    assert sum(runs) / len(runs) >= 100


def test_risen_scores_are_found_within_a_hundred_photographs() -> None:
    found = [first_alarm(seed, 0.06, 1000) for seed in range(5)]
    assert all(300 < when < 400 and said == ADVICE["scores"] for when, said in found), found


def test_a_lens_that_is_dirty_from_the_first_photograph_is_found() -> None:
    source = random.Random(0)
    usual = tuple(source.uniform(0.3, 0.7) for _ in range(100))
    calibrated, before = (Drift(Judging(normal_unfamiliarity=known), false_alarm_every=1000) for known in (usual, ()))
    rows = [row(0.25, unfamiliarity=source.uniform(0.6, 0.9)) for _ in range(100)]
    assert ADVICE["familiarity"] in [calibrated.add(one) for one in rows]
    assert not any(before.add(one) for one in rows), "it has nothing to compare with"
    clean = Drift(Judging(normal_unfamiliarity=usual), false_alarm_every=1000)
    assert not any(clean.add(row(0.25, unfamiliarity=source.uniform(0.3, 0.7))) for _ in range(500))


def test_rejects_and_unfamiliar_photographs_are_told_apart() -> None:
    for verdict, word in (("reject", "rejects"), ("unfamiliar", "unfamiliar")):
        drift = Drift(Judging(normal_scores=(0.25,) * 60))
        said = [drift.add(row(0.9, verdict, 0.0)) for _ in range(60)]
        assert ADVICE[word] in said and sum(map(bool, said)) == 1  # and it is quiet afterwards


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("pass", ("familiarity", "scores")),
        ("reject", ("familiarity", "rejects")),
        ("unfamiliar", ("unfamiliar", "familiarity")),
    ],
)
def test_tests_that_alarm_at_one_photograph_are_all_told(
    monkeypatch: pytest.MonkeyPatch, verdict: str, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(Ranks, "add", lambda self, value: True)
    monkeypatch.setattr(Share, "add", lambda self, happened: happened)
    said = Drift(Judging()).add(row(0.25 if verdict == "pass" else 0.9, verdict))
    assert said == " ".join(ADVICE[word] for word in words)


def test_p_values_are_uniform_while_nothing_changes() -> None:
    source = random.Random(0)
    ranks = Ranks([source.random() for _ in range(50)], 1e9)
    values = []
    for _ in range(2000):
        value = round(source.random(), 1)  # with ties
        values.append(ranks.p_value(value))
        ranks.add(value)
    assert abs(sum(values) / 2000 - 0.5) < 0.03 and 0.07 < sum(v < 0.1 for v in values) / 2000 < 0.14


def test_more_calibration_scores_than_are_kept_make_no_false_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REFERENCE", 500)
    source = random.Random(0)
    # In the order of photographs, whose light was changed once: no part of them stands for all.
    scores = [source.gauss(0.2 if i < 1000 else 0.3, 0.02) for i in range(2000)]
    ranks, again = Ranks(scores, 10_000, seed=1), Ranks(scores, 10_000, seed=1)
    assert len(ranks.known) == 500 and ranks.known == again.known
    assert abs(sum(score < 0.25 for score in ranks.known) / 500 - 0.5) < 0.1
    line = [source.choice(scores) for _ in range(2000)]
    assert abs(sum(map(ranks.p_value, line)) / 2000 - 0.5) < 0.05
    assert not any(ranks.add(score) for score in line)


# Not of the bottle: since lifts are taken off, other light hardly moves its scores.
@pytest.mark.parametrize("alias", ["mvtec-grid", "mvtec-pill", "mvtec-screw", "sample-brick"])
def test_what_a_model_of_the_zoo_says_of_other_light_is_drift_and_of_its_own_photographs_is_none(alias: str) -> None:
    """Scores of good photographs, then of the same ones as other light and another lens show them."""
    judging = Judging.load(CHECKOUT / "model_cards" / alias / "calibration.json")
    source = random.Random(0)
    usual, disturbed = list(judging.normal_scores), list(judging.disturbed_scores)

    def alarm(drift: Drift, scores: list[float]) -> int | None:
        for i in range(500):
            score = source.choice(scores)
            if drift.add(row(score, "reject" if score >= judging.threshold else "pass", 0.0)):
                return i
        return None

    drift = Drift(judging)
    assert alarm(drift, usual) is None
    found = alarm(drift, disturbed)
    assert found is not None and found < 200
