"""Cameras: a stream over the network that breaks off and comes back, one that is away for long, and their numbers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn import texture
from watched import served

from stlm_hub.errors import DataError
from stlm_hub.line import camera as module
from stlm_hub.line.camera import Camera
from stlm_hub.line.source import Frame
from stlm_hub.line.video import video_file
from stlm_hub.line.watch import open_source


class NetworkCamera:
    """Sends JPEG after JPEG to whoever connects, and hangs up after so many."""

    def __init__(self, pictures: int) -> None:
        self.pictures = pictures
        self.connections = 0
        self.closed = False
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://user:secret@127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while not self.closed:
            try:
                connection, _ = self.socket.accept()
            except OSError:  # closed
                return
            self.connections += 1
            with connection:
                for i in range(self.pictures):
                    try:
                        connection.sendall(cv2.imencode(".jpg", texture(64, 96, i))[1].tobytes())
                    except OSError:  # nobody looks any more
                        break
                    time.sleep(0.01)

    def close(self) -> None:
        self.closed = True
        self.socket.close()


@pytest.fixture
def camera() -> Iterator[NetworkCamera]:
    found = NetworkCamera(60)
    yield found
    found.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY", 0.05)


def some(source: Camera, wanted: int, seconds: float = 60.0) -> list[Frame]:
    """So many frames, or those that come in that time."""
    found: list[Frame] = []
    until = time.monotonic() + seconds
    for frame in source.frames(lambda: len(found) >= wanted or time.monotonic() > until):
        found.append(frame)
    return found


def test_a_stream_that_breaks_off_is_opened_again_and_both_are_said(camera: NetworkCamera) -> None:
    said: list[str] = []
    source = Camera(camera.address.replace("user:secret@", ""), (), 0.0, said.append)
    found = some(source, 100)
    assert len(found) == 100 and camera.connections >= 2
    assert {frame.image.shape for frame in found if frame.image is not None} == {(64, 96, 3)}
    assert [frame.path.rpartition("#")[2] for frame in found] == [str(i) for i in range(100)]
    assert len({frame.id for frame in found}) == 100
    assert "is lost; it is opened again until it answers." in said[0] and said[1].endswith("is back.")


def test_numbers_go_on_behind_those_that_were_judged_and_no_password_is_shown(
    camera: NetworkCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = cv2.VideoCapture
    monkeypatch.setattr(
        module.cv2, "VideoCapture", lambda address, *limits: plain(address.replace("user:secret@", ""), *limits)
    )
    (frame,) = some(Camera(camera.address, ("a", "b", "c"), 0.0, lambda _: None), 1)
    assert frame.path.endswith("#3") and frame.path.startswith("tcp://127.0.0.1") and "secret" not in frame.path


class Scripted:
    """In the place of `cv2.VideoCapture`: opens and delivers as it is told."""

    opens: Iterator[bool]
    frames_left = 0

    def __init__(self, *_: object) -> None:
        self.opened = next(Scripted.opens)
        self.left = Scripted.frames_left if self.opened else 0

    def isOpened(self) -> bool:
        return self.opened

    def grab(self) -> bool:
        self.left -= 1
        return self.left >= 0

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.zeros((4, 6), np.uint8)  # grey, as many industrial cameras are

    def release(self) -> None:
        self.opened = False


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[bool], int], None]:
    def script(opens: list[bool], frames: int) -> None:
        Scripted.opens, Scripted.frames_left = iter(opens), frames
        monkeypatch.setattr(module.cv2, "VideoCapture", Scripted)

    return script


def test_a_camera_that_is_away_for_long_is_asked_again_and_said_once(
    scripted: Callable[[list[bool], int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted([True, False, False, False, True], 2)
    monkeypatch.setattr(module, "LAST_RETRY", 0.1)
    said: list[str] = []
    found = some(Camera("0", (), 0.0, said.append), 4)
    assert len(found) == 4 and [message.rpartition(" ")[2] for message in said] == ["answers.", "back."]
    assert found[0].image is not None and found[0].image.shape == (4, 6, 3)


def test_a_camera_that_stays_away_does_not_hold_up_the_end(scripted: Callable[[list[bool], int], None]) -> None:
    scripted([True, *[False] * 1000], 1)
    started = time.monotonic()
    assert len(some(Camera("0", (), 0.0, lambda _: None), 5, seconds=0.5)) == 1
    assert time.monotonic() - started < 5


def test_a_camera_that_is_not_there_at_the_start_is_a_sentence(scripted: Callable[[list[bool], int], None]) -> None:
    scripted([False], 0)
    with pytest.raises(DataError, match="camera 7 cannot be opened; check its address, its cable"):
        Camera("7", (), 1.0, lambda _: None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A video of six frames, ten a second."""
    path = tmp_path / "part.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (90, 70))
    for i in range(6):
        writer.write(texture(70, 90, i))
    writer.release()
    return path


