"""A camera or a video file -> frames, through OpenCV."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..errors import DataError
from .folder import photograph_id
from .source import Frame

FIRST_RETRY, LAST_RETRY = 1.0, 30.0
"""Seconds until a lost camera is opened again: doubled each time."""
SILENCE = 5.0
"""Seconds without a frame after which a camera on the network is lost. OpenCV would wait for 30, twice."""
URL = re.compile(r"(rtsps?|https?|udp|tcp)://", re.IGNORECASE)
SECRET = re.compile(r"([?&](?:pwd|pass|passwd|password|token|auth|key)=)[^&#]*", re.IGNORECASE)
"""What cameras take in their address and nobody else should read."""


class VideoFile:
    """Frames of a video file, `every` seconds of it; frames in `done` are passed over.

    Raises:
        DataError: OpenCV cannot read it.
    """

    def __init__(self, path: Path, done: Collection[str], every: float) -> None:
        self.path, self.done = path, done
        self.capture = cv2.VideoCapture(str(path))
        if not self.capture.isOpened():
            raise DataError(f"{path} is no video that OpenCV can read; convert it to MP4 or AVI.")
        rate = self.capture.get(cv2.CAP_PROP_FPS) or 25.0
        self.step = max(1, round(every * rate))
        status = path.stat()
        self._facts = (status.st_size, status.st_mtime_ns)

    def frames(self, stopped: Callable[[], bool]) -> Iterator[Frame]:
        """One after the other, to the end of the file."""
        number = 0
        while not stopped() and self.capture.grab():
            name = photograph_id(self.path.name, *self._facts, number)
            if number % self.step == 0 and name not in self.done:
                good, picture = self.capture.retrieve()
                if good:
                    yield Frame(name, f"{self.path}#{number}", _rgb(picture))
            number += 1
        self.capture.release()


class Camera:
    """The newest frame of a camera, every so many seconds. A lost one is opened again, for ever.

    Args:
        address: number of a USB camera, a device such as /dev/video0, or a URL.
        done: ids of frames that were judged; numbers go on behind theirs.
        every: seconds from frame to frame.
        say: is told when the camera is lost and found.

    Raises:
        DataError: it cannot be opened at the start.
    """

    def __init__(self, address: str, done: Collection[str], every: float, say: Callable[[str], None]) -> None:
        self.address, self.every, self.say = address, every, say
        # No password in rows and messages. It may hold an @ itself: FFmpeg takes the last one, too.
        self.label = SECRET.sub(r"\1...", re.sub(r"//[^/]*@", "//", address))
        self.number = len(done)
        self._capture: Any = self._open()
        if not self._capture.isOpened():
            raise DataError(f"The camera {self.label} cannot be opened; check its address, its cable and its rights.")

    def _open(self) -> Any:
        if not URL.match(self.address):
            return cv2.VideoCapture(int(self.address) if self.address.isdigit() else self.address)
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC]
        wanted = [value for limit in limits for value in (limit, round(1000 * SILENCE))]
        return cv2.VideoCapture(self.address, cv2.CAP_FFMPEG, wanted)

    def frames(self, stopped: Callable[[], bool]) -> Iterator[Frame]:
        """Until `stopped`. Between two frames the stream is read and thrown away, so that the next one is not old."""
        due = time.monotonic()
        while not stopped():
            asked = time.monotonic()
            # What a camera that was silent had left over shows a part that is long gone.
            if not self._capture.grab() or time.monotonic() - asked >= SILENCE:
                self._find_again(stopped)
                continue
            if time.monotonic() < due:
                continue
            good, picture = self._capture.retrieve()
            if not good:
                continue
            due = time.monotonic() + self.every
            name = photograph_id(self.label, self.number, time.time_ns())
            yield Frame(name, f"{self.label}#{self.number}", _rgb(picture))
            self.number += 1
        self._capture.release()

    def _find_again(self, stopped: Callable[[], bool]) -> None:
        self.say(f"The camera {self.label} is lost; it is opened again until it answers.")
        pause = FIRST_RETRY
        while not stopped():
            self._capture.release()
            until = time.monotonic() + pause
            while time.monotonic() < until and not stopped():
                time.sleep(0.1)
            self._capture = self._open()
            if self._capture.isOpened():
                self.say(f"The camera {self.label} is back.")
                return
            pause = min(LAST_RETRY, 2 * pause)


def _rgb(picture: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB if picture.ndim == 2 else cv2.COLOR_BGR2RGB)
