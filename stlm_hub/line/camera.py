"""Frames of a camera, read by OpenCV."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

import cv2

from ..errors import DataError
from .folder import photograph_id
from .source import Frame
from .video import Video, rgb, video_at

FIRST_RETRY, LAST_RETRY = 1.0, 30.0
"""Seconds until a lost camera is opened again: doubled after each failure, up to the second number."""
SILENCE = 5.0
"""Seconds without a frame after which a network camera counts as lost. OpenCV's own limit is 30, twice."""
HTTP = re.compile(r"https?://", re.IGNORECASE)
URL = re.compile(r"(rtsps?|https?|udp|tcp)://", re.IGNORECASE)
SECRET = re.compile(r"([?&](?:pwd|pass|passwd|password|token|auth|key)=)[^&#]*", re.IGNORECASE)
"""Passwords and keys in the query of a camera's address; they appear in no row or message."""


def camera_or_video(address: str, done: Collection[str], every: float, say: Callable[[str], None]) -> Camera | Video:
    """What sends pictures at an address: a camera, or a video behind http(s), which ends and is not opened again.

    Args:
        address, done, say: see `Camera`.
        every: seconds from frame to frame, of a video in its own time.

    Raises:
        DataError: it cannot be opened.
    """
    camera = Camera(address, done, every, say)
    if not HTTP.match(address):
        return camera
    # 0 or less: nobody knows, so it is a camera. 1: one that sends a photograph for each request.
    length = int(camera.capture.get(cv2.CAP_PROP_FRAME_COUNT))
    return camera if length <= 1 else video_at(camera.capture, camera.label, length, done, every, say)


class Camera:
    """The newest frame of a camera, every so many seconds. A lost camera is opened again until it answers.

    Args:
        address: number of a USB camera, a device such as /dev/video0, or a URL.
        done: ids of frames that have a row already; new frames are numbered on from there.
        every: seconds from frame to frame.
        say: called with a sentence when the camera is lost and when it is back.

    Raises:
        DataError: it cannot be opened at the start.
    """

    def __init__(self, address: str, done: Collection[str], every: float, say: Callable[[str], None]) -> None:
        self.address, self.every, self.say = address, every, say
        # No password in rows and messages. One may contain an @, so all up to the last @ goes, as in FFmpeg.
        self.label = SECRET.sub(r"\1...", re.sub(r"//[^/]*@", "//", address))
        self.number = len(done)
        self.capture: Any = self._open()
        if not self.capture.isOpened():
            raise DataError(f"The camera {self.label} cannot be opened; check its address, its cable and its rights.")

    def _open(self) -> Any:
        if not URL.match(self.address):
            return cv2.VideoCapture(int(self.address) if self.address.isdigit() else self.address)
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC]
        wanted = [value for limit in limits for value in (limit, round(1000 * SILENCE))]
        return cv2.VideoCapture(self.address, cv2.CAP_FFMPEG, wanted)

    def frames(self, stopped: Callable[[], bool]) -> Iterator[Frame]:
        """Yields frames until `stopped` returns True. The stream is read on between them, so that none is old."""
        due = time.monotonic()
        while not stopped():
            grabbed_at = time.monotonic()
            # After a silence the buffered frame shows a part that is long gone.
            if not self.capture.grab() or time.monotonic() - grabbed_at >= SILENCE:
                self._find_again(stopped)
                continue
            if time.monotonic() < due:
                continue
            good, picture = self.capture.retrieve()
            if not good:
                continue
            due = time.monotonic() + self.every
            name = photograph_id(self.label, self.number, time.time_ns())
            yield Frame(name, f"{self.label}#{self.number}", rgb(picture))
            self.number += 1
        self.capture.release()

    def _find_again(self, stopped: Callable[[], bool]) -> None:
        """Opens a lost camera again, with growing pauses, until it answers or `stopped` returns True."""
        self.say(f"The camera {self.label} is lost; it is opened again until it answers.")
        pause = FIRST_RETRY
        while not stopped():
            self.capture.release()
            until = time.monotonic() + pause
            while time.monotonic() < until and not stopped():
                time.sleep(0.1)
            self.capture = self._open()
            if self.capture.isOpened():
                self.say(f"The camera {self.label} is back.")
                return
            pause = min(LAST_RETRY, 2 * pause)
