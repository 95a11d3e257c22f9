"""Your part: the part of a photograph that counts, marked by clicks on one of the visitor's photographs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from stlm_hub.errors import ConfigError, DataError
from stlm_hub.predict.good_ones import good_members
from stlm_hub.predict.images import load_image

from . import mask_field
from .clicked_mask import Marks, mask_of, opened
from .errors import user_errors
from .events import PRIVATE
from .pictures import png_of_mask
from .slots import PHOTOGRAPHS
from .uploads import uploads

EVERYWHERE, ONLY, ELSEWHERE = "everywhere", "only at what I mark", "everywhere but at what I mark"
CHOICES = (EVERYWHERE, ONLY, ELSEWHERE)
_WHY = "Keeps borders and fixtures from raising alarms. The part must lie at the same place on all photographs."


@dataclass(frozen=True)
class WhereToLook:
    """Inputs of the events that make a model: the choice, and what is marked."""

    choice: gr.Radio
    marks: gr.State


def build(files: gr.File) -> WhereToLook:
    """Lays out the choice and, behind it, the picture to click on. `files`: the visitor's photographs."""
    choice = gr.Radio(list(CHOICES), value=EVERYWHERE, label="Where the model looks", elem_id="part-where")
    with gr.Column(visible=False) as fold:
        gr.Markdown(_WHY, elem_classes="hint")
        field = mask_field.build("region", "The first of your photographs")
    options: dict[str, Any] = {"preprocess": False, "concurrency_limit": 2, **PRIVATE}
    choice.input(
        choose,
        [files, choice, field.marks],
        [choice, fold, *field.shown],
        show_progress="minimal",
        show_progress_on=[choice],
        **options,
    )
    return WhereToLook(choice, field.marks)


@user_errors
def choose(files: list[dict[str, Any]] | None, choice: str, marks: Marks | None) -> Iterator[list[Any]]:
    """Shows the first photograph to click on; without one the choice goes back."""
    if choice not in (ONLY, ELSEWHERE) or (marks and mask_field.OPENED.get(marks.token)):
        yield [gr.skip(), gr.update(visible=choice != EVERYWHERE), *[gr.skip()] * 3]
        return
    try:
        found = uploads(files)
        first = found[good_members([upload.name for upload in found])[0][0]]
        with PHOTOGRAPHS.one():
            photograph = opened(load_image(first.read(), name=first.name), Path(first.name).stem)
        shown = mask_field.begin(photograph, marks)
    except Exception:
        yield [EVERYWHERE, gr.update(visible=False), *[gr.skip()] * 3]
        raise
    yield [gr.skip(), gr.update(visible=True), *shown]


def mask_files(choice: str, marks: Marks | None, folder: Path) -> dict[str, Path]:
    """Writes what is marked into a folder; the options `region` or `ignore` of a training, none for everywhere.

    Raises:
        ConfigError: there is no such choice.
        DataError: nothing is marked, or the photograph is no longer kept.
    """
    if choice not in CHOICES:
        raise ConfigError("Choose where the model looks.")
    if choice == EVERYWHERE:
        return {}
    marks, photograph = mask_field.opened_by(marks)
    with PHOTOGRAPHS.one():
        mask, _ = mask_of(photograph, marks)
        if not mask.any():
            raise DataError('Nothing is marked; click on the photograph, or let the model look "everywhere".')
        path = folder / "marked.png"
        path.write_bytes(png_of_mask(mask))
    return {"region" if choice == ONLY else "ignore": path}
