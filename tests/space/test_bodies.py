"""Bodies of requests: how long, how large, and how many at once, before Gradio gets them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from starlette.formparsers import MultiPartException
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from stlm_page import bodies
from stlm_page.bodies import Bodies, Refused, Upload, check_upload
from stlm_page.guard import Guard

PIECE = 1000
GONE: Message = {"type": "http.disconnect"}


def coming(count: int, pause: float = 0.0, last: bool = True) -> Receive:
    """A body of so many pieces, with a pause before each; then whoever sent it is gone."""
    left = [{"type": "http.request", "body": b"x" * PIECE, "more_body": n > 0 or not last} for n in range(count)]

    async def receive() -> Message:
        await asyncio.sleep(pause)
        return left.pop() if left else GONE

    return receive


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "GRACE", 0.1)


def refused(work: Callable[[], object]) -> Refused:
    with pytest.raises(Refused) as found:
        work()
    assert str(found.value).endswith(".")
    return found.value


def test_a_body_is_held_until_its_request_is_answered() -> None:
    held = Bodies()
    body = asyncio.run(held.read(coming(3), 3 * PIECE))
    assert body == b"x" * 3 * PIECE and held.held == len(body)
    held.release(body)
    assert held.held == 0


def test_a_body_that_is_too_large_is_not_held() -> None:
    held = Bodies()
    assert refused(lambda: asyncio.run(held.read(coming(3), 3 * PIECE - 1))).status == 413
    assert held.held == 0


def test_many_large_bodies_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_HELD_BYTES", 5 * PIECE)
    held = Bodies()
    first = asyncio.run(held.read(coming(3), 10 * PIECE))
    assert refused(lambda: asyncio.run(held.read(coming(3), 10 * PIECE))).status == 503
    assert asyncio.run(held.read(coming(2), 10 * PIECE))  # a small one still gets in
    held.release(first)
    assert asyncio.run(held.read(coming(3), 10 * PIECE))


@pytest.mark.usefixtures("impatient")
def test_a_body_that_trickles_is_given_up() -> None:
    held = Bodies()
    pieces = [{"type": "http.request", "body": b"x", "more_body": True}] * 1000

    async def receive() -> Message:
        await asyncio.sleep(0.01)
        return pieces.pop()

    assert refused(lambda: asyncio.run(held.read(receive, 10 * PIECE))).status == 408
    assert held.held == 0 and len(pieces) > 900


@pytest.mark.usefixtures("impatient")
def test_a_large_body_on_a_slow_line_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "SLOWEST", 10 * PIECE)  # and it comes at twice that
    assert len(asyncio.run(Bodies().read(coming(10, pause=0.05), 20 * PIECE))) == 10 * PIECE


@pytest.mark.usefixtures("impatient")
def test_once_a_body_is_there_the_answer_may_take_its_time() -> None:
    async def upload() -> Message:
        receive = Upload(coming(1)).receive
        assert not (await receive())["more_body"]
        await asyncio.sleep(0.2)
        return await receive()  # as Gradio asks whether the visitor is still there

    assert asyncio.run(upload()) == GONE


@pytest.mark.parametrize(
    ("receive", "status"), [(coming(2, last=False), 400), (coming(1, pause=0.3), 408), (coming(9), 413)]
)
@pytest.mark.usefixtures("impatient")
def test_gradio_hears_of_its_own_exception_and_the_visitor_a_sentence(
    receive: Receive, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "MAX_UPLOAD_BYTES", 8 * PIECE)
    upload = Upload(receive)

    async def whole() -> None:
        while (await upload.receive()).get("more_body"):
            pass

    with pytest.raises(MultiPartException):
        asyncio.run(whole())
    assert upload.refused is not None and upload.refused.status == status and str(upload.refused).endswith(".")


def test_no_upload_fills_the_disk(monkeypatch: pytest.MonkeyPatch, page_cache: Path) -> None:
    check_upload("1000")  # nothing was ever uploaded
    free = 3 * 2**30
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    for declared in (None, "", "x", "0", str(2**30)):
        check_upload(declared)
    assert refused(lambda: check_upload(str(2 * 10**9 + 2**22))).status == 413
    free = 2**30 + 999
    assert refused(lambda: check_upload("1000")).status == 507
    check_upload("999")


def test_what_is_refused_is_answered_in_place_of_gradio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_UPLOAD_BYTES", 8 * PIECE)

    async def gradio(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            while (await receive()).get("more_body"):
                pass
        except MultiPartException:
            await PlainTextResponse("what Gradio says", 400)(scope, receive, send)
        else:
            await PlainTextResponse("there")(scope, receive, send)

    client = TestClient(Guard(gradio))
    assert client.post("/gradio_api/upload", content=b"x" * 8 * PIECE).text == "there"
    declared = client.post("/gradio_api/upload", content=b"x" * 9 * PIECE)
    found = client.post("/gradio_api/upload", content=iter([b"x" * 9 * PIECE]))  # without a Content-Length
    for answer in (declared, found):
        assert answer.status_code == 413 and "upload fewer files" in answer.json()["detail"]
    monkeypatch.setattr(bodies, "MAX_HELD_BYTES", PIECE)
    busy = client.post("/gradio_api/queue/join", content=b"x" * 2 * PIECE)
    assert busy.status_code == 503 and busy.json()["detail"].startswith("Too many large requests")
    assert client.post("/gradio_api/queue/join", content=b"x" * PIECE).text == "there"
