"""Predictions are kept under tokens that nobody guesses, within a bound of memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stlm_hub.predict.prediction import Prediction
from stlm_page.kept import Kept, KeptPredictions


@pytest.fixture
def kept(make_prediction: Callable[..., Prediction]) -> Kept:
    return Kept(make_prediction(), "sample-brick", "crack", 0.1)


def test_bytes_are_those_of_photograph_and_map(kept: Kept) -> None:
    assert kept.bytes == 60 * 80 * (3 + 4)


def test_tokens_differ_and_lead_to_their_prediction(kept: Kept) -> None:
    predictions = KeptPredictions()
    tokens = [predictions.put(kept) for _ in range(50)]
    other = Kept(kept.prediction, "mvtec-bottle", "hole", 0.2)
    token = predictions.put(other)
    assert len({*tokens, token}) == 51 and min(map(len, tokens)) >= 16
    assert predictions.get(token) is other and predictions.get(tokens[0]) is kept


def test_the_oldest_is_dropped_first(kept: Kept) -> None:
    predictions = KeptPredictions(max_bytes=3 * kept.bytes)
    tokens = [predictions.put(kept) for _ in range(4)]
    assert [predictions.get(token) is not None for token in tokens] == [False, True, True, True]


def test_looking_at_a_prediction_makes_it_young(kept: Kept) -> None:
    predictions = KeptPredictions(max_bytes=2 * kept.bytes)
    first, second = predictions.put(kept), predictions.put(kept)
    predictions.get(first)
    third = predictions.put(kept)
    assert predictions.get(second) is None
    assert predictions.get(first) is kept and predictions.get(third) is kept


def test_the_newest_stays_even_if_it_alone_is_too_large(kept: Kept) -> None:
    predictions = KeptPredictions(max_bytes=1)
    first, second = predictions.put(kept), predictions.put(kept)
    assert predictions.get(first) is None and predictions.get(second) is kept


def test_a_replaced_prediction_is_dropped_at_once(kept: Kept) -> None:
    predictions = KeptPredictions()
    first = predictions.put(kept)
    bystander = predictions.put(kept)
    second = predictions.put(kept, replaces=first)
    assert predictions.get(first) is None
    assert predictions.get(bystander) is kept and predictions.get(second) is kept


@pytest.mark.parametrize("token", [None, "", "guessed"])
def test_a_wrong_token_gives_nothing(kept: Kept, token: str | None) -> None:
    predictions = KeptPredictions()
    predictions.put(kept)
    assert predictions.get(token) is None
