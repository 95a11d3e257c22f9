"""The page of the Space in a process of its own, for measurements and tests."""

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
START_SECONDS = 180  # until a page that does not answer is given up


@dataclass(frozen=True)
class Page:
    """A page that is being served: its address, the process that serves it, and the file of its output."""

    url: str
    pid: int
    log: Path


@contextmanager
def serve(command: list[str], cwd: Path, environment: Mapping[str, str]) -> Iterator[Page]:
    """Runs a command that serves the page, on a free port, until the block ends.

    Args:
        command: program and arguments. The program reads its port from `GRADIO_SERVER_PORT`.
        cwd: folder it runs in. Its output goes to `cwd`/log.txt.
        environment: all environment variables of the process, without the port.

    Raises:
        RuntimeError: the page did not start; the message ends with the end of its output.
    """
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
    """Serves the page of this checkout as `make demo` does; its cache is `cwd`/cache.

    Args:
        cwd: see `serve`.
        environment: environment variables that differ from those of this process.

    Raises:
        RuntimeError: see `serve`.
    """
    variables = {**os.environ, "GRADIO_TEMP_DIR": str(cwd / "cache"), "PYTHONPATH": str(ROOT), **environment}
    with serve([sys.executable, str(ROOT / "space" / "app.py")], cwd, variables) as page:
        yield page


def chromium() -> str | None:
    """Path of the system's chromium; None where it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Returns when the page answers."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    process.kill()
    raise RuntimeError(f"The page did not start:\n{log.read_text()[-3000:]}")
