"""Callbacks of a long run: for steps, photographs, messages and what is unusual, and one that can stop it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import TrainingError
from ..predict.prediction import Prediction
from .loop import StepReport


@dataclass(frozen=True)
class Observer:
    """Callbacks of a run; the defaults keep quiet.

    Args:
        on_step: called after each training step.
        on_image: called with (done, total) after each photograph.
        on_message: called with a sentence when a new part of the work begins.
        should_stop: called after each step and photograph. True ends the run; the same call goes on from there.
        on_unusual: called with name and prediction of each unusual good photograph that is drawn, the most unusual
            first.
    """

    on_step: Callable[[StepReport], None] | None = None
    on_image: Callable[[int, int], None] | None = None
    on_message: Callable[[str], None] = field(default=lambda message: None)
    should_stop: Callable[[], bool] | None = None
    on_unusual: Callable[[str, Prediction], None] = field(default=lambda name, prediction: None)

    def stop_if_asked(self) -> None:
        """Raises TrainingError if `should_stop` returns True."""
        if self.should_stop and self.should_stop():
            raise TrainingError("Stopped after the training; the same command goes on from there.")

    def stoppable(self) -> Observer:
        """The same observer, whose `should_stop` is also called after each photograph, once the training is over."""

        def on_image(done: int, total: int) -> None:
            self.stop_if_asked()
            if self.on_image:
                self.on_image(done, total)

        return dataclasses.replace(self, on_image=on_image)
