"""Inspect: one photograph in, verdict, heatmap and outline out; other thresholds re-judge without the model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from stlm_hub.predict.images import read_picture
from stlm_hub.predict.prediction import Prediction, noted

from . import correction, sliders
from .errors import user_errors
from .events import PRIVATE, SILENT
from .fields import compare_field, outline_field, photo_field
from .judge import MODELS, judge
from .kept import Kept, KeptPredictions
from .models import LoadedModel
from .pictures import (
    empty_verdict,
    facts,
    mask_png,
    panel_png,
    pictures,
    threshold_words,
    verdict,
    verdict_json,
)
from .sharper import SHARPER, sharper_if, starts_sharp
from .slots import PHOTOGRAPHS
from .uploads import uploaded_name, uploaded_path

KEPT = KeptPredictions()
WAITING = "Add a photograph, or click one of the examples. The verdict appears here."
FAILED = "There is no verdict for this photograph; the message says why."
LEGEND = (
    "Orange to yellow: at or above the threshold. Blue: below it. Plain photograph: far below it. The colours mean the "
    "same on every photograph."
)
TO_PHOTOGRAPH = """() => {
  const top = document.getElementById("verdict").getBoundingClientRect().top;
  const hidden = top < 0 || top > innerHeight;
  if (hidden || matchMedia("(max-width: 640px)").matches) document.getElementById("photo").scrollIntoView();
}"""
SUFFIXES_HINT = "PNG, JPEG, WebP, BMP, TIFF or HEIC, up to 40 megapixels"


@dataclass(frozen=True)
class Judged:
    """What a visitor's page shows at the moment."""

    model: str
    path: str  # of the photograph in the page's cache
    token: str  # of the kept prediction


@dataclass(frozen=True)
class InspectTab:
    """Events that the rest of the page sets off, as keyword arguments."""

    run: dict[str, Any]  # keyword arguments of the event that judges the photograph
    files: dict[str, Any]  # and of those that follow it: the files to download; nothing, after an error
    failed: dict[str, Any]


def build(model: gr.Dropdown, examples: list[tuple[Path, str]], example_model: str) -> InspectTab:
    """Lays out the tab and wires its events.

    Args:
        model: the page's list of models.
        examples: photographs to click, with captions.
        example_model: which model they belong to.
    """
    judged = gr.State(None)
    switched = gr.State("")  # the model that the switch of outlines began with
    with gr.Row(equal_height=False, elem_id="inspect-row"):
        with gr.Column(min_width=300):
            photo = photo_field("Photograph", "photo")
        with gr.Column(min_width=300, elem_id="inspect-result"):
            words = gr.HTML(empty_verdict(WAITING), elem_id="verdict", padding=False)
            threshold, review = sliders.build()
            rate = gr.Markdown("", elem_id="rate")
            compare = compare_field("compare")
            legend = gr.Markdown(LEGEND, visible=False, elem_classes="hint")
            outline = outline_field("outline")
            with gr.Column(visible=False) as downloads:
                sharp = gr.Checkbox(False, label=SHARPER, elem_id="sharper")
                with gr.Row():
                    files = [
                        gr.DownloadButton(text, size="sm", elem_id=f"download-{kind}")
                        for kind, text in (("panel", "Panel (PNG)"), ("mask", "Mask (PNG)"), ("json", "Verdict (JSON)"))
                    ]
                correct = correction.build(_shown, [judged, threshold, review, sharp])
        with gr.Column(min_width=300):  # below the photograph, but on a phone below its verdict: see the style sheet
            gr.Markdown(f"{SUFFIXES_HINT}. Files are deleted within an hour.", elem_classes="hint")
            if examples:
                gr.Markdown(f"Examples for `{example_model}`: click one.", elem_classes="hint")
                gallery = gr.Gallery(
                    [(str(path), caption) for path, caption in examples],
                    label="Examples",
                    show_label=False,
                    columns=3,
                    height=None,
                    allow_preview=False,
                    interactive=False,
                    buttons=[],
                    elem_id="examples",
                )

    shown = [judged, words, threshold, review, rate, compare, outline, legend, downloads]
    run: dict[str, Any] = {"fn": inspect, "inputs": [photo, model, threshold, review, judged, sharp, switched]}
    run |= {"outputs": [*shown, sharp, switched], **PRIVATE}
    run |= {"preprocess": False, "concurrency_id": "model"}
    write: dict[str, Any] = {"fn": prepare_files, "inputs": [judged, threshold, review, sharp]}
    write |= {"outputs": [downloads, *files], **SILENT}
    failed: dict[str, Any] = {"fn": no_verdict, "inputs": None, "outputs": shown, **SILENT}
    judging = photo.change(**run, show_progress="full", show_progress_on=[words], trigger_mode="always_last")
    judging.failure(**failed)
    judging.success(**write)
    photo.change(**correct.close)
    photo.change(None, js=TO_PHOTOGRAPH, **SILENT)  # its verdict is then in view, wherever it came from
    again: dict[str, Any] = {"fn": judge_again, "inputs": [judged, threshold, review, sharp], "concurrency_limit": 2}
    again |= {"outputs": [review, words, rate, compare, outline], "trigger_mode": "always_last", **PRIVATE}
    moved = again | {"fn": move_threshold, "inputs": [judged, threshold, sharp]}
    threshold.input(**moved, show_progress="hidden").success(**write, trigger_mode="always_last")
    review.input(**again, show_progress="hidden").success(**write, trigger_mode="always_last")
    sharp.input(**again, show_progress_on=[outline]).success(**write, trigger_mode="always_last")
    if examples:
        paths = [str(path) for path, _ in examples]

        def choose(event: gr.SelectData) -> tuple[str, str]:
            return paths[event.index], example_model

        gallery.select(choose, None, [photo, model], queue=False, **SILENT)
    return InspectTab(run, write, failed)


