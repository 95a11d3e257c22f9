"""A run in a thread: what the page hears of it, and how it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stlm_hub.errors import TrainingError
from stlm_hub.training.loop import StepReport
from stlm_hub.training.observer import Observer
from stlm_page import long_run
from stlm_page.long_run import CURVE_POINTS, Progress, follow


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_run, "POLL", 0.01)


def report(step: int, total: int, seconds_per_step: float, loss: float = 0.25) -> StepReport:
    return StepReport(step, total, {"total": loss}, seconds_per_step)


def wait_for(event: threading.Event) -> None:
    assert event.wait(5)


def test_nothing_is_yielded_but_none_until_the_folder_is_made() -> None:
    finish, stopped = threading.Event(), threading.Event()

    def work(observer: Observer) -> Path:
        wait_for(finish)
        return Path("made")

    following = follow(work, Progress(), stopped)
    assert [next(following) for _ in range(3)] == [None, None, None]
    finish.set()
    assert [found for found in following if found is not None] == [Path("made")]
    assert not stopped.is_set()


def test_what_the_work_tells_reaches_the_progress_and_stopping_reaches_the_work() -> None:
    progress, stopped, asked = Progress(), threading.Event(), []

    def work(observer: Observer) -> Path:
        assert observer.on_step and observer.should_stop
        observer.on_message("Training on 8 photographs.")
        observer.on_step(report(1, 10, 1.0, 0.5))
        asked.append(observer.should_stop())
        stopped.set()
        asked.append(observer.should_stop())
        return Path("made")

    assert list(follow(work, progress, stopped))[-1] == Path("made")
    assert (progress.steps, progress.losses, asked) == ([1], [0.5], [False, True])


def test_a_message_with_the_name_of_a_photograph_is_text_where_markdown_is_shown() -> None:
    progress = Progress()
    progress.on_message("![a](http://x.org/a.png) <img src=x> is left out.")
    assert progress.words() == r"!\[a\](http://x.org/a.png) \<img src=x\> is left out."


@pytest.mark.parametrize("error", [TrainingError("The loss is not finite."), MemoryError("no room"), SystemExit(1)])
def test_errors_of_the_work_are_raised_and_do_not_look_like_a_stop(error: BaseException) -> None:
    stopped = threading.Event()

    def work(observer: Observer) -> Path:
        raise error

    with pytest.raises(type(error)) as raised:
        list(follow(work, Progress(), stopped))
    assert raised.value is error
    assert not stopped.is_set()


def test_whoever_goes_away_stops_the_run() -> None:
    stopped, ended = threading.Event(), threading.Event()

    def work(observer: Observer) -> Path:
        assert observer.should_stop
        while not observer.should_stop():
            time.sleep(0.005)
        ended.set()
        return Path("made")

    following: Iterator[Path | None] = follow(work, Progress(), stopped)
    assert next(following) is None and not stopped.is_set()
    following.close()  # type: ignore[attr-defined]
    assert stopped.is_set()
    wait_for(ended)


@pytest.mark.parametrize(
    ("left", "words"), [(89, "about **89 s left**"), (90, "about **2 min left**"), (660, "about **11 min left**")]
)
def test_words_say_step_pace_and_time_left(left: int, words: str) -> None:
    progress = Progress()
    progress.on_step(report(7, 7 + left, 1.0, 0.1234))
    assert progress.words() == f"Step 7 of {7 + left}, 1.0 s a step, {words}. Loss 0.123."


def test_words_are_the_latest_news() -> None:
    progress = Progress()
    assert progress.words() == "Looking at the photographs"
    progress.on_step(report(1, 2, 1.0))
    progress.on_message("Calibrating.")
    assert progress.words() == "Calibrating."
    progress.on_image(3, 9)
    assert progress.words() == "Photograph 3 of 9."


def test_the_curve_is_thinned_and_pairs_steps_with_losses() -> None:
    progress = Progress()
    for step in range(1, 5 * CURVE_POINTS + 1):
        progress.on_step(report(step, 5 * CURVE_POINTS, 1.0, 1 / step))
    curve = progress.curve()
    assert CURVE_POINTS <= len(curve) < 2 * CURVE_POINTS
    assert (curve["loss"] * curve["step"]).tolist() == pytest.approx([1.0] * len(curve))
    assert curve["step"].is_monotonic_increasing and curve["step"].iloc[0] == 1


def test_the_curve_can_be_drawn_while_a_step_is_being_noted() -> None:
    progress = Progress(steps=[1, 2, 3], losses=[0.3, 0.2])
    assert progress.curve().to_dict("list") == {"step": [1, 2], "loss": [0.3, 0.2]}
