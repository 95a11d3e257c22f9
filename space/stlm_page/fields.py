"""Fields that more than one tab shows: the photograph that is judged, and the pictures of its verdict."""

from __future__ import annotations

import gradio as gr


def photo_field(label: str, elem_id: str) -> gr.Image:
    """Where visitors put the photograph that is to be judged."""
    return gr.Image(
        label=label,
        sources=["upload", "clipboard", "webcam"],
        type="filepath",
        image_mode=None,
        height=300,
        elem_id=elem_id,
        alt_text="The photograph that you have chosen",
        buttons=["fullscreen"],
    )


def compare_field(elem_id: str) -> gr.ImageSlider:
    """Photograph and anomaly map over each other. `names.js` names its pictures for screen readers."""
    return gr.ImageSlider(
        label="Photograph (left) and anomaly map (right): drag the line",
        interactive=False,
        visible=False,
        type="filepath",
        elem_id=elem_id,
        elem_classes="compared",
        buttons=["fullscreen"],
    )


def outline_field(elem_id: str) -> gr.Image:
    """The photograph with what is found outlined."""
    return gr.Image(
        label="Outlined defects",
        interactive=False,
        visible=False,
        type="filepath",
        elem_id=elem_id,
        elem_classes="outlined",
        alt_text="The photograph with an outline around each part that looks anomalous",
        buttons=["fullscreen", "download"],
    )
