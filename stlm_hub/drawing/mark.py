"""The mark in each file of a panel, by which it is known again: it is no photograph, and may be written over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import PngImagePlugin

MARK = "stlm_hub panel"
_HEAD = 4096
"""Bytes of a file in which the mark stands."""


def marked(form: str) -> dict[str, Any]:
    """Options of Pillow's `save` that put the mark into a PNG or JPEG file; other formats get none."""
    if form == "PNG":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Software", MARK)
        return {"pnginfo": texts}
    return {"comment": MARK.encode()} if form == "JPEG" else {}


def is_panel(path: Path) -> bool:
    """Whether a file is a panel that `Prediction.save` wrote as PNG or JPEG."""
    try:
        with path.open("rb") as file:
            return MARK.encode() in file.read(_HEAD)
    except OSError:
        return False
