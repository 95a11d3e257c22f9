"""Rows reach their receiver whatever happens to the thread that sends them, and whatever its address looks like."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from watched import served

from stlm_hub.errors import DataError
from stlm_hub.line import outbox as module
from stlm_hub.line.journal import Journal
from stlm_hub.line.outbox import Outbox
from stlm_hub.line.row import Row
from stlm_hub.line.senders import Webhook

ROWS = [Row(f"{i:016}", f"part_{i}.png", "2026-01-01T00:00:00.000+00:00", "pass", 0.25, 0.5) for i in range(3)]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY", 0.02)


class Broken:
    """A receiver that fails in a few ways first."""

    name = "webhook"

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.got: list[str] = []

    def send(self, row: Row) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.got.append(row.id)

    def close(self) -> None:
        pass


def delivered(folder: Path, receiver: Broken) -> list[str]:
    """Has three rows delivered; what was said."""
    said: list[str] = []
    with Journal(folder) as journal:
        outbox = Outbox(folder, receiver, said.append)
        outbox.start()
        for row in ROWS:
            journal.append(row)
            outbox.wake()
        while len(receiver.got) < len(ROWS) and outbox._thread.is_alive():
            outbox._thread.join(0.02)
        assert outbox.stop()
    assert receiver.got == [row.id for row in ROWS]
    return said


def test_whatever_a_sender_raises_is_said_once_and_the_row_is_sent_again(tmp_path: Path) -> None:
    unsendable = UnicodeEncodeError("ascii", "ü", 0, 1, "ordinal not in range(128)")
    said = delivered(tmp_path, Broken(unsendable, RuntimeError("odd"), KeyError(), OSError("away")))
    lost, back = said
    assert lost.startswith("Rows do not reach webhook ('ascii' codec") and lost.endswith(
        "they wait and are sent again."
    )
    assert back == "The rows that waited have reached webhook."


@pytest.mark.parametrize("error", [DataError("A line is damaged."), OSError(5, "Input/output error")])
def test_a_journal_that_cannot_be_read_for_a_while_is_read_again(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures, read_rows = [error, error], module.read_rows

    def failing(path: Path, after: int) -> Iterator[tuple[int, Row]]:
        if failures:
            raise failures.pop()
        return read_rows(path, after)

    monkeypatch.setattr(module, "read_rows", failing)
    lost, back = delivered(tmp_path, Broken())
    assert (
        lost
        == f"Rows do not reach webhook ({str(error).rpartition('] ')[2].rstrip('.')}); they wait and are sent again."
    )
    assert back == "The rows that waited have reached webhook."


@pytest.mark.parametrize(
    ("address", "path"),
    [("/zeilen/ü", "/zeilen/%C3%BC"), ("/a b?part=ä&x=%2F", "/a%20b?part=%C3%A4&x=%2F"), ("/%C3%BC#x", "/%C3%BC")],
)
def test_an_address_that_is_not_ascii_is_encoded(address: str, path: str) -> None:
    paths: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        paths.append(request.path)
        request.send_response(204)
        request.end_headers()

    with served(answer) as (url, _):
        Webhook(url.replace("/rows", address)).send(ROWS[0])
    assert paths == [path]


def test_a_host_is_encoded_as_names_of_the_internet_are() -> None:
    assert Webhook("https://bücher.example:8443/a").url == "https://xn--bcher-kva.example:8443/a"
    assert Webhook("http://[::1]:80/a").url == "http://[::1]:80/a"
