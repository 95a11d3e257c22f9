"""Your part, left column: photographs of good parts, and how the model is to be made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from stlm_hub.training.budget import MAX_STEPS

from . import where_to_look
from .events import SILENT
from .uploads import file_field

QUICK = "At once: a memory of good parts alone, no training"
TIME, STEPS = "Time budget", "Number of steps"
ANEW = "The chosen model, with threshold and scales for these photographs"
ROTATIONS = {
    "always the same way": "none",
    "a few degrees off": "slight",
    "in quarter turns": "quarter",
    "any way": "full",
}
MINUTES, MAX_MINUTES = 15, 120
SIZES = (256, 384, 512)  # px


@dataclass(frozen=True)
class Form:
    """The components, and the inputs of the event that makes the model."""

    how: gr.Radio
    minutes: gr.Slider | None  # none without training
    inputs: list[Any]
    start: gr.Button
    stop: gr.Button


def build(model: gr.Dropdown, seconds_only: bool) -> Form:
    """Lays out the column.

    Args:
        model: the page's list of models.
        seconds_only: whether the graphics card is lent for seconds, too short to train.
    """
    gr.Markdown(_WHY_SECONDS if seconds_only else _WHY_TRAIN)
    files = file_field("Photographs of good parts, or zip archives of them", "part-files")
    name = gr.Textbox("my-part", label="Name of the model", max_lines=1, elem_id="part-name")
    where = where_to_look.build(files)
    rate = gr.Slider(
        0.1, 20, 1, step=0.1, label="Good parts that may be flagged by mistake, in percent", elem_id="part-rate"
    )
    choices = [QUICK, ANEW] if seconds_only else [QUICK, TIME, STEPS]
    how = gr.Radio(choices, value=QUICK, label="What is made" if seconds_only else "How long", elem_id="part-how")
    training = [] if seconds_only else _training(how)
    inputs = [files, model, name, rate, how] if seconds_only else [files, name, rate, how, *training]
    with gr.Row():
        start = gr.Button("Make the model", variant="primary", elem_id="part-start")
        stop = gr.Button("Stop", interactive=False, elem_id="part-stop")
    return Form(how, training[0] if training else None, [*inputs, where.choice, where.marks], start, stop)


def _training(how: gr.Radio) -> list[Any]:
    minutes = gr.Slider(
        1, MAX_MINUTES, MINUTES, step=1, label="Minutes of training", visible=False, elem_id="part-minutes"
    )
    steps = gr.Number(
        400,
        label="Steps of four photographs each",
        minimum=1,
        maximum=MAX_STEPS,
        precision=0,
        visible=False,
        elem_id="part-steps",
    )
    size = gr.Dropdown(
        list(SIZES), value=256, label="Input size in px: more for smaller defects, and slower", elem_id="part-size"
    )
    rotation = gr.Dropdown(list(ROTATIONS), value="always the same way", label="The part lies", elem_id="part-rotation")
    how.change(
        lambda choice: [gr.update(visible=choice == TIME), gr.update(visible=choice == STEPS)],
        how,
        [minutes, steps],
        queue=False,
        **SILENT,
    )
    return [minutes, steps, size, rotation]


_WHY_TRAIN = """
Make a model of **your** part from photographs of good ones, at least 8, better 50 or more, taken as they will be on the
line. You need no photographs of defects. The model above takes no part in this. Yours is ready in about a minute.
"""
_WHY_SECONDS = """
Make a model of **your** part from photographs of good ones, at least 8, better 50 or more, taken as they will be on the
line. You need no photographs of defects. This Space gets its graphics card for seconds at a time. That is too short to
train, but enough for a memory of good parts, or for a new threshold of the chosen model.
"""
