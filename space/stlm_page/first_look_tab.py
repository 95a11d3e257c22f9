"""First look: a photograph judged by one to five good ones, or by the name of the part alone."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from functools import lru_cache, partial
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from stlm_hub.errors import ConfigError, ImageError
from stlm_hub.predict.images import load_image
from stlm_hub.predict.prediction import VERDICTS, Prediction
from stlm_hub.zero_shot.windows import at_sams_scale

from .errors import user_errors
from .events import PRIVATE, SILENT
from .fields import compare_field, outline_field, photo_field
from .pictures import empty_verdict, pictures, verdict_heading
from .scale import score_scale
from .slots import PHOTOGRAPHS
from .uploads import Upload, file_field, uploaded_name, uploaded_path, uploads
from .worker import ON_ZERO_GPU

if TYPE_CHECKING:
    from stlm_hub.zero_shot.detector import ZeroShot
    from stlm_hub.zero_shot.references import References

FEW, WORDS = "one to five photographs of good parts", "the name of the part: CLIP compares with words"
CLIP_WEIGHTS = "STLM_CLIP_WEIGHTS"
"""Environment variable that names CLIP's weights. No visitor makes the page download 1.7 GB."""
NO_CLIP = (
    "This page cannot compare with words: CLIP's weights are not here. Whoever runs it sets "
    f"`{CLIP_WEIGHTS}=hf-hub:timm/"
    "vit_large_patch14_clip_336.openai`, or to the path of a safetensors file, and starts it again."
)
UNTRIED = "Words were not measured with real weights of CLIP yet; take a verdict as a hint."
MAX_PART = 80  # characters of a part's name
WAITING = "Add a photograph, and say what a good part looks like. The verdict appears here."
_WHY = """
**For few or no photographs of good parts.** The model above takes no part in this, and nothing is calibrated: how many
good parts are rejected is not known. From 8 photographs on, "Your part" makes a model that knows.
"""
_DEVICE = "cpu" if ON_ZERO_GPU else None  # a slice of ZeroGPU loses what it loads


def build() -> None:
    """Lays out the tab and wires its events."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            gr.Markdown(_WHY)
            photo = photo_field("Photograph to judge", "few-photo")
            by = gr.Radio([FEW, WORDS], value=FEW, label="Compare with", elem_id="few-by")
            good = file_field("One to five photographs of good parts", "few-good")
            with gr.Column(visible=False) as words:
                part = gr.Textbox(
                    label="Name of the part", placeholder="bottle", max_lines=1, max_length=MAX_PART, elem_id="few-part"
                )
                gr.Markdown(UNTRIED if os.environ.get(CLIP_WEIGHTS) else NO_CLIP, elem_id="few-clip")
            start = gr.Button("Judge", variant="primary", elem_id="few-start")
        with gr.Column(scale=3, min_width=300):
            verdict = gr.HTML(empty_verdict(WAITING), elem_id="few-verdict", padding=False)
            compare = compare_field("few-compare")
            outline = outline_field("few-outline")
    by.change(
        lambda choice: [gr.update(visible=choice == FEW), gr.update(visible=choice == WORDS)],
        by,
        [good, words],
        queue=False,
        **SILENT,
    )
    shown = [verdict, compare, outline]
    photo.change(_nothing, None, shown, queue=False, **SILENT)  # no verdict stays beside another photograph
    start.click(
        judge_without_model,
        [photo, by, good, part],
        shown,
        preprocess=False,
        concurrency_limit=1,  # of all visitors together: seconds to minutes of the processor
        show_progress_on=[verdict],
        **PRIVATE,
    )


@user_errors
def judge_without_model(
    photo: dict[str, Any] | None, by: str, good: list[dict[str, Any]] | None, part: str
) -> list[Any]:
    """Judges one photograph by a few good ones, or by the name of its part."""
    if by not in (FEW, WORDS):
        raise ConfigError("Choose what to compare with.")
    if photo is None:
        raise ImageError("Add a photograph to judge first.")
    path, name = uploaded_path(photo), uploaded_name(photo)
    judge, note = _by_words(part) if by == WORDS else _by_references(good)
    with PHOTOGRAPHS.one():
        image = load_image(path, name=name)
    started = time.perf_counter()
    prediction = judge(image)  # outside of a slot: there is one such event at a time, and it takes long
    seconds = time.perf_counter() - started
    with PHOTOGRAPHS.one():
        drawn = pictures(prediction)
    return [
        _verdict(prediction, note, seconds),
        gr.update(value=(drawn.photograph, drawn.heatmap), visible=True),
        gr.update(value=drawn.outline, visible=True),
    ]


def _nothing() -> list[Any]:
    return [empty_verdict(WAITING), gr.update(visible=False), gr.update(visible=False)]


def _by_words(part: str) -> tuple[Callable[[np.ndarray], Prediction], str]:
    part = (part or "").strip()
    if len(part) > MAX_PART:
        raise ConfigError(f"Name the part in a few words, at most {MAX_PART} characters.")
    weights = os.environ.get(CLIP_WEIGHTS)
    if not weights:
        raise ConfigError(NO_CLIP)
    detector = clip(weights)
    return partial(detector.predict, part=part or None), "At 0.5 words for good and for damaged parts fit equally well."


def _by_references(good: list[dict[str, Any]] | None) -> tuple[Callable[[np.ndarray], Prediction], str]:
    from stlm_hub.zero_shot.references import check_number

    found = uploads(good)
    check_number(len(found))
    detector = references(tuple(found))
    return detector.predict, detector.limit_is


@lru_cache(1)
def clip(weights: str) -> ZeroShot:
    """CLIP with these weights, for all visitors; what fails is tried again."""
    try:
        from stlm_hub.zero_shot.detector import ZeroShot
    except ImportError as error:
        raise ConfigError(f'Zero-shot needs {error.name}: pip install "stlm_hub[zero-shot]"') from None
    return ZeroShot.from_pretrained(weights, device=_DEVICE)


@lru_cache(4)  # a visitor judges several photographs by the same good ones
def references(good: tuple[Upload, ...]) -> References:
    """What a few good photographs show; a minute of one processor's core."""
    from stlm_hub.zero_shot.references import References

    images = []
    for upload in good:
        with PHOTOGRAPHS.one():
            images.append(at_sams_scale(load_image(upload.read(), name=upload.name)))
    return References(images, device=_DEVICE)


def _verdict(prediction: Prediction, note: str, seconds: float) -> str:
    _, meaning = VERDICTS[prediction.verdict]
    height, width = prediction.anomaly_map.shape
    marked = (
        f" {100 * prediction.mask.mean():.1f} % of it is marked." if prediction.mask.any() else " Nothing is marked."
    )
    return (
        f"{verdict_heading(prediction)}"
        f"<p>{meaning} Anomaly score {prediction.score:.3f}, limit {prediction.threshold:g}.{marked} {escape(note)}</p>"
        f"{score_scale([], prediction.threshold, prediction.score)}"
        f'<p class="small">Judged in {math.ceil(seconds)} s; {width} x {height} px.</p></section>'
    )
