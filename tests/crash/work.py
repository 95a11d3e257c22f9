"""What processes of the crash suite do until they are killed. One process imports all of this and forks for each.

Their networks are toys but for `train`, which trains a real one at 64 px.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import time
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from toy_streams import install

from stlm_hub.cli.main import main
from stlm_hub.errors import DataError
from stlm_hub.line.watch import watch as watch_folder
from stlm_hub.models.stlm.config import NetworkConfig
from stlm_hub.models.stlm.judging import Judging
from stlm_hub.models.stlm.network import STLMNetwork
from stlm_hub.predict.prediction import Prediction
from stlm_hub.pseudo_anomalies.textures import TextureSource
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.stlm import STLM
from stlm_hub.training import feedback
from stlm_hub.training.config import TrainingConfig
from stlm_hub.training.finetune import finetune
from stlm_hub.training.loop import train as train_network
from stlm_hub.training.recalibrate import recalibrate

EVERY = 3
"""Steps between two checkpoints."""

TEXTURES = TextureSource(looks=("checker", "spots", "stripes"))

assert finetune is not None  # the command imports it when it is given, which takes seconds
torch.set_num_threads(1)
with torch.random.fork_rng(devices=[]):
    torch.manual_seed(0)
    NETWORK = STLMNetwork(NetworkConfig(input_size=(64, 64), aggregation_channels=8))


def train(folder: str, photographs: str, weights: str, steps: int) -> None:
    """A training, or the rest of one."""
    config = TrainingConfig(steps=steps, teacher="mobile", precision="no", checkpoint_every=EVERY, frozen_stages=1)
    paths = sorted(Path(photographs).iterdir())
    start = StartingWeights.load(Path(weights))
    train_network(NETWORK, paths, config, start, Path(folder), textures=TEXTURES)


def save(folder: str, first: str, second: str) -> None:
    """Two models by turns, each over the other, without end."""
    _toys()
    models = [STLM.from_pretrained(name, device="cpu") for name in (first, second)]
    _at_work(folder)
    for model in itertools.cycle(models):
        model.save_pretrained(folder)


def accept_and_undo(folder: str, photographs: str) -> None:
    """Photographs are accepted or rejected, two at once each time, and some taken back, without end."""
    _toys()
    _at_work(folder)
    for number, path in enumerate(itertools.cycle(sorted(Path(photographs).iterdir()))):
        with contextlib.suppress(DataError):  # it is known from the round before
            feedback.accept(Path(folder), [path])
        if number % 2:
            feedback.reject(Path(folder), [path, path])
        if number % 3:
            feedback.undo(Path(folder))


def calibrate(marker: str, model: str, photographs: str, output: str) -> None:
    """A model for other light, once."""
    _toys()
    paths = sorted(Path(photographs).iterdir())
    _at_work(marker)
    recalibrate(STLM.from_pretrained(model, device="cpu"), paths, Path(output), repo_id="org/part")


def watch(photographs: str, output: str) -> None:
    """Judges a folder to its end."""

    def predict(image: np.ndarray, **options: Any) -> Prediction:
        time.sleep(0.01)
        return Prediction(image, np.full(image.shape[:2], 0.25, np.float32), 0.25, 0.5)

    model: Any = SimpleNamespace(judging=Judging(), predict=predict)
    watch_folder(model, photographs, Path(output), once=True, csv=Path(output) / "rows.csv")


def command(marker: str, *arguments: str) -> None:
    """`stlm` with these arguments."""
    _toys()
    sys.argv = ["stlm", *arguments]
    _at_work(marker)
    main()


def _toys() -> None:
    install(pytest.MonkeyPatch())


def _at_work(place: str) -> None:
    Path(f"{place}.at-work").touch()


def serve() -> None:
    """Forks for each line, [name, arguments]; answers with the number of the process and, once it ended, its code."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        name, arguments = json.loads(line)
        process = os.fork()
        if process == 0:
            os._exit(_code_of(name, arguments))
        print(process, file=answers, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), file=answers, flush=True)


def _code_of(name: str, arguments: list[Any]) -> int:
    try:
        globals()[name](*arguments)
        return 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 99
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    serve()
