"""Frames of a video, in a file or at an address, read by OpenCV. It has an end, unlike a camera."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..errors import DataError
from .folder import photograph_id
from .source import Frame

USUAL_RATE = 25.0
"""Frames a second of a video that does not say."""


class Video:
    """Frames of a video in order.

    Args:
        capture: OpenCV's, open and at the first frame.
        label: path, or address without its secrets.
        frame_id: number of a frame -> its id. A video that is opened again has the same ids.
        done: ids of frames that have a row already; they are passed over.
        every: seconds of the video from frame to frame.
        at_end: called with the number of frames that were read, once there are no more.
    """

    def __init__(
        self,
        capture: Any,
        label: str,
        frame_id: Callable[[int], str],
        done: Collection[str],
        every: float,
        at_end: Callable[[int], None] = lambda read: None,
    ) -> None:
        self.capture, self.label, self.frame_id, self.done, self.at_end = capture, label, frame_id, done, at_end
        self.step = max(1, round(every * (capture.get(cv2.CAP_PROP_FPS) or USUAL_RATE)))

    def frames(self, stopped: Callable[[], bool]) -> Iterator[Frame]:
        """Yields frames to the end of the video or until `stopped` returns True."""
        number = 0
        while not (halted := stopped()) and self.capture.grab():
            if number % self.step == 0 and (name := self.frame_id(number)) not in self.done:
                good, picture = self.capture.retrieve()
                if good:
                    yield Frame(name, f"{self.label}#{number}", rgb(picture))
            number += 1
        self.capture.release()
        if not halted:
            self.at_end(number)


def video_file(path: Path, done: Collection[str], every: float) -> Video:
    """The video in a file; arguments as of `Video`.

    Raises:
        DataError: OpenCV cannot read it.
    """
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise DataError(f"{path} is no video that OpenCV can read; convert it to MP4 or AVI.")
    status = path.stat()
    facts = (status.st_size, status.st_mtime_ns)
    return Video(capture, str(path), lambda number: photograph_id(path.name, *facts, number), done, every)


def video_at(
    capture: Any, label: str, length: int, done: Collection[str], every: float, say: Callable[[str], None]
) -> Video:
    """The video at an address, whose end is said.

    Args:
        capture, label, done, every: see `Video`.
        length: number of frames, as the video says or OpenCV estimates.
        say: called with a sentence at the end.
    """

    def at_end(read: int) -> None:
        # Fewer by a little: the length was an estimate. Fewer by more: perhaps the connection broke off.
        broken = "" if read >= 0.95 * length else " If it broke off, the same command goes on with the rest."
        say(f"The video {label} has ended after {read} of {length} frames.{broken}")

    return Video(capture, label, lambda number: photograph_id(label, length, number), done, every, at_end)


def rgb(picture: np.ndarray) -> np.ndarray:
    """HxW grey or HxWx3 BGR of OpenCV -> HxWx3 RGB, uint8."""
    return cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB if picture.ndim == 2 else cv2.COLOR_BGR2RGB)
