"""Progress of long work in a terminal: bars with the time left, or lines where there is no terminal."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ..errors import STLMError
from .console import INTERRUPTED, console, print_error, say

if TYPE_CHECKING:
    from ..training.loop import StepReport
    from ..training.observer import Observer

QUIET = 30.0
"""Seconds between two lines about photographs, without a terminal."""


@contextmanager
def counted(work: str, total: int | None = None, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Shows a bar that goes when the work is done. Yields what the work calls with (done, total)."""
    with progress_bars(transient=True, disable=quiet or not console.is_terminal) as bars:
        task = bars.add_task(work, total=total)
        lines = Lines()
        silent = quiet or console.is_terminal

        def on_image(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)
            if not silent:
                lines(done, total)

        yield on_image


def progress_bars(*further: ProgressColumn, transient: bool = False, disable: bool = False) -> Progress:
    """Bars with description, count, elapsed time and time left, followed by further columns.

    Args:
        further: columns.
        transient: whether the bars go when the work is done.
        disable: whether nothing is shown.
    """
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        *further,
        console=console,
        transient=transient,
        disable=disable,
    )


class Lines:
    """Says how many photographs are done and how long the rest takes, now and then: for where there is no terminal."""

    def __init__(self) -> None:
        self._first, self._done, self._total = 0, 0, 0
        self._started = self._said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Called with (done, total) after each photograph. Fewer, or another total, begin another round."""
        now = time.monotonic()
        if done <= self._done or total != self._total:
            self._started = self._said = now
            self._first = done
        elif now - self._said >= QUIET:
            self._said = now
            left = (now - self._started) / (done - self._first) * (total - done)
            words = f"{left / 60:.0f} min" if left >= 60 else "less than a minute"
            say(f"photographs {done}/{total}  {words} left")
        self._done, self._total = done, total


class RunProgress:
    """Shows the progress of a training. As a context manager it hands out the `Observer` of the training.

    Ctrl-C or SIGTERM ends the training after the current step or photograph; a checkpoint is kept. A second one ends it
    at once. Without a terminal, lines are printed instead of bars.

    Args:
        name: name of the model that is trained.
        every: steps between two lines, without a terminal.
    """

    def __init__(self, name: str, every: int = 10) -> None:
        self.name, self.every, self.stopped = name, every, False
        self.bars = progress_bars(TextColumn("{task.fields[note]}", markup=False))
        self._training: TaskID | None = None
        self._photographs: TaskID | None = None
        self._lines = Lines()

    def __enter__(self) -> Observer:
        from ..training.observer import Observer

        self._before = {s: signal.signal(s, self._stop) for s in (signal.SIGINT, signal.SIGTERM)}
        if console.is_terminal:
            self.bars.start()
        return Observer(self._on_step, self._on_image, say, lambda: self.stopped)

    def __exit__(self, _kind: object, error: BaseException | None, _where: object) -> None:
        if console.is_terminal:  # elsewhere it would print an empty line
            self.bars.stop()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.stopped and isinstance(error, STLMError):
            print_error(str(error))
            sys.exit(INTERRUPTED)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        if self.stopped:
            sys.exit(INTERRUPTED)
        self.stopped = True
        say("Stopping after this step or photograph; the same command goes on from here. Once more stops at once.")

    def _on_step(self, report: StepReport) -> None:
        note = f"loss {report.losses['total']:.3f}  {report.seconds_per_step:.1f} s/step"
        if not console.is_terminal:
            if report.step % self.every == 0 or report.step in (1, report.total):
                left = report.seconds_left / 60
                say(f"step {report.step}/{report.total}  {note}  {left:.0f} min left")
            return
        if self._training is None:
            self._training = self.bars.add_task(f"training {self.name}", total=report.total, note=note)
        self.bars.update(self._training, completed=report.step, note=note)

    def _on_image(self, done: int, total: int) -> None:
        if not console.is_terminal:
            self._lines(done, total)
            return
        if self._photographs is None:
            self._photographs = self.bars.add_task("photographs", total=total, note="")
        self.bars.update(self._photographs, completed=done, total=total)
