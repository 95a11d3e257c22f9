"""The two sliders under a verdict: the threshold, and the score from which photographs are for review."""

from __future__ import annotations

from typing import Any

import gradio as gr

from stlm_hub.models.stlm.judging import Judging
from stlm_hub.predict.prediction import Prediction

STEP, STEP_DIGITS = 0.001, 3


def build() -> tuple[gr.Slider, gr.Slider]:
    """Lays out threshold and review threshold, hidden until there is a verdict."""
    threshold = _slider("Threshold: a score at or above it is judged anomalous", "threshold")
    return threshold, _slider("Review: a score from here to the threshold is worth a second look", "review")


def shown(prediction: Prediction) -> list[dict[str, Any]]:
    """Updates that put both sliders on the thresholds of a prediction."""
    review = prediction.threshold if prediction.review_threshold is None else prediction.review_threshold
    return [gr.update(value=round(at, STEP_DIGITS), visible=True) for at in (prediction.threshold, review)]


def meant(threshold: float, review: float | None, judging: Judging) -> tuple[float, float | None]:
    """The thresholds that the sliders stand for.

    They move in steps: where one stands on the calibrated threshold, exactly that one is meant. A review threshold
    above the other is the other; without one it moves with the other.
    """
    threshold = _unrounded(threshold, judging.threshold)
    return threshold, None if review is None else min(threshold, _unrounded(review, judging.review_threshold))


def _unrounded(slider: float, calibrated: float) -> float:
    return calibrated if abs(slider - calibrated) <= STEP / 2 else slider


def _slider(label: str, name: str) -> gr.Slider:
    return gr.Slider(0, 1, value=0.5, step=STEP, label=label, elem_id=name, visible=False)
