"""The page of the Space in a process of its own, for measurements and tests."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 180  # until a page that does not answer is given up


@dataclass(frozen=True)
class Page:
    """A page that is being served: its address, the process that serves it, and the file of its output."""

    url: str
    pid: int
    log: Path

    def get(self, path: str, timeout: float = 60) -> Any:
        """What the page answers to a GET, read as JSON."""
        with urllib.request.urlopen(self.url + path, timeout=timeout) as answer:
            return json.loads(answer.read())

    def post(self, path: str, body: Any, timeout: float = 60) -> Any:
        """What the page answers to JSON, read as JSON."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return json.loads(answer.read())

    def upload(self, name: str, data: bytes) -> str:
        """Uploads a file as a browser does; where it is in the page's cache."""
        mark = uuid.uuid4().hex
        head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        body = head.encode() + data + f"\r\n--{mark}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={mark}"}
        request = urllib.request.Request(f"{self.url}/gradio_api/upload", body, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(json.loads(answer.read())[0])

    def event(self, handler: str, data: list[Any], timeout: float = 120) -> dict[str, Any]:
        """Sets off an event as the page in a browser does, by its number, with any data; the last message about it.

        Args:
            handler: the name of the function in the page's code.
            data: of each input.
        """
        names = [each["api_name"] for each in self.get("/config")["dependencies"]]
        session = uuid.uuid4().hex
        body = {"data": data, "fn_index": names.index(handler), "session_hash": session}
        self.post("/gradio_api/queue/join", body)
        url = f"{self.url}/gradio_api/queue/data?session_hash={session}"
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            for line in answer:
                message = json.loads(line[5:]) if line.startswith(b"data:") else {}
                if message.get("msg") == "process_completed":
                    return dict(message)
        raise AssertionError(f"{handler} was not completed")


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