@user_errors
def inspect(
    photo: dict[str, Any] | None,
    name: str,
    threshold: float,
    review: float,
    judged: Judged | None,
    sharp: bool,
    switched: str,
) -> Iterator[list[Any]]:
    """Judges the photograph unless that was just done; thresholds that were moved stay while the model does.

    The switch of outlines begins as the model chose, and is the visitor's until there is another model.

    Yields what the tab shows: the verdict first, then the pictures, which take longer to draw.
    """
    if photo is None:
        if judged is not None:
            KEPT.drop(judged.token)
        yield [*_nothing(WAITING), gr.skip(), gr.skip()]
        return
    path = uploaded_path(photo)
    if judged is not None and (judged.model, judged.path) == (name, str(path)) and KEPT.get(judged.token):
        yield [gr.skip()] * 11
        return
    model = MODELS.get(name)
    sharp = sharp if switched == name else starts_sharp(model)
    title = Path(uploaded_name(photo)).stem
    with PHOTOGRAPHS.one():
        picture = read_picture(path, name=uploaded_name(photo), bits=model.network.judging.bits)
        started = time.perf_counter()
        prediction = noted(judge(name, [picture.image])[0], picture.notes)
    kept = Kept(prediction, name, title, time.perf_counter() - started)
    token = KEPT.put(kept, replaces=judged.token if judged else None)
    if judged is not None and judged.model == name:
        both = [gr.update(visible=True)] * 2
        prediction = prediction.with_threshold(*sliders.meant(threshold, review, model.network.judging))
    else:
        both = sliders.shown(prediction)
    words = [verdict(prediction, model, kept.seconds), *both, threshold_words(model, prediction.threshold)]
    switch = gr.skip() if switched == name else gr.update(value=sharp)
    now = Judged(name, str(path), token)
    yield [now, *words, *[gr.skip()] * 3, gr.update(visible=False), switch, name]
    drawn = _pictures(sharper_if(sharp, kept, prediction))
    yield [*[gr.skip()] * 5, *drawn, gr.update(visible=True), *[gr.skip()] * 3]


def no_verdict() -> list[Any]:
    """After an error: the verdict of another photograph must not stay beside this one."""
    return _nothing(FAILED)


