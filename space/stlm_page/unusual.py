"""Good photographs that a model finds unusual: pictures of them, and the choice of those to leave out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np

from stlm_hub.drawing.panel import tiles
from stlm_hub.predict.prediction import Prediction

from .pictures import keep_jpeg


@dataclass(frozen=True, eq=False)
class Unusual:
    """A good photograph that scores far above the others: its name, its score, hxwx3 uint8 RGB of it with its map.

    The picture becomes a file only when it is shown: Gradio deletes the files that it has served, and no others.
    """

    name: str
    score: float
    picture: np.ndarray


@dataclass(frozen=True)
class Field:
    """The components; `shown` are what `update` fills."""

    names: gr.CheckboxGroup
    again: gr.Button
    shown: list[Any]


def drawn(name: str, prediction: Prediction) -> Unusual:
    """The photograph and its map side by side; of a wide photograph one below the other."""
    made = tiles(prediction.image, prediction.anomaly_map, prediction.threshold, prediction.mask)
    pair = [made["Photograph"], made["Anomaly map"]]
    height, width = pair[0].shape[:2]
    return Unusual(name, prediction.score, np.concatenate(pair, axis=0 if width > 2 * height else 1))


def build() -> Field:
    """Lays out the pictures and the choice, hidden until there is something unusual."""
    with gr.Column(visible=False, elem_id="part-unusual") as section:
        gr.Markdown(_QUESTION)
        gallery = gr.Gallery(
            label="Unusual photographs, each with its map",
            show_label=False,  # it would lie on the first of them
            columns=1,
            height=None,
            object_fit="contain",
            interactive=False,
            elem_id="part-unusual-gallery",
            buttons=["fullscreen"],
        )
        names = gr.CheckboxGroup([], label="Not good after all", elem_id="part-unusual-names")
        again = gr.Button("Leave out and learn again", elem_id="part-again")
    return Field(names, again, [section, gallery, names])


def update(found: Sequence[Unusual]) -> list[Any]:
    """What `Field.shown` becomes; without anything unusual it is hidden."""
    pictures = [(keep_jpeg(one.picture, "unusual.jpg"), f"{one.name}: score {one.score:.2f}") for one in found]
    choice = gr.update(choices=[one.name for one in found], value=[])
    return [gr.update(visible=bool(found)), gr.update(value=pictures), choice]


_QUESTION = """
### Unusual good photographs: is one of them a defect?

The threshold does not count them, but the model has learnt that they are good.
"""
