"""A camera that speaks RTSP and sends H.264, as those of factories do: watched, taken away, silent, and back."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from watched import model, rows, wait_for

from stlm_hub.line import camera as module
from stlm_hub.line.watch import watch

SYSTEM = "/usr/bin/python3"  # for this one Debian has GStreamer
SERVER = Path(__file__).with_name("rtsp_server.py")
HAS_GSTREAMER = (
    Path(SYSTEM).is_file()
    and subprocess.run(
        [SYSTEM, "-c", "import gi; gi.require_version('GstRtspServer', '1.0')"], capture_output=True
    ).returncode
    == 0
)
pytestmark = pytest.mark.skipif(
    not HAS_GSTREAMER, reason="GStreamer's RTSP server is not installed; see rtsp_server.py"
)


class RtspCamera:
    """A server in a process of its own, at one address, that is killed and started again."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"rtsp://127.0.0.1:{self.port}/line"
        self.start()

    def start(self) -> None:
        """Returns when it listens."""
        self.process = subprocess.Popen([SYSTEM, str(SERVER), str(self.port)], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None and self.process.stdout.readline() == "ready\n"

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> Iterator[RtspCamera]:
    monkeypatch.setattr(module, "FIRST_RETRY", 0.1)
    found = RtspCamera()
    yield found
    found.kill()


class Watch:
    """`watch` in a thread of its own."""

    def __init__(self, camera: RtspCamera, output: Path) -> None:
        self.said: list[str] = []
        self.output = output
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=watch,
            args=(model(), camera.address, output),
            kwargs={"every": 0.1, "say": self.said.append, "stopped": self._stop.is_set},
        )
        self._thread.start()

    def rows(self) -> int:
        return len(rows(self.output))

    def wait(self, more: int) -> None:
        """Until there are so many more rows."""
        wanted = self.rows() + more
        wait_for(lambda: self.rows() >= wanted, 60)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


def test_a_camera_that_loses_its_power_is_watched_again_when_it_is_back(camera: RtspCamera, tmp_path: Path) -> None:
    watched = Watch(camera, tmp_path)
    try:
        watched.wait(3)
        camera.kill()
        wait_for(lambda: len(watched.said) == 1, 30)
        lost = watched.rows()
        camera.start()
        watched.wait(3)
    finally:
        watched.stop()
    found = rows(tmp_path)
    assert [row.path for row in found] == [f"{camera.address}#{i}" for i in range(len(found))] and len(found) > lost
    assert len({row.id for row in found}) == len(found) and not any(row.error for row in found)
    lost_words, back_words = watched.said
    assert "is lost; it is opened again until it answers." in lost_words and back_words.endswith("is back.")


def test_a_camera_that_falls_silent_is_lost_in_seconds_and_leaves_no_old_frame(
    camera: RtspCamera, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENCE", 2.0)
    watched = Watch(camera, tmp_path)
    try:
        watched.wait(3)
        camera.signal(signal.SIGSTOP)  # its connection stays open, as when a cable is pulled
        started = time.monotonic()
        wait_for(lambda: len(watched.said) == 1, 30)
        assert time.monotonic() - started < 10
        rows = watched.rows()
        time.sleep(1)
        assert watched.rows() == rows
        camera.signal(signal.SIGCONT)
        watched.wait(3)
    finally:
        camera.signal(signal.SIGCONT)
        watched.stop()
    assert watched.said[-1].endswith("is back.")
