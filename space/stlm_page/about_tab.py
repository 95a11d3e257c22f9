"""About: the card of the chosen model, with its figures beside the paper's, its limits and its licence."""

from __future__ import annotations

import io
from html import escape

import gradio as gr
from PIL import Image

from stlm_hub.predict.picture_file import MAX_PIXELS

from .card_html import card_html
from .judge import MODELS
from .models import LoadedModel

_MAX_CARD_BYTES = 4 * 2**20  # which a stranger may have written
_MAX_PICTURE_BYTES = 2 * 2**20


def build() -> gr.HTML:
    """Lays out the tab; returns what `card` fills."""
    return gr.HTML("", elem_id="card", padding=False)


def card(name: str) -> str:
    """The model card as HTML, its plots inside."""
    model = MODELS.get(name)
    text = (MODELS.read(model, "README.md", _MAX_CARD_BYTES) or b"").decode("utf-8", "replace")
    return card_html(text, lambda target: _plot(model, target)) if text else f"<p>{escape(name)} has no model card.</p>"


def _plot(model: LoadedModel, target: str) -> bytes | None:
    """A picture that lies beside the model; None where there is none, or it is no PNG, or too large."""
    data = MODELS.read(model, target, _MAX_PICTURE_BYTES)
    if data is None:
        return None
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            width, height = picture.size
    except Exception:  # Pillow's readers raise nearly anything on hostile bytes
        return None
    return data if width * height <= MAX_PIXELS else None  # the visitor's browser has to draw it