def test_a_video_file_ends_and_leaves_out_what_was_judged(path: Path) -> None:
    found = list(video_file(path, (), 0.1).frames(lambda: False))
    assert [frame.path.rpartition("#")[2] for frame in found] == [str(i) for i in range(6)]
    again = list(video_file(path, {frame.id for frame in found[:4]}, 0.1).frames(lambda: False))
    assert [frame.id for frame in again] == [frame.id for frame in found[4:]]


def over_http(kind: str, body: bytes, length: int | None = None) -> AbstractContextManager[tuple[str, list[str]]]:
    """A server that answers with these bytes, of that many or of nobody knows how many, see `served`."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", kind)
        if length is not None:
            request.send_header("Content-Length", str(length))
        request.end_headers()
        with suppress(OSError):  # nobody looks any more
            request.wfile.write(body)

    return served(answer)


def test_a_video_behind_http_ends_is_not_opened_again_and_leaves_out_what_was_judged(path: Path) -> None:
    said: list[str] = []
    data = path.read_bytes()
    with over_http("video/x-msvideo", data, len(data)) as (url, asked):
        found = list(open_source(f"{url}?token=secret", (), every=0.2, say=said.append).frames(lambda: False))
        assert [frame.path for frame in found] == [f"{url}?token=...#{i}" for i in (0, 2, 4)] and len(asked) == 1
        done = {frame.id for frame in found[:2]}
        again = list(open_source(f"{url}?token=secret", done, every=0.2, say=said.append).frames(lambda: False))
    assert [frame.id for frame in again] == [found[2].id]
    assert said == [f"The video {url}?token=... has ended after 6 of 6 frames."] * 2


def test_a_video_whose_connection_breaks_off_is_gone_on_with_by_the_same_command(path: Path) -> None:
    said: list[str] = []
    data = path.read_bytes()
    with over_http("video/x-msvideo", data[: len(data) * 2 // 3], len(data)) as (url, _):
        found = list(open_source(url, (), every=0.0, say=said.append).frames(lambda: False))
    assert 0 < len(found) < 6
    (sentence,) = said
    assert sentence.startswith(f"The video {url} has ended after ") and " of 6 frames. If it broke off, the" in sentence


@pytest.mark.parametrize("kind", ["stream", "photograph"])
def test_a_camera_behind_http_that_hangs_up_is_opened_again(kind: str) -> None:
    """MJPEG has no length. A camera that answers with one photograph is asked for the next."""
    pictures = [cv2.imencode(".jpg", texture(64, 96, i))[1].tobytes() for i in range(8)]
    if kind == "stream":
        parts = [
            b"--next\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(each), each)
            for each in pictures
        ]
        answer = over_http("multipart/x-mixed-replace; boundary=next", b"".join(parts))
    else:
        answer = over_http("image/jpeg", pictures[0], len(pictures[0]))
    said: list[str] = []
    with answer as (url, asked):
        source = open_source(url, (), every=0.0, say=said.append)
        assert isinstance(source, Camera)
        found = some(source, 10 if kind == "stream" else 2)
    assert len(found) == (10 if kind == "stream" else 2) and len(asked) >= 2
    assert "is lost; it is opened again until it answers." in said[0] and said[1].endswith("is back.")
