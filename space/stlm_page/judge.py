"""Where the network runs: the only code that needs the graphics card of a Space."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import spaces

from stlm_hub.calibration.recalibrate import recalibrate
from stlm_hub.calibration.threshold import MIN_HELD_OUT
from stlm_hub.predict.photographs import check_photographs
from stlm_hub.predict.prediction import Prediction

from .errors import explained
from .models import Models
from .worker import in_turn

MODELS = Models()
"""Shared by all visitors."""


def seconds_on_gpu(name: str, photographs: list[np.ndarray]) -> int:
    """Seconds of graphics card to ask for. What is asked for counts against a visitor's daily quota, so not more."""
    return math.ceil(5 + 0.2 * len(photographs))


def judge(name: str, photographs: list[np.ndarray]) -> list[Prediction]:
    """Judges photographs at the model's own threshold.

    Args:
        name: of the model, see `Models.get`.
        photographs: HxWx3 uint8 RGB each.

    Raises:
        STLMError: the model cannot be loaded.
    """
    MODELS.get(name)  # in this process: what a slice of ZeroGPU loads is gone with it
    return in_turn(lambda: _on_gpu(name, photographs))


def recalibrate_on_gpu(name: str, photographs: Path, output: Path, label: str, false_alarm_rate: float) -> Path:
    """Finds the threshold of a model, and the scales of its combined map, anew, see `stlm_hub.calibration.recalibrate`.

    Args:
        name: of the model, see `Models.get`.
        photographs: folder of good photographs.
        output: the model folder to write, which is returned.
        label: name of the model that is made.
        false_alarm_rate: share of good parts that may be judged anomalous.
    """
    MODELS.get(name)
    found = check_photographs(photographs, at_least=MIN_HELD_OUT, work="calibration", near_copies=False)
    return in_turn(lambda: _recalibrate(name, found.paths, output, label, false_alarm_rate, found.bits))


def seconds_to_recalibrate(name: str, photographs: list[Path], *_: object) -> int:
    """Seconds of graphics card to ask for; for a combined map each photograph is looked at twice."""
    return min(120, math.ceil(10 + 0.4 * len(photographs)))


@spaces.GPU(duration=seconds_to_recalibrate)
def _recalibrate(
    name: str, photographs: list[Path], output: Path, label: str, false_alarm_rate: float, bits: int | None
) -> Path:
    with explained():
        model = MODELS.get(name)
        recalibrate(
            model.network,
            photographs,
            output,
            repo_id=f"your-name/{label}",
            results=model.results,
            false_alarm_rate=false_alarm_rate,
            bits=bits if model.network.judging.bits is None else None,
        )
    return output


@spaces.GPU(duration=seconds_on_gpu)
def _on_gpu(name: str, photographs: list[np.ndarray]) -> list[Prediction]:
    with explained():  # of a slice's errors, only gr.Error comes through
        return MODELS.get(name).network.predict(list(photographs))
