"""Progress of long work in a terminal: bars with the time left, messages, and errors as one sentence."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
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

from ..errors import OutlineWarning, PictureWarning, STLMError

if TYPE_CHECKING:
    from ..training.loop import StepReport
    from ..training.observer import Observer

# Of several processes of one training the first one speaks; RANK is what launchers number them with.
console = Console(quiet=os.environ.get("RANK", "0") != "0")

_STYLES = {"pass": "green", "review": "yellow", "reject": "bold red", "unfamiliar": "magenta"}
VERDICTS = {verdict: f"[{style}]{verdict.capitalize():<10}[/]" for verdict, style in _STYLES.items()}
"""Markup of each verdict's word, of one width."""


INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect it."""


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Prints the message of an `STLMError` without a traceback and ends the program with exit code 1.

    Ctrl-C ends it with `INTERRUPTED`; typer alone would say 1.
    """

    def interrupted(_number: int, _frame: FrameType | None) -> None:
        sys.exit(INTERRUPTED)

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    except STLMError as error:
        print_error(str(error))
        sys.exit(1)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "stlm_hub":
            raise
        print_error(f'This needs {error.name}: pip install "stlm_hub[torch]", or "stlm_hub[train]" to train')
        sys.exit(1)
    finally:
        signal.signal(signal.SIGINT, before)


def print_error(sentence: str) -> None:
    """Prints the message of an error without a traceback."""
    Console(stderr=True).print(f"[bold red]Error:[/] {escape(sentence)}", highlight=False, soft_wrap=True)


def print_note(sentence: str) -> None:
    """Prints what people should know beside the results, where it does not get into them."""
    Console(stderr=True).print(f"[yellow]Note:[/] {escape(sentence)}", highlight=False, soft_wrap=True)


def say_warnings() -> None:
    """From now on warnings of photographs and of their outlines are notes, each once; others look as before."""
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, (PictureWarning, OutlineWarning)):
            print_note(str(message))
        else:
            usual(message, category, *place, **more)

    warnings.simplefilter("once", PictureWarning)
    warnings.simplefilter("once", OutlineWarning)
    warnings.showwarning = show


def progress_bars(*further: ProgressColumn) -> Progress:
    """Bars with description, count, elapsed time and time left, followed by further columns."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        *further,
        console=console,
    )


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
        self.bars = progress_bars(TextColumn("{task.fields[note]}"))
        self._training: TaskID | None = None
        self._photographs: TaskID | None = None

    def __enter__(self) -> Observer:
        from ..training.observer import Observer

        self._before = {s: signal.signal(s, self._stop) for s in (signal.SIGINT, signal.SIGTERM)}
        if console.is_terminal:
            self.bars.start()
        return Observer(self._on_step, self._on_image, self._on_message, lambda: self.stopped)

    def __exit__(self, _kind: object, error: BaseException | None, _where: object) -> None:
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
        console.print(
            "Stopping after this step or photograph; the same command goes on from here. Once more stops at once."
        )

    def _on_message(self, message: str) -> None:
        console.print(message, markup=False, highlight=False, soft_wrap=True)

    def _on_step(self, report: StepReport) -> None:
        note = f"loss {report.losses['total']:.3f}  {report.seconds_per_step:.1f} s/step"
        if not console.is_terminal:
            if report.step % self.every == 0 or report.step in (1, report.total):
                left = report.seconds_left / 60
                console.print(f"step {report.step}/{report.total}  {note}  {left:.0f} min left", highlight=False)
            return
        if self._training is None:
            self._training = self.bars.add_task(f"training {self.name}", total=report.total, note=note)
        self.bars.update(self._training, completed=report.step, note=note)

    def _on_image(self, done: int, total: int) -> None:
        if not console.is_terminal:
            return
        if self._photographs is None:
            self._photographs = self.bars.add_task("photographs", total=total, note="")
        self.bars.update(self._photographs, completed=done, total=total)
