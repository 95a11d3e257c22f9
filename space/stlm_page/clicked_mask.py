"""A mask out of clicks on a photograph: things that Segment Anything finds, and areas between clicked corners.

Gradio's ImageEditor is not used: what is painted in it goes into the server's memory under names that the browser
makes up, past the queue and without a bound.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field, replace
from functools import cached_property

import cv2
import numpy as np

from stlm_hub.errors import DataError
from stlm_hub.zero_shot.segment import Embedded, segment_anything, segment_embedded
from stlm_hub.zero_shot.windows import at_sams_scale

from .worker import in_turn

THING, NOT_THING = "adds the thing that it is on", "takes a thing away"
AREA, NOT_AREA = "is a corner of an area to add", "is a corner of an area to take away"
KINDS = (THING, NOT_THING, AREA, NOT_AREA)
"""What a click does, as the page says it after "A click"."""

MAX_CLICKS, MAX_THINGS = 100, 12  # of one mask; each thing takes 0.1 s anew with every click
CLOSE = 0.02  # of the longer side: a click so near to the first corner closes the area
MAX_OPENED_BYTES = 192 * 2**20  # of opened photographs of all visitors together, about 16 of them
_EMBEDDED_BYTES = 4 * 256 * 64 * 64

Point = tuple[float, float]
"""(x, y) in pixels of the photograph."""


@dataclass(frozen=True)
class Stroke:
    """Clicks of one kind: one on a thing, or the corners of one area."""

    kind: str
    points: tuple[Point, ...]
    closed: bool = False

    @property
    def is_area(self) -> bool:
        return self.kind in (AREA, NOT_AREA)


@dataclass(frozen=True)
class Marks:
    """What a visitor has clicked on one photograph.

    Args:
        token: of the opened photograph.
        strokes: in order.
        from_start: whether the mask starts from the outline that the photograph was opened with.
    """

    token: str
    strokes: tuple[Stroke, ...] = ()
    from_start: bool = True

    def click(self, kind: str, point: Point, shape: tuple[int, int]) -> Marks:
        """With one click more.

        Args:
            kind: one of `KINDS`.
            point: anything that a browser may send.
            shape: height and width of the photograph.

        Raises:
            DataError: there is no such kind, the point is not on the photograph, or these are too many clicks.
        """
        if kind not in KINDS:
            raise DataError("Choose what a click does first.")
        if not all(math.isfinite(value) and 0 <= value < side for value, side in zip(point, shape[::-1], strict=True)):
            raise DataError("This click is not on the photograph; click on the photograph.")
        things = sum(stroke.kind == kind for stroke in self.strokes)
        if sum(len(stroke.points) for stroke in self.strokes) >= MAX_CLICKS or (
            kind in (THING, NOT_THING) and things >= MAX_THINGS
        ):
            raise DataError("These are more clicks than a mask takes here; undo some, or mark areas by few corners.")
        last = self.strokes[-1] if self.strokes else None
        if last is None or last.kind != kind or not last.is_area or last.closed:
            return replace(self, strokes=(*self.strokes, Stroke(kind, (point,))))
        if len(last.points) >= 3 and math.dist(point, last.points[0]) <= CLOSE * max(shape):
            last = replace(last, closed=True)
        else:
            last = replace(last, points=(*last.points, point))
        return replace(self, strokes=(*self.strokes[:-1], last))

    def undo(self) -> Marks:
        """Without the last click; where there is none, as opened."""
        if not self.strokes:
            return replace(self, from_start=True)
        *before, last = self.strokes
        if last.closed:
            return replace(self, strokes=(*before, replace(last, closed=False)))
        left = replace(last, points=last.points[:-1])
        return replace(self, strokes=(*before, left) if left.points else tuple(before))

    def emptied(self) -> Marks:
        """Nothing is marked."""
        return replace(self, strokes=(), from_start=False)


@dataclass(frozen=True, eq=False)
class Opened:
    """A photograph that is being clicked on.

    Args:
        small: hxwx3 uint8 RGB, at most 1024 px: what is shown, and what Segment Anything sees.
        shape: height and width of the photograph itself.
        title: its name without ending.
        packed: the outline that it was opened with, bits of HxW; None: there is none.
    """

    small: np.ndarray
    shape: tuple[int, int]
    title: str
    packed: np.ndarray | None = None
    _embedding: threading.Lock = field(default_factory=threading.Lock)

    @property
    def bytes(self) -> int:
        return self.small.nbytes + _EMBEDDED_BYTES + (0 if self.packed is None else self.packed.nbytes)

    @property
    def start(self) -> np.ndarray:
        """HxW bool."""
        if self.packed is None:
            return np.zeros(self.shape, bool)
        return np.unpackbits(self.packed, count=math.prod(self.shape)).reshape(self.shape).astype(bool)

    def embedded(self) -> Embedded:
        """What Segment Anything sees of it: a second or two the first time.

        Raises:
            WeightsError: its weights cannot be had.
        """
        with self._embedding:
            return self._embedded

    @cached_property
    def _embedded(self) -> Embedded:
        sam = segment_anything()  # a download keeps only this visitor waiting
        return in_turn(lambda: sam.embed(self.small))


def opened(image: np.ndarray, title: str, start: np.ndarray | None = None) -> Opened:
    """HxWx3 uint8 RGB, and HxW bool to start from -> ready to be clicked on."""
    packed = None if start is None else np.packbits(start)
    return Opened(np.ascontiguousarray(at_sams_scale(image)), image.shape[:2], title, packed)


def mask_of(photograph: Opened, marks: Marks) -> tuple[np.ndarray, float | None]:
    """The mask that the clicks make.

    Things are found without the places that clicks take away. What the mask started from loses each region that such
    a click is in. Areas come last, in their order.

    Returns:
        HxW bool; and the lowest IoU that Segment Anything predicts for a thing, None without things.

    Raises:
        WeightsError: Segment Anything's weights cannot be had.
    """
    away = [stroke.points[0] for stroke in marks.strokes if stroke.kind == NOT_THING]
    mask = _without(photograph.start, away) if marks.from_start else np.zeros(photograph.shape, bool)
    sure = []
    for stroke in marks.strokes:
        if stroke.kind == THING:
            found, iou = _thing(photograph, stroke.points[0], away)
            mask |= found
            sure.append(iou)
    for stroke in marks.strokes:
        if stroke.is_area and len(stroke.points) >= 3:
            area = np.zeros(photograph.shape, np.uint8)
            cv2.fillPoly(area, [np.array(stroke.points).round().astype(np.int32)], 1)
            mask = mask | (area > 0) if stroke.kind == AREA else mask & (area == 0)
    return mask, min(sure, default=None)


def _thing(photograph: Opened, point: Point, away: list[Point]) -> tuple[np.ndarray, float]:
    """HxW bool of the thing at a point, and its predicted IoU."""
    rows, columns = photograph.small.shape[:2]
    height, width = photograph.shape
    inside, *outside = [(x * columns / width, y * rows / height) for x, y in (point, *away)]
    embedded = photograph.embedded()
    found = in_turn(lambda: segment_embedded(embedded, inside, outside=outside))
    grown = cv2.resize(found.mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return grown >= 0.5, found.predicted_iou


def _without(mask: np.ndarray, points: list[Point]) -> np.ndarray:
    """HxW bool without the connected regions that points lie in."""
    if not points or not mask.any():
        return mask
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    gone = {int(labels[int(y), int(x)]) for x, y in points} - {0}
    return mask & ~np.isin(labels, list(gone))
