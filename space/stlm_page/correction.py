"""Inspect, below the outline: correct it by clicks and save it as a mask for `stlm report`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from . import mask_field
from .clicked_mask import Marks, mask_of, opened
from .errors import user_errors
from .events import PRIVATE, SILENT
from .kept import Kept
from .pictures import mask_for_report
from .slots import PHOTOGRAPHS

HINT = (
    "To measure a model on it with `stlm report`, put the file into `ground_truth/KIND/`, beside `test/KIND/` with the "
    "photograph."
)

Judged = Callable[..., Kept | None]
"""What is kept of the photograph that the tab shows, with its prediction as it is shown. Raises like a handler."""


@dataclass(frozen=True)
class Correction:
    """An event that the tab sets off, as keyword arguments: another photograph has come."""

    close: dict[str, Any]


def build(judged: Judged, inputs: list[Any]) -> Correction:
    """Lays out the fold and wires its events.

    Args:
        judged: gives the photograph and the outline to start from.
        inputs: components whose values `judged` is given.
    """
    with gr.Accordion("Correct the outline, save it as a mask", open=False, elem_id="correct") as fold:
        field = mask_field.build("correct", "Click on the photograph")
        with gr.Row():
            again = gr.Button("Start again", size="sm", elem_id="correct-again")
            save = gr.DownloadButton("Corrected mask (PNG)", size="sm", interactive=False, elem_id="correct-save")
        gr.Markdown(HINT, elem_classes="hint")

    @user_errors
    def start(marks: Marks | None, *shown: Any) -> list[Any]:
        kept = judged(*shown)
        if kept is None:
            raise gr.Error("Add a photograph first.", print_exception=False)
        with PHOTOGRAPHS.one():
            photograph = opened(kept.prediction.image, kept.title, kept.prediction.mask)
        return mask_field.begin(photograph, marks)

    def unfold(marks: Marks | None, *shown: Any) -> list[Any]:
        return start(marks, *shown) if marks is None else [gr.skip()] * 3

    options: dict[str, Any] = {"inputs": [field.marks, *inputs], "outputs": field.shown, "concurrency_limit": 2}
    options |= {"show_progress": "minimal", "show_progress_on": [field.words], **PRIVATE}
    fold.expand(unfold, **options)
    again.click(start, **options)
    field.marks.change(mask_file, field.marks, save, concurrency_limit=2, **SILENT)
    return Correction({"fn": _closed, "outputs": [*field.shown, fold], "queue": False, **SILENT})


def mask_file(marks: Marks | None) -> dict[str, Any]:
    """What is marked, as a file to download."""
    if marks is None or (photograph := mask_field.OPENED.get(marks.token)) is None:
        return gr.update(value=None, interactive=False)
    with PHOTOGRAPHS.one():
        return gr.update(value=mask_for_report(mask_of(photograph, marks)[0], photograph.title), interactive=True)


def _closed() -> list[Any]:
    return [None, gr.update(value=None), mask_field.HOW, gr.update(open=False)]
