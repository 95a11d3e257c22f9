"""How many photographs are worked on at once, and in which order whoever waits gets his turn."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gradio.processing_utils import save_file_to_cache

from stlm_page import batch_tab, inspect_tab
from stlm_page.slots import Slots


def test_slots_are_given_out_in_order_and_come_back() -> None:
    slots = Slots(1)
    got: list[int] = []

    def work(number: int) -> None:
        with slots.one():
            got.append(number)

    threads = []
    with slots.one():
        for number in range(5):
            threads.append(threading.Thread(target=work, args=(number,)))
            threads[-1].start()
            while len(slots._waiting) <= number:
                time.sleep(0.001)
        assert got == []
    for thread in threads:
        thread.join(5)
    assert got == list(range(5))
    with pytest.raises(ZeroDivisionError), slots.one():
        raise ZeroDivisionError
    with slots.one():
        pass


def test_whoever_comes_again_lines_up_again() -> None:
    """A batch that takes slot after slot does not keep others waiting."""
    slots = Slots(1)
    rounds: list[str] = []

    def batch() -> None:
        for _ in range(50):
            with slots.one():
                rounds.append("batch")
                time.sleep(0.005)

    thread = threading.Thread(target=batch)
    thread.start()
    while not rounds:
        time.sleep(0.001)
    with slots.one():
        rounds.append("visitor")
    thread.join(10)
    assert rounds.index("visitor") <= 3


def test_at_most_two_photographs_are_decoded_at_once_whoever_asks(
    photographs: Path, page_cache: Path, own_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, most = 0, 0
    lock = threading.Lock()

    def watched(work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal busy, most
            with lock:
                busy += 1
                most = max(most, busy)
            time.sleep(0.02)
            try:
                return work(*args, **kwargs)
            finally:
                with lock:
                    busy -= 1

        return call

    for module, names in (
        (inspect_tab, ("read_picture", "pictures", "panel_png", "mask_png")),
        (batch_tab, ("read_picture", "thumbnail", "panel_bytes")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, watched(getattr(module, name)))
    path = save_file_to_cache(photographs / "crack.png", str(page_cache))
    file = {"path": path, "orig_name": "crack.png"}
    failed: list[BaseException] = []

    def run(work: Callable[[], Any]) -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    visitor: Any = SimpleNamespace(session_hash="slots")
    work: list[Callable[[], Any]] = [lambda: list(inspect_tab.inspect(file, own_model, 0.5, 0.5, None, False, ""))] * 3
    work += [lambda: inspect_tab.predict(path, own_model, None)] * 3
    work += [lambda: list(batch_tab.judge_all([file] * 3, own_model, visitor))] * 3
    threads = [threading.Thread(target=run, args=(each,)) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failed and most == 2


def test_a_photograph_that_cannot_be_read_gives_its_slot_back(page_cache: Path, own_model: str, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_bytes(b"these are notes")
    path = save_file_to_cache(tmp_path / "notes.png", str(page_cache))
    for _ in range(5):
        with pytest.raises(Exception, match=r"notes\.png is not a PNG"):
            list(inspect_tab.inspect({"path": path, "orig_name": "notes.png"}, own_model, 0.5, 0.5, None, False, ""))
