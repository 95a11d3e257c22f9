"""The page of the Space in a process of its own, for tests and measurements."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 180


@dataclass(frozen=True)
class Page:
    """A page that is being served."""

    url: str
    pid: int
    log: Path


@contextmanager
def serve(command: list[str], cwd: Path, environment: Mapping[str, str]) -> Iterator[Page]:
    """Runs `command` in `cwd` on a free port until the block ends. Its log is `cwd`/log.txt."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = cwd / "log.txt"
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, env={**environment, "GRADIO_SERVER_PORT": str(port)}, stdout=out, stderr=out, cwd=cwd
        )
        try:
            _wait_for(url, process, log)
            yield Page(url, process.pid, log)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def serve_checkout(cwd: Path, **environment: str) -> Iterator[Page]:
    """The page as `make demo` serves it."""
    variables = {**os.environ, "GRADIO_TEMP_DIR": str(cwd / "cache"), "PYTHONPATH": str(ROOT), **environment}
    with serve([sys.executable, str(ROOT / "space" / "app.py")], cwd, variables) as page:
        yield page


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Returns when the page answers; fails with its log when it does not."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    process.kill()
    raise AssertionError(f"The page did not start:\n{log.read_text()[-3000:]}")


def chromium() -> str | None:
    """Debian's browser; None where it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")
