"""A long run in a thread of its own, and what the page says of it meanwhile."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from stlm_hub.model_folder.card.text import markdown
from stlm_hub.predict.prediction import Prediction
from stlm_hub.training.loop import StepReport
from stlm_hub.training.observer import Observer

from .unusual import Unusual, drawn

POLL = 1.0  # seconds between looks at the run
CURVE_POINTS = 200


@dataclass
class Progress:
    """What a training has said so far; filled from its thread, read by the page."""

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    last: StepReport | None = None
    message: str = "Looking at the photographs"
    unusual: list[Unusual] = field(default_factory=list)

    def on_step(self, report: StepReport) -> None:
        self.steps.append(report.step)
        self.losses.append(report.losses["total"])
        self.last = report

    def on_message(self, message: str) -> None:
        self.message, self.last = markdown(message), None  # names of photographs are in it

    def on_image(self, done: int, total: int) -> None:
        self.message, self.last = f"Photograph {done} of {total}.", None

    def on_unusual(self, name: str, prediction: Prediction) -> None:
        self.unusual.append(drawn(name, prediction))

    def curve(self) -> pd.DataFrame:
        """The loss over the steps, thinned to what a screen can show."""
        n = len(self.losses)  # filled after `steps`, which may have one more at this moment
        every = max(1, n // CURVE_POINTS)
        return pd.DataFrame({"step": self.steps[:n:every], "loss": self.losses[:n:every]})

    def words(self) -> str:
        last = self.last  # the training may take it away meanwhile
        if last is None:
            return self.message
        left = last.seconds_left
        time_left = f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
        return (
            f"Step {last.step} of {last.total}, {last.seconds_per_step:.1f} s a step, "
            f"about **{time_left} left**. Loss {last.losses['total']:.3f}."
        )


def follow(work: Callable[[Observer], Path], progress: Progress, stopped: threading.Event) -> Iterator[Path | None]:
    """Runs `work` in a thread; yields None now and then, and at last the folder that it made.

    When the caller goes away (a visitor who closes the page), the run is asked to stop.

    Args:
        work: is given an observer that fills `progress` and says whether to stop; its errors are raised here.
        progress: what to fill.
        stopped: set by whoever wants the run to end.
    """
    outcome: queue.Queue[Path | BaseException] = queue.Queue()

    def run() -> None:
        try:
            told = (progress.on_step, progress.on_image, progress.on_message)
            outcome.put(work(Observer(*told, stopped.is_set, progress.on_unusual)))
        except BaseException as error:
            outcome.put(error)

    threading.Thread(target=run, name="training", daemon=True).start()
    try:
        while True:
            try:
                result = outcome.get(timeout=POLL)
            except queue.Empty:
                yield None
                continue
            if isinstance(result, BaseException):
                raise result
            yield result
            return
    except GeneratorExit:  # not when the work fails: then `stopped` would say that the visitor wanted it
        stopped.set()
        raise
