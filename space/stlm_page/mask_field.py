"""The picture that visitors click on to mark something, with its buttons: of "Inspect" and of "Your part"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import gradio as gr
import numpy as np

from stlm_hub.drawing import heatmap as render
from stlm_hub.errors import DataError

from .clicked_mask import AREA, KINDS, MAX_OPENED_BYTES, THING, Marks, Opened, Point, mask_of
from .errors import user_errors
from .events import PRIVATE
from .kept import ByToken
from .pictures import MIN_SIDE, keep_jpeg
from .slots import PHOTOGRAPHS

OPENED: ByToken[Opened] = ByToken(MAX_OPENED_BYTES)
SURE = 0.9  # predicted IoU; below it the click may have met something else
HOW = "Click on the photograph. A click near the first corner of an area closes it."
_NEXT = {1: "Two more corners make an area.", 2: "One more corner makes an area."}
_ADDED, _TAKEN = (32, 85, 143), (168, 58, 5)  # RGB, as in the style sheet


@dataclass(frozen=True)
class MaskField:
    """Components that the tab around it fills, see `show`, and listens to."""

    marks: gr.State
    picture: gr.Image
    words: gr.Markdown

    @property
    def shown(self) -> list[Any]:
        """Outputs of an event whose handler returns `show(...)`."""
        return [self.marks, self.picture, self.words]


def build(name: str, label: str) -> MaskField:
    """Lays out the picture and its buttons and wires them.

    Args:
        name: that the elements' ids start with.
        label: above the picture.
    """
    marks = gr.State(None)
    kind = gr.Radio(list(KINDS), value=THING, label="A click", elem_id=f"{name}-kind")
    picture = gr.Image(
        label=label,
        interactive=False,
        type="filepath",
        elem_id=f"{name}-picture",
        elem_classes="clickable",
        alt_text="The photograph with an outline around what is marked; click on it to mark more or less",
        buttons=["fullscreen"],
    )
    words = gr.Markdown(HOW, elem_id=f"{name}-words")
    with gr.Row():
        undo = gr.Button("Undo the last click", size="sm", elem_id=f"{name}-undo")
        empty = gr.Button("Clear the marks", size="sm", elem_id=f"{name}-empty")
    made = MaskField(marks, picture, words)
    options: dict[str, Any] = {"concurrency_id": "clicks", "concurrency_limit": 2, **PRIVATE}
    options |= {"show_progress": "minimal", "show_progress_on": [words]}
    picture.select(clicked, [marks, kind], made.shown, **options)
    undo.click(undone, marks, made.shown, **options)
    empty.click(emptied, marks, made.shown, **options)
    return made


@user_errors
def clicked(marks: Marks | None, kind: str, event: gr.SelectData) -> list[Any]:
    """A click on the picture."""
    marks, photograph = opened_by(marks)
    return show(marks.click(kind, _on_photograph(event.index, photograph), photograph.shape))


@user_errors
def undone(marks: Marks | None) -> list[Any]:
    """Without the last click."""
    return show(opened_by(marks)[0].undo())


@user_errors
def emptied(marks: Marks | None) -> list[Any]:
    """Nothing is marked any more."""
    return show(opened_by(marks)[0].emptied())


def begin(photograph: Opened, before: Marks | None) -> list[Any]:
    """Opens a photograph in place of the visitor's one before; values for `MaskField.shown`."""
    return show(Marks(OPENED.put(photograph, replaces=before.token if before else None)))


def opened_by(marks: Marks | None) -> tuple[Marks, Opened]:
    """What a visitor has clicked, and the photograph.

    Raises:
        DataError: there is none, or it is no longer kept.
    """
    photograph = OPENED.get(marks.token if marks else None)
    if marks is None or photograph is None:
        raise DataError("There is no photograph to click on, or it is no longer kept here; show it again.")
    return marks, photograph


def show(marks: Marks) -> list[Any]:
    """Values for `MaskField.shown`."""
    _, photograph = opened_by(marks)
    if any(stroke.kind == THING for stroke in marks.strokes):
        photograph.embedded()  # before a slot is taken: the first time it may load weights
    with PHOTOGRAPHS.one():
        mask, sure = mask_of(photograph, marks)
        return [marks, gr.update(value=_drawn(photograph, mask, marks), visible=True), _in_words(mask, sure, marks)]


def _in_words(mask: np.ndarray, sure: float | None, marks: Marks) -> str:
    said = [f"**{100 * mask.mean():.1f} % of the photograph is marked.**" if mask.any() else "Nothing is marked yet."]
    if sure is not None:
        said.append(f"Segment Anything is {sure:.2f} of 1 sure.")
    if sure is not None and sure < SURE:
        said.append("That is little: look whether it is right; else take away what is too much, or mark an area.")
    last = marks.strokes[-1] if marks.strokes else None
    if last is not None and last.is_area and not last.closed:
        said.append(_NEXT.get(len(last.points), "A click near the first corner closes the area."))
    return " ".join(said) if marks.strokes else f"{said[0]} {HOW}"


def _size(photograph: Opened) -> tuple[int, int]:
    """Width and height of the picture on the page."""
    height, width = photograph.small.shape[:2]
    scale = max(1.0, MIN_SIDE / max(height, width))
    return round(width * scale), round(height * scale)


def _on_photograph(index: Any, photograph: Opened) -> Point:
    """A place of the picture on the page -> (x, y) of the photograph. `index` is what the browser says."""
    try:
        x, y = (float(value) for value in index)
    except (TypeError, ValueError, OverflowError):
        raise DataError("This click is not on the photograph; click on the photograph.") from None
    width, height = _size(photograph)
    return (x + 0.5) * photograph.shape[1] / width, (y + 0.5) * photograph.shape[0] / height


def _drawn(photograph: Opened, mask: np.ndarray, marks: Marks) -> str:
    """Path of the picture: the photograph, what is marked tinted and outlined, and the clicks."""
    size = _size(photograph)
    image = cv2.resize(photograph.small, size, interpolation=cv2.INTER_CUBIC)
    inside = render.resize_map(mask.astype(np.float32), size) >= 0.5
    image[inside] = (0.7 * image[inside] + 0.3 * np.array((255, 190, 90))).astype(np.uint8)
    image = render.draw_contour(image, inside)
    radius = max(5, max(size) // 130)
    scale = np.array(size) / photograph.shape[::-1]
    for stroke in marks.strokes:
        colour = _ADDED if stroke.kind in (THING, AREA) else _TAKEN
        places = [tuple(int(value) for value in np.array(point) * scale) for point in stroke.points]
        if len(places) > 1:
            cv2.polylines(image, [np.array(places)], len(places) > 2, colour, 2, cv2.LINE_AA)
        for place in places:
            cv2.circle(image, place, radius + 2, (255, 255, 255), -1, cv2.LINE_AA)
            cv2.circle(image, place, radius, colour, -1, cv2.LINE_AA)
            cv2.line(image, (place[0] - radius // 2, place[1]), (place[0] + radius // 2, place[1]), (255,) * 3, 2)
            if colour == _ADDED:  # plus or minus: not by colour alone
                cv2.line(image, (place[0], place[1] - radius // 2), (place[0], place[1] + radius // 2), (255,) * 3, 2)
    return keep_jpeg(image, "marked.jpg")
