"""The switch for sharper outlines: Segment Anything runs once for a photograph, and only where it has to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from gradio.processing_utils import save_file_to_cache

from stlm_hub.errors import WeightsError
from stlm_hub.predict.prediction import Prediction
from stlm_page import inspect_tab, sharper
from stlm_page.judge import MODELS
from stlm_page.kept import Kept
from stlm_page.sharper import sharper_if, starts_sharp

Make = Callable[..., Prediction]


@pytest.fixture
def refined(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Thresholds at which maps were refined: each map becomes one whose defect is a column wide."""
    thresholds: list[float] = []

    def refine_map(image: np.ndarray, anomaly_map: np.ndarray, threshold: float, sam: object) -> np.ndarray:
        assert sam == "sam" and image.shape[:2] == anomaly_map.shape
        thresholds.append(threshold)
        found = np.full_like(anomaly_map, 0.001)
        found[:, 7] = 0.8
        return found

    monkeypatch.setattr(sharper, "segment_anything", lambda: "sam")
    monkeypatch.setattr(sharper, "refine_map", refine_map)
    return thresholds


def test_a_map_is_refined_once_and_outlined_at_every_threshold(make_prediction: Make, refined: list[float]) -> None:
    kept = Kept(make_prediction(), "sample-brick", "crack", 0.1)
    plain = kept.bytes
    first = sharper_if(True, kept, kept.prediction)
    assert first.mask.sum() == 60 and first.mask[:, 7].all() and first.score == kept.prediction.score
    again = sharper_if(True, kept, kept.prediction.with_threshold(0.85))
    assert again.threshold == 0.85 and not again.mask.any() and refined == [0.5]
    assert kept.bytes == plain + 4 * 60 * 80  # which counts towards the bound
    assert sharper_if(False, kept, kept.prediction) is kept.prediction


def test_where_nothing_is_outlined_nothing_is_refined(make_prediction: Make, refined: list[float]) -> None:
    good = make_prediction(score=0.2)
    assert sharper_if(True, Kept(good, "sample-brick", "good", 0.1), good) is good
    strange = make_prediction(unfamiliarity=2.0)
    assert sharper_if(True, Kept(strange, "sample-brick", "cat", 0.1), strange) is strange
    assert refined == []


@pytest.mark.parametrize(("refine", "on"), [(None, False), (False, False), (True, True)])
def test_the_switch_begins_as_the_model_chose(
    refine: bool | None, on: bool, own_model: str, photographs: Path, refined: list[float], page_cache: Path
) -> None:
    model = MODELS.get(own_model)
    before = model.network.judging
    model.network.judging = before.replace(refine=refine)
    path = save_file_to_cache(photographs / "crack.png", str(page_cache))
    photo = {"path": path, "orig_name": "crack.png"}
    try:
        first, _ = inspect_tab.inspect(photo, own_model, 0.5, 0.5, None, False, "")
        assert first[-2:] == [{"value": on, "__type__": "update"}, own_model]
        kept, _ = inspect_tab.inspect(photo, own_model, 0.5, 0.5, None, not on, own_model)  # the visitor's wish stays
        assert kept[-2:] == [gr.skip(), own_model]
    finally:
        model.network.judging = before


def test_a_choice_that_cannot_be_followed_leaves_the_switch_off(
    own_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> Any:
        raise WeightsError("There are none; get them with: stlm weights fetch")

    said: list[str] = []
    monkeypatch.setattr(sharper, "segment_anything", missing)
    monkeypatch.setattr(sharper.gr, "Warning", said.append)
    model = MODELS.get(own_model)
    assert not starts_sharp(model) and said == []
    chosen = SimpleNamespace(network=SimpleNamespace(judging=model.network.judging.replace(refine=True)))
    assert not starts_sharp(chosen) and "stlm weights fetch" in said[0]  # type: ignore[arg-type]


def test_without_weights_the_plain_outline_stays(make_prediction: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise WeightsError("There are no <weights>; get them with: stlm weights fetch")

    said: list[str] = []
    monkeypatch.setattr(sharper, "segment_anything", missing)
    monkeypatch.setattr(sharper.gr, "Warning", said.append)
    kept = Kept(make_prediction(), "sample-brick", "crack", 0.1)
    assert sharper_if(True, kept, kept.prediction) is kept.prediction
    assert said == ["There are no &lt;weights&gt;; get them with: stlm weights fetch"]
