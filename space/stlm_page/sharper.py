"""Inspect: outlines with the edges that Segment Anything finds, for visitors who want to wait for them."""

from __future__ import annotations

import dataclasses
from html import escape

import gradio as gr

from stlm_hub.errors import WeightsError
from stlm_hub.predict.prediction import Prediction, found_mask
from stlm_hub.zero_shot.refine import refine_map
from stlm_hub.zero_shot.segment import segment_anything

from .kept import Kept
from .models import LoadedModel
from .slots import PHOTOGRAPHS
from .worker import in_turn

SHARPER = "Sharper outline, by Segment Anything: about 4 s more"  # of one core: benchmarks/refine.py


def starts_sharp(model: LoadedModel) -> bool:
    """Whether the switch begins as on: the model chose so, and Segment Anything is to be had here."""
    if not model.network.judging.refine:
        return False
    try:
        segment_anything()
    except WeightsError as error:
        gr.Warning(escape(f"This model wants sharper outlines, which cannot be had here. {error}", quote=False))
        return False
    return True


def sharper_if(wanted: bool, kept: Kept, prediction: Prediction) -> Prediction:
    """The prediction with sharp edges, where they are wanted and there is a defect to outline.

    The map is refined once for each photograph; another threshold outlines the same map elsewhere.

    Args:
        wanted: what the switch says.
        kept: what is kept of the photograph.
        prediction: the one of `kept` at some threshold.
    """
    if not wanted or prediction.verdict != "reject":
        return prediction
    try:
        sam = segment_anything()  # a download keeps only this visitor waiting
    except WeightsError as error:  # the plain outline is as good as without the switch
        gr.Warning(escape(str(error), quote=False))
        return prediction
    with kept.sharpening:
        if kept.sharp_map is None:
            with PHOTOGRAPHS.one():
                kept.sharp_map = in_turn(
                    lambda: refine_map(prediction.image, prediction.anomaly_map, prediction.threshold, sam)
                )
    mask = found_mask(kept.sharp_map, prediction.score, prediction.threshold, prediction.minimum_area)
    return dataclasses.replace(prediction, anomaly_map=kept.sharp_map, mask=mask)