@user_errors
def judge_again(judged: Judged | None, threshold: float, review: float | None, sharp: bool) -> list[Any]:
    """The same prediction at other thresholds, or with sharper outlines; the model does not run."""
    if judged is None:
        return [gr.skip()] * 5
    kept, model, prediction = _judged_at(judged, threshold, review, sharp)
    words = [verdict(prediction, model, kept.seconds), threshold_words(model, prediction.threshold)]
    stays = review is not None and review <= threshold  # a slider that is being dragged is left alone
    return [gr.skip() if stays else sliders.shown(prediction)[1], *words, *_pictures(prediction)]


def move_threshold(judged: Judged | None, threshold: float, sharp: bool) -> list[Any]:
    """`judge_again` at another threshold, which the review threshold follows in proportion."""
    return judge_again(judged, threshold, None, sharp)


@user_errors
def prepare_files(judged: Judged | None, threshold: float, review: float, sharp: bool) -> list[Any]:
    """Panel, mask and JSON of what is shown, after it is shown: nobody waits for them.

    The row of buttons comes with them: a button without its file would download nothing.
    """
    if judged is None:
        return [gr.skip()] * 4
    kept, model, prediction = _judged_at(judged, threshold, review, sharp)
    with PHOTOGRAPHS.one():
        return [
            gr.update(visible=True),
            panel_png(prediction, kept.title),
            mask_png(prediction, kept.title),
            verdict_json(prediction, model, kept.title, model.name),
        ]


@user_errors
def predict(photo: str, model: str = "sample-brick", threshold: float | None = None) -> tuple[dict[str, Any], str, str]:
    """Judges one photograph of a part: is anything on it not normal, and where?

    Args:
        photo: the photograph, PNG, JPEG, WebP, BMP, TIFF or HEIC, up to 40 megapixels: an uploaded file or a data:
            address.
        model: alias of the zoo (see the endpoint /models), or "org/repo" of a model on the Hugging Face Hub.
        threshold: anomaly score from 0 to 1 at or above which it is judged anomalous; empty is the calibrated one.

    Returns:
        Verdict (is_anomalous, score, threshold, model, expected_false_alarm_rate, ...), a panel with photograph,
        heatmap and outline as PNG, and the mask as PNG, 255 = anomalous.
    """
    if not photo:
        raise gr.Error("Give a photograph.", print_exception=False)
    loaded = MODELS.get(model)
    path = uploaded_path({"path": photo})
    name = path.name
    title = Path(name).stem
    with PHOTOGRAPHS.one():
        picture = read_picture(path, name=name, bits=loaded.network.judging.bits)
        prediction = noted(judge(model, [picture.image])[0], picture.notes)
        if threshold is not None:
            prediction = prediction.with_threshold(threshold)
        return facts(prediction, loaded, title, model), panel_png(prediction, title), mask_png(prediction, title)


def _shown(judged: Judged | None, threshold: float, review: float, sharp: bool) -> Kept | None:
    """What is kept of a visitor's photograph, with the prediction as it is shown."""
    if judged is None:
        return None
    kept, _, prediction = _judged_at(judged, threshold, review, sharp)
    return replace(kept, prediction=prediction)


def _judged_at(
    judged: Judged, threshold: float, review: float | None, sharp: bool
) -> tuple[Kept, LoadedModel, Prediction]:
    """What is kept of a visitor's photograph, its model, and the prediction at the sliders' thresholds.

    Without a review threshold it moves with the other.
    """
    kept = KEPT.get(judged.token)
    if kept is None:
        raise gr.Error("This photograph is no longer kept here; add it again.", print_exception=False)
    model = MODELS.get(kept.model)
    prediction = kept.prediction.with_threshold(*sliders.meant(threshold, review, model.network.judging))
    return kept, model, sharper_if(sharp, kept, prediction)


def _nothing(words: str) -> list[Any]:
    return [None, empty_verdict(words), *[gr.update(visible=False)] * 2, "", *[gr.update(visible=False)] * 4]


def _pictures(prediction: Prediction) -> list[Any]:
    with PHOTOGRAPHS.one():
        drawn = pictures(prediction)
    return [
        gr.update(value=(drawn.photograph, drawn.heatmap), visible=True),
        gr.update(value=drawn.outline, visible=True),
    ]
