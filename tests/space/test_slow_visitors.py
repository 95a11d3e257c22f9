"""Visitors who send slowly, go away in the middle or send too much, and what the others notice of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from slow_clients import CLIENTS, MADE_TEST, START, begin, leave_while_waiting, status, trickling

from benchmarks.page_client import Answer, Expected, users_at_once
from benchmarks.page_process import Page
from benchmarks.space import write_photographs
from stlm_hub.stlm import STLM

pytestmark = pytest.mark.timeout(900)

MODEL = "sample-brick"
UPLOAD = "/gradio_api/upload"
OTHERS = 4  # visitors who are as quick as any


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> list[Expected]:
    """Photographs, and what the library says of them."""
    model = STLM.from_pretrained(MODEL)
    paths = write_photographs(tmp_path_factory.mktemp("few") / "sent", 384, 3, 3)
    predictions = [(path, model.predict(path)) for path in paths]
    return [Expected(path, prediction.is_anomalous, prediction.score) for path, prediction in predictions]


@pytest.fixture(scope="module")
def alone(page: Page, sent: list[Expected]) -> float:
    """Seconds of the slowest of a few visitors who have the page for themselves."""
    ask(page, sent)
    return slowest(ask(page, sent))


def ask(page: Page, sent: list[Expected]) -> list[Answer]:
    answers = users_at_once(page.url, MODEL, sent, OTHERS, 3 * OTHERS)
    assert all(answer.is_right for answer in answers), answers
    return answers


def slowest(answers: list[Answer]) -> float:
    return max(answer.milliseconds for answer in answers) / 1000


def uploaded(page: Page, photograph: Expected) -> dict[str, object]:
    """A photograph as events name it, once it is uploaded."""
    path = page.upload("part.png", photograph.photograph.read_bytes())
    return {"path": path, "orig_name": "part.png", "meta": {"_type": "gradio.FileData"}}


def kept(page: Page) -> set[Path]:
    """Files of the page's cache."""
    return {path for path in (page.log.parent / "cache").rglob("*") if path.is_file()}


def wait_until(condition: Callable[[], object], seconds: float) -> float:
    """How long it took until a condition held."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds
        time.sleep(0.1)
    return time.monotonic() - started


def is_idle(page: Page) -> bool:
    """Whether nobody waits and the page uses next to no processor for a second."""
    if page.get("/gradio_api/queue/status")["queue_size"]:
        return False
    return psutil.Process(page.pid).cpu_percent(interval=1.0) < 20


def test_who_sends_slowly_keeps_nobody_waiting(page: Page, sent: list[Expected], alone: float) -> None:
    count = 10 if MADE_TEST else 200
    with trickling(page.url, count):
        seconds = slowest(ask(page, sent))
    print(f"{count} trickling: the slowest of {3 * OTHERS} others took {seconds:.1f} s, alone {alone:.1f} s.")
    assert seconds < 3 * alone + 2


def test_an_upload_that_is_cut_off_leaves_nothing(page: Page, sent: list[Expected]) -> None:
    before = kept(page)
    for number in range(10 if MADE_TEST else 100):
        begin(page.url, UPLOAD, 10**6, START + bytes(1000 * number)).close()
    in_two = START + b"x" + START.replace(b"--", b"\r\n--", 1) + bytes(70_000)
    begin(page.url, UPLOAD, None, b"%x\r\n" % len(in_two) + in_two + b"\r\n").close()
    wait_until(lambda: kept(page) <= before, 20)
    ask(page, sent)


def test_who_goes_away_leaves_no_work_behind(page: Page, sent: list[Expected], alone: float) -> None:
    names = [each["api_name"] for each in page.get("/config")["dependencies"]]
    file, count = uploaded(page, sent[0]), CLIENTS
    for number in range(count):
        if number % 2:
            data = {"data": [file, MODEL, None]}
            ways = ("/gradio_api/call/predict", "/gradio_api/call/predict/{event}")
        else:
            data = {"data": [file, MODEL, 0.5, 0.5, None, False, ""], "fn_index": names.index("inspect")}
            ways = ("/gradio_api/queue/join", "/gradio_api/queue/data?session_hash={session}")
        leave_while_waiting(page.url, data, *ways)
    seconds = slowest(ask(page, sent))
    wait_until(lambda: is_idle(page), 60)
    print(f"{count} gone: the slowest of {3 * OTHERS} others took {seconds:.1f} s, alone {alone:.1f} s.")
    assert seconds < 3 * alone + 2 + count * alone / OTHERS


def test_a_batch_ends_when_its_visitor_goes_away(page: Page, sent: list[Expected], alone: float) -> None:
    names = [each["api_name"] for each in page.get("/config")["dependencies"]]
    data = {"data": [[uploaded(page, sent[0])] * 500, MODEL], "fn_index": names.index("judge_all")}
    ways = ("/gradio_api/queue/join", "/gradio_api/queue/data?session_hash={session}")
    leave_while_waiting(page.url, data, *ways, heard=b"of 500")  # the first are judged
    seconds = wait_until(lambda: is_idle(page), 60)
    print(f"A batch of 500 photographs that nobody waits for ended after {seconds:.1f} s.")
    assert seconds < 500 * alone / OTHERS / 3


def test_a_batch_keeps_the_others_not_waiting(page: Page, sent: list[Expected], alone: float) -> None:
    count = 20 if MADE_TEST else 100
    files, ended = [uploaded(page, sent[0])] * count, []
    batch = threading.Thread(target=lambda: ended.append(page.event("judge_all", [files, MODEL], timeout=600)))
    batch.start()
    seconds = slowest(ask(page, sent))
    batch.join()
    assert ended and ended[0]["success"], ended
    print(f"Beside a batch of {count}: the slowest of {3 * OTHERS} others took {seconds:.1f} s, alone {alone:.1f} s.")
    assert seconds < 4 * alone + 2


@pytest.mark.parametrize(("size", "files"), [(201 * 2**20, 1), (150 * 2**20, 14)])
def test_what_is_too_large_is_refused(page: Page, sent: list[Expected], size: int, files: int) -> None:
    """A file, and files that are too large together: by what the request promises, or by what comes."""
    before, piece = kept(page), bytes(2**20)
    start = START.replace(b"--", b"\r\n--", 1)
    if files > 1:
        with begin(page.url, UPLOAD, files * size, START) as sock:
            code, answer = status(sock)  # before anything of it is sent
            assert code == 413 and b"upload fewer files at a time" in answer
    if files == 1 or not MADE_TEST:
        with begin(page.url, UPLOAD, None) as sock:
            try:
                for _ in range(files):
                    sock.sendall(b"%x\r\n" % len(start) + start + b"\r\n")
                    for _ in range(size // len(piece)):
                        sock.sendall(b"%x\r\n" % len(piece) + piece + b"\r\n")
                sock.sendall(b"0\r\n\r\n")
            except OSError:
                pass  # the page has hung up
            else:
                assert status(sock)[0] == 413
    wait_until(lambda: kept(page) <= before, 20)
    ask(page, sent)


def test_scores_differ_from_photograph_to_photograph(sent: list[Expected]) -> None:
    assert min(np.diff(sorted(expected.score for expected in sent))) > 1e-4
