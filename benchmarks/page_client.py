"""Programs that call the page's endpoint /predict: one user with one photograph, or many users at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from gradio_client import Client, handle_file  # type: ignore[import-untyped]

SCORE_TOLERANCE = 1e-3  # two runs of the network may round differently
PATIENCE = 120  # seconds that a user waits for an answer to an upload; 5 are too few where many share two cores


@dataclass(frozen=True)
class Expected:
    """A photograph and the library's own verdict and score, found without the page."""

    photograph: Path
    is_anomalous: bool
    score: float


@dataclass(frozen=True)
class Answer:
    """One request and its outcome. Times are in seconds of `time.perf_counter`.

    Args:
        user: number of the user who sent the request.
        expected: the photograph that was sent, with the library's verdict.
        sent: when the user sent it.
        queued: when the server confirmed that the request is in its queue.
        answered: when the verdict arrived.
        done: when panel and mask were fetched as well.
        facts: the verdict as plain data; None where the request failed.
        error: why the request failed; empty where it did not.
        mask: the file of the mask, a PNG.
    """

    user: int
    expected: Expected
    sent: float
    queued: float = 0.0
    answered: float = 0.0
    done: float = 0.0
    facts: dict[str, Any] | None = None
    error: str = ""
    mask: bytes = b""

    @property
    def milliseconds(self) -> float:
        """Duration of the whole round trip."""
        return 1000 * (self.done - self.sent)

    @property
    def is_right(self) -> bool:
        """Whether verdict and score are the library's for the photograph that was sent."""
        return (
            self.facts is not None
            and self.facts["photograph"] == self.expected.photograph.stem
            and self.facts["is_anomalous"] == self.expected.is_anomalous
            and abs(self.facts["score"] - self.expected.score) <= SCORE_TOLERANCE
        )


class User(Client):
    """A client of the page that records when a request is in the queue.

    Args:
        url: address of the page.
        number: number of this user.
    """

    def __init__(self, url: str, number: int = 0) -> None:
        patience = {"timeout": PATIENCE}
        super().__init__(url, download_files=False, verbose=False, analytics_enabled=False, httpx_kwargs=patience)
        self.number = number
        self.queued = 0.0

    def send_data(self, *args: Any, **options: Any) -> Any:
        """See `gradio_client.Client.send_data`."""
        reply = super().send_data(*args, **options)
        self.queued = time.perf_counter()
        return reply

    def ask(self, expected: Expected, model: str) -> Answer:
        """Uploads a photograph, waits for the verdict, then fetches panel and mask one after the other."""
        sent = time.perf_counter()
        try:
            facts, panel, mask = self.predict(handle_file(expected.photograph), model, None, api_name="/predict")
            answered = time.perf_counter()
            files = [
                httpx.get(f"{self.src_prefixed}file={file['path']}", timeout=PATIENCE).raise_for_status().content
                for file in (panel, mask)
            ]
        except Exception as error:  # any error is a failed request
            return Answer(self.number, expected, sent, error=f"{type(error).__name__}: {error}")
        return Answer(self.number, expected, sent, self.queued, answered, time.perf_counter(), facts, mask=files[1])


def users_at_once(
    url: str,
    model: str,
    photographs: Sequence[Expected],
    users: int,
    requests: int,
    on_answer: Callable[[int], None] = lambda number: None,
) -> list[Answer]:
    """Sends requests of many users. Each user sends the next request when the answer to the last one has arrived.

    Args:
        url: address of the page.
        model: alias of the model.
        photographs: sent in turn, so that neighbours in the queue are different photographs.
        users: number of users. All send their first request at the same moment.
        requests: number of requests of all users together, spread evenly. The first users send one more where the
            number of users does not divide it.
        on_answer: called with the number of answers so far, never twice at once.

    Returns:
        One answer for each request: user by user, in the order of sending.
    """
    start, lock, answers_so_far = threading.Barrier(users), threading.Lock(), count(1)
    programs = [User(url, number) for number in range(users)]

    def work(user: User) -> list[Answer]:
        answers = []
        start.wait()
        for request in range(user.number, requests, users):
            answers.append(user.ask(photographs[request % len(photographs)], model))
            with lock:
                on_answer(next(answers_so_far))
        return answers

    try:
        with ThreadPoolExecutor(users) as pool:
            return [answer for answers in pool.map(work, programs) for answer in answers]
    finally:
        for user in programs:
            user.close()
