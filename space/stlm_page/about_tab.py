"""About: the card of the chosen model, with its figures beside the paper's, its limits and its licence."""

from __future__ import annotations

import base64
import re

import gradio as gr

from stlm_hub.model_folder import hub

from .judge import MODELS
from .models import LoadedModel, text_of

_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_PICTURE = re.compile(r"!\[(?P<alt>[^\[\]\\`]*)\]\((?P<target>[^)\s]*)\)")
_TAG = re.compile(r"<(?=[A-Za-z/!?])(?!https?://)")
_MAX_PICTURE_BYTES = 2 * 2**20


def build() -> gr.Markdown:
    """Lays out the tab; returns what `card` fills."""
    return gr.Markdown("", elem_id="card", sanitize_html=True)


def card(name: str) -> str:
    """The model card as Markdown, its plots inside.

    Pictures from elsewhere are left out: a card may come from a stranger, and a picture that is fetched tells him who
    is looking.
    """
    model = MODELS.get(name)
    text = text_of(model, "README.md")
    if not text:
        return f"{name} has no model card."
    text = _FRONT_MATTER.sub("", text.lstrip("\ufeff"), count=1)
    text = re.sub(r"^# ", "## ", text, flags=re.MULTILINE)  # the page has a heading of its own
    # What else Markdown can draw, pictures with titles, references and HTML, becomes a link or text.
    parts = [_TAG.sub("&lt;", part).replace("![", "[") for part in _PICTURE.split(text)[::3]]
    drawn = [_inline(model, match["alt"], match["target"]) for match in _PICTURE.finditer(text)]
    return "".join(piece for pair in zip(parts, [*drawn, ""], strict=True) for piece in pair)


def _inline(model: LoadedModel, alt: str, target: str) -> str:
    left_out = " "  # and not nothing, which could join what stands around it to a picture
    if not re.fullmatch(r"[\w-]+\.png", target):
        return left_out
    path = hub.companion_file(model.local, target, token=False)
    if path is None or path.stat().st_size > _MAX_PICTURE_BYTES:
        return left_out
    return f"![{alt}](data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()})"
