"""Outlines as callers ask for them and as models choose; without Segment Anything a model's choice fails no verdict."""

from __future__ import annotations

import builtins
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stlm_hub.errors import ConfigError, ImageError, OutlineWarning, WeightsError
from stlm_hub.predict.prediction import Prediction, Unusable
from stlm_hub.zero_shot import as_chosen, refine
from stlm_hub.zero_shot.as_chosen import all_outlined, outlined


def judged(score: float = 0.9) -> Prediction:
    anomaly_map = np.zeros((20, 30), np.float32)
    anomaly_map[5:15, 5:15] = score
    return Prediction(np.zeros((20, 30, 3), np.uint8), anomaly_map, score, 0.5)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(as_chosen, "_missing", "")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Prediction]:
    """Predictions that were refined: each loses its mask."""
    found: list[Prediction] = []

    def refined(prediction: Prediction) -> Prediction:
        found.append(prediction)
        return Prediction(prediction.image, prediction.anomaly_map * 0, prediction.score, prediction.threshold)

    monkeypatch.setattr(refine, "refined", refined)
    return found


@pytest.mark.parametrize(
    ("wanted", "chosen", "refines"),
    [
        (None, None, False),
        (None, False, False),
        (None, True, True),
        (True, None, True),
        (True, False, True),
        (False, True, False),
    ],
)
def test_a_caller_overrules_the_model(
    wanted: bool | None, chosen: bool | None, refines: bool, asked: list[Prediction]
) -> None:
    (found,) = all_outlined([judged()], wanted, chosen)
    assert (len(asked), found.mask.any()) == (int(refines), not refines)


def test_only_what_is_rejected_is_outlined_and_what_is_unusable_passes(asked: list[Prediction]) -> None:
    broken = Unusable("x.png", ImageError("x.png is no photograph."))
    found = list(outlined([judged(0.2), broken, judged()], None, True))
    assert found[1] is broken and len(asked) == 1 and found[0].score == 0.2  # type: ignore[union-attr]


def without_weights(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    tried: list[int] = []

    def refined(prediction: Prediction) -> Prediction:
        tried.append(1)
        raise WeightsError("They are nowhere; get them with: stlm weights fetch")

    monkeypatch.setattr(refine, "refined", refined)
    return tried


def without_torch(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    tried: list[int] = []
    usual = builtins.__import__

    def fail(name: str, *rest: Any, **more: Any) -> Any:
        if name == "torch":
            tried.append(1)
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return usual(name, *rest, **more)

    for name in ("refine", "cascade", "point_prompts"):
        monkeypatch.delitem(sys.modules, f"stlm_hub.zero_shot.{name}", raising=False)
    monkeypatch.setattr(builtins, "__import__", fail)
    return tried


@pytest.mark.parametrize(
    ("missing", "says", "error"),
    [(without_weights, "stlm weights fetch", WeightsError), (without_torch, r"stlm_hub\[torch\]", ConfigError)],
)
def test_where_it_is_not_to_be_had_a_choice_warns_once_and_a_wish_ends_in_a_sentence(
    missing: Callable[[pytest.MonkeyPatch], list[int]],
    says: str,
    error: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = missing(monkeypatch)
    with pytest.warns(OutlineWarning, match=says) as told:
        found = all_outlined([judged(), judged()], None, True)
    assert len(told) == 1 and all(one.mask.any() and one.verdict == "reject" for one in found)
    once = len(tried)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all_outlined([judged()], None, True)[0].mask.any()
    assert len(tried) == once >= 1  # a download is not tried for each photograph
    with pytest.raises(error, match=says):
        all_outlined([judged()], True, None)


def test_after_a_wish_was_fulfilled_choices_are_followed_again(
    monkeypatch: pytest.MonkeyPatch, asked: list[Prediction]
) -> None:
    monkeypatch.setattr(as_chosen, "_missing", "They were nowhere.")
    assert all_outlined([judged()], None, True)[0].mask.any() and not asked
    all_outlined([judged()], True, None)
    assert not all_outlined([judged()], None, True)[0].mask.any() and len(asked) == 2
