"""Where the network runs: the only code that needs the graphics card of a Space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import spaces

from stlm_hub.calibration.threshold import MIN_HELD_OUT
from stlm_hub.errors import DataError
from stlm_hub.predict.photographs import Photographs, check_photographs
from stlm_hub.predict.prediction import Prediction
from stlm_hub.predict.region_mask import looked_at
from stlm_hub.training.finetune import finetune
from stlm_hub.training.observer import Observer
from stlm_hub.training.recalibrate import recalibrate

from .errors import explained
from .models import Models
from .unusual import Unusual, drawn
from .worker import ON_ZERO_GPU, in_turn

MAX_REMEMBERED = 200
"""Photographs of one memory where the graphics card is lent for two minutes at most."""
_QUICK: dict[str, Any] = {"tiles": "none", "size": 256}  # tiles take more than this page lends for a photograph
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


def recalibrate_on_gpu(
    name: str, photographs: Path, output: Path, label: str, false_alarm_rate: float, look: dict[str, Path]
) -> Path:
    """Finds the threshold of a model, and the scales of its combined map, anew, see `stlm_hub.training.recalibrate`.

    Args:
        name: of the model, see `Models.get`.
        photographs: folder of good photographs.
        output: the model folder to write, which is returned.
        label: name of the model that is made.
        false_alarm_rate: share of good parts that may be judged anomalous.
        look: options `region` or `ignore`, masks of where to look; none for where the model has looked.
    """
    known = MODELS.get(name).network.judging.bits  # its network and memory were made of photographs that were read so
    found = check_photographs(photographs, at_least=MIN_HELD_OUT, work="calibration", near_copies=False, bits=known)
    inside = looked_at(look.get("region"), look.get("ignore"), found.shape)
    return in_turn(lambda: _recalibrate(name, found, output, label, false_alarm_rate, inside, list(look)))


def seconds_to_recalibrate(name: str, found: Photographs, *_: object) -> int:
    """Seconds of graphics card to ask for; for a combined map each photograph is looked at twice."""
    return min(120, math.ceil(10 + 0.4 * len(found.paths)))


@spaces.GPU(duration=seconds_to_recalibrate)
def _recalibrate(
    name: str,
    found: Photographs,
    output: Path,
    label: str,
    false_alarm_rate: float,
    inside: np.ndarray | None,
    named: list[str],
) -> Path:
    with explained():
        model = MODELS.get(name)
        recalibrate(
            model.network,
            found.paths,
            output,
            repo_id=f"your-name/{label}",
            results=model.results,
            false_alarm_rate=false_alarm_rate,
            looked_at=inside,
            named=named,
            bits=found.bits,
        )
    return output


def remember_on_gpu(
    photographs: Path,
    output: Path,
    name: str,
    false_alarm_rate: float,
    look: dict[str, Path],
    leave_out: Sequence[str] = (),
) -> list[Unusual]:
    """A model that judges by a memory of good photographs alone, in seconds: `stlm finetune --steps 0`.

    Args:
        photographs: folder of good photographs.
        output: the model folder to write.
        name: of the model.
        false_alarm_rate: share of good parts that may be judged anomalous.
        look: see `recalibrate_on_gpu`.
        leave_out: names of photographs in the folder that are not good after all.

    Returns:
        What is unusual among the photographs.

    Raises:
        STLMError: the photographs cannot be used, or are too many for the seconds that the card is lent for.
    """
    paths = check_photographs(photographs).paths
    if ON_ZERO_GPU and len(paths) > MAX_REMEMBERED:
        raise DataError(
            f"These are {len(paths)} photographs; the graphics card is lent for seconds, which are enough for "
            f"{MAX_REMEMBERED}. Leave some out, or run `stlm finetune FOLDER --steps 0` on your own computer."
        )
    return in_turn(lambda: _remember(paths, output, name, false_alarm_rate, look, leave_out))


def seconds_to_remember(photographs: list[Path], *_: object) -> int:
    """Seconds of graphics card to ask for: each photograph is remembered with a disturbed copy, then judged."""
    return min(120, math.ceil(20 + 0.5 * len(photographs)))


@spaces.GPU(duration=seconds_to_remember)
def _remember(
    photographs: list[Path],
    output: Path,
    name: str,
    false_alarm_rate: float,
    look: dict[str, Path],
    leave_out: Sequence[str],
) -> list[Unusual]:
    found: list[Unusual] = []  # returned: what else a slice of ZeroGPU has in memory is gone with it
    with explained():
        finetune(
            photographs[0].parent,
            name,
            output=output,
            steps=0,
            false_alarm_rate=false_alarm_rate,
            region=look.get("region"),
            ignore=look.get("ignore"),
            leave_out=leave_out,
            observer=Observer(on_unusual=lambda name, prediction: found.append(drawn(name, prediction))),
            **_QUICK,
        )
    return found


@spaces.GPU(duration=seconds_on_gpu)
def _on_gpu(name: str, photographs: list[np.ndarray]) -> list[Prediction]:
    with explained():  # of a slice's errors, only gr.Error comes through
        return MODELS.get(name).network.predict(list(photographs), refine=False)  # outlines: `sharper`
