"""How many steps fit in a budget of time, and that a run keeps the number it began with."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from stlm_hub.errors import ConfigError, TrainingError
from stlm_hub.models.stlm.config import NetworkConfig
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.training import budget
from stlm_hub.training.budget import MAX_STEPS, MEASURED_STEPS, MIN_STEPS, steps_of_run, steps_within
from stlm_hub.training.config import TrainingConfig
from stlm_hub.training.job import Job
from stlm_hub.training.observer import Observer
from stlm_hub.training.options import Options

NETWORK = NetworkConfig(input_size=(64, 64), aggregation_channels=8)
TRAINING = TrainingConfig(steps=900, batch_size=2, teacher="mobile", plain_stream="frozen", frozen_stages=1)
finetuning = importlib.import_module("stlm_hub.training.finetune")


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What `loop.train` is made to log, in seconds for each step."""
    seconds = [60.0, 0.4, 0.5, 0.6, 0.4, 0.6]

    def train(network: Any, photographs: Any, config: TrainingConfig, *_: Any, **__: Any) -> list[dict[str, float]]:
        assert config.steps == MEASURED_STEPS and config.batch_size == TRAINING.batch_size
        return [{"step": i, "seconds": value} for i, value in enumerate(seconds, start=1)]

    monkeypatch.setattr(budget, "train", train)
    monkeypatch.setattr(budget, "STLMNetwork", lambda config: None)  # takes a second to make
    return seconds


def within(seconds: float, weights: Any = None, photographs: Any = (), **options: Any) -> int:
    return steps_within(seconds, photographs, NETWORK, TRAINING, weights, **options)


def test_the_first_step_does_not_count(pace: list[float]) -> None:
    assert within(100.2) == 200  # the other five take 0.5 s on the average
    assert within(50) == 100
    pace[0] = 0.0
    assert within(50) == 100


def test_the_number_has_bounds(pace: list[float]) -> None:
    assert within(1) == MIN_STEPS and within(0.5 * (MIN_STEPS + 1)) == MIN_STEPS + 1
    assert within(1e6) == within(math.inf) == MAX_STEPS
    pace[:] = [0.0] * MEASURED_STEPS
    assert within(10) == MAX_STEPS


@pytest.mark.parametrize("seconds", [0, -1, math.nan])
def test_a_budget_of_nothing_is_refused(pace: list[float], seconds: float) -> None:
    with pytest.raises(ConfigError, match="above 0"):
        within(seconds)


def test_real_steps_are_measured_and_leave_no_trace(
    photographs: list[Path], starting_weights: StartingWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(budget, "MEASURED_STEPS", 3)
    steps: list[int] = []
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)

    def count() -> bool:
        steps.append(len(list(tmp_path.rglob("log.jsonl"))))
        return False

    found = within(30, starting_weights, photographs, should_stop=count)
    assert steps == [1] * 3
    assert type(found) is int and MIN_STEPS <= found <= MAX_STEPS
    assert list(tmp_path.iterdir()) == [] and torch.equal(torch.rand(2), expected)


def test_measuring_can_be_stopped(
    photographs: list[Path], starting_weights: StartingWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(TrainingError, match="stopped"):
        within(30, starting_weights, photographs, should_stop=lambda: True)
    assert list(tmp_path.iterdir()) == []


def test_a_run_keeps_its_number_of_steps(run_folder: Path) -> None:
    def steps(seconds: float, measured: int, size: int = 256, **training: Any) -> int:
        options = Options(size=size)
        network, config = (
            options.model("part", (size, size)).network,
            dataclasses.replace(options.training(), **training),
        )
        return steps_of_run(run_folder, seconds, network, config, lambda: measured)

    assert steps(300.0, 240) == 240
    assert steps(300.0, 999) == 240
    assert steps(600.0, 470) == 470
    assert steps(300.0, 999) == 240
    assert steps(300.0, 999, steps=240, warmup_steps=24) == 240  # what comes of the measurement decides nothing
    assert steps(300.0, 60, size=512) == 60 and steps(300.0, 999, size=512) == 60  # there a step takes longer
    assert steps(300.0, 70, frozen_stages=0) == 70
    assert [path.name for path in run_folder.iterdir()] == ["budget.json"]
    (run_folder / "budget.json").write_text('{"300')  # not ours, or cut off
    assert steps(300.0, 7) == 7


def test_finetuning_by_minutes_goes_on_with_the_same_steps(
    photographs: list[Path], weights_file: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def measured(
        seconds: float, found: list[Path], network: NetworkConfig, training: TrainingConfig, *_: Any, **__: Any
    ) -> int:
        asked.append(seconds)
        assert len(found) == 4 and network.input_size == (64, 64) and training.batch_size == 4
        return 3 if len(asked) == 1 else 5

    def run(job: Job, observer: Observer) -> None:
        begun.append((job.training.steps, job.provenance.commands[0].line, job.work))

    begun: list[tuple[int, str, Path]] = []
    monkeypatch.setattr(finetuning, "steps_within", measured)
    monkeypatch.setattr(finetuning, "run", run)
    options: dict[str, Any] = {"output": run_folder / "part", "size": 64, "starting_from": weights_file}
    said: list[str] = []
    for _ in range(2):
        finetuning.finetune(
            photographs[0].parent, "part", minutes=0.5, **options, observer=Observer(on_message=said.append)
        )
    assert asked == [30.0] and said[1::2] == ["0.5 min are enough for 3 steps on this machine."] * 2
    command = "stlm finetune FOLDER --name part --steps 3 --size 64 --weights FILE"
    assert begun == [(3, command, run_folder / "part.run")] * 2
    ((kept, steps),) = json.loads((run_folder / "part.run" / "budget.json").read_text()).items()
    assert kept.startswith("30 s, ") and steps == 3
    with pytest.raises(ConfigError, match="above 0"):
        finetuning.finetune(photographs[0].parent, "part", minutes=0, **options)
