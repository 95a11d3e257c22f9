"""A budget of time -> a number of steps, from a few training steps that are measured on this machine."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from ..errors import ConfigError, TrainingError
from ..models.stlm.config import NetworkConfig
from ..models.stlm.network import STLMNetwork
from ..pseudo_anomalies.textures import TextureSource
from ..starting_weights.starting_weights import StartingWeights
from .config import TrainingConfig
from .loop import train

MIN_STEPS = 20  # fewer teach nothing
MAX_STEPS = 5000  # four times what the zoo's `cpu` recipes take
MEASURED_STEPS = 6  # the first one, which allocates and compiles, does not count


def steps_within(
    seconds: float,
    photographs: Sequence[Path],
    network: NetworkConfig,
    training: TrainingConfig,
    weights: StartingWeights,
    *,
    textures: TextureSource | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> int:
    """Measures a few training steps in a temporary folder.

    The measured steps belong to the first epoch if there are enough photographs. Later epochs reuse teacher features
    and are faster, so a long training ends rather early than late.

    Args:
        seconds: for the training steps; loading, filling the memory, calibration and this measurement come on top.
        photographs, weights, textures: see `loop.train`.
        network, training: of the training to come; `steps` and `epochs` do not matter.
        should_stop: called after every step.

    Returns:
        Steps that take `seconds` on this machine, at least 20 and at most 5000.

    Raises:
        ConfigError: `seconds` is not above 0.
        TrainingError: `should_stop` ended the measurement.
    """
    check_seconds(seconds)
    probe = dataclasses.replace(training, steps=MEASURED_STEPS, checkpoint_every=MEASURED_STEPS)
    # The training must not depend on whether it was measured, so random numbers that are drawn here leave no trace.
    with torch.random.fork_rng(devices=[]), TemporaryDirectory(prefix="stlm-budget-") as folder:
        probed = STLMNetwork(network)
        log = train(probed, photographs, probe, weights, Path(folder), textures=textures, should_stop=should_stop)
    if len(log) < MEASURED_STEPS:
        raise TrainingError("Measuring the time of a step was stopped; nothing was trained yet, start again.")
    pace = sum(record["seconds"] for record in log[1:]) / (MEASURED_STEPS - 1)
    return int(min(MAX_STEPS, max(MIN_STEPS, seconds / max(pace, 1e-3))))


def check_seconds(seconds: float) -> None:
    """Raises ConfigError for a budget in seconds that is not above 0."""
    if not seconds > 0:
        raise ConfigError(f"A training needs a budget of time above 0, not {seconds}.")


def steps_of_run(
    folder: Path, seconds: float, network: NetworkConfig, training: TrainingConfig, measure: Callable[[], int]
) -> int:
    """The number of steps for a budget: measured when a run starts, then kept in its folder.

    No two measurements agree, and a run goes on from its checkpoints only with the same number of steps.

    Args:
        folder: of the run; receives `budget.json`.
        seconds: the budget. Each budget is measured separately.
        network, training: of the training. Each choice is measured separately; `training.steps` and what follows from
            it do not matter.
        measure: returns the number of steps.
    """
    same = dataclasses.replace(training, steps=0, warmup_steps=0)
    settings = json.dumps([network.to_dict(), same.to_dict()], sort_keys=True)
    path = folder / "budget.json"
    budget = f"{seconds:g} s, {hashlib.sha256(settings.encode()).hexdigest()[:12]}"
    try:
        known: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        known = {}
    if budget not in known:
        known[budget] = measure()
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_text(json.dumps(known) + "\n", encoding="utf-8")
        part.replace(path)
    return known[budget]
