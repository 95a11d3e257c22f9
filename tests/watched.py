"""What tests of `stlm watch` share: a model that gives every photograph one score, its rows, a server, and patience."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from stlm_hub.line.journal import read_rows
from stlm_hub.line.row import Row
from stlm_hub.line.watch import watch
from stlm_hub.models.stlm.judging import Judging
from stlm_hub.predict.prediction import Prediction


def model(score: float = 0.25) -> Any:
    """Gives every photograph one score."""

    def predict(
        image: np.ndarray,
        *,
        threshold: float | None = None,
        review_threshold: float | None = None,
        refine: bool | None = None,
    ) -> Prediction:
        map_ = np.full(image.shape[:2], score, np.float32)
        return Prediction(image, map_, score, threshold or 0.5, review_threshold=review_threshold)

    return SimpleNamespace(judging=Judging(), predict=predict)


def rows(output: Path) -> list[Row]:
    return [row for _, row in read_rows(output / "verdicts.jsonl")]


def wait_for(what: Callable[[], bool], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


def watch_while(write: Callable[[], None], photographs: Path, output: Path) -> None:
    """Watches a folder, into which `write` writes meanwhile, until there is a row."""
    writer = threading.Thread(target=write)
    writer.start()
    found: list[Row] = []
    watch(model(), str(photographs), output, on_row=found.append, stopped=lambda: bool(found))
    writer.join()


@contextmanager
def served(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[tuple[str, list[str]]]:
    """A server that answers every request so; yields its address and the methods that it was asked with."""
    asked: list[str] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.command)
            answer(self)

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/rows", asked
    finally:
        server.shutdown()
        server.server_close()
