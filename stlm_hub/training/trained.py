"""A trained network and the facts about its training: trained now, or taken over from a model folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..errors import ConfigError, TrainingError
from ..evaluation.plots import LOSSES
from ..files.fingerprint import fingerprint
from ..model_folder import hub
from ..model_folder.card.text import public_source
from ..model_folder.figures import SeedFigures
from ..model_folder.folder import read_folder
from ..model_folder.names import RESULTS_NAME, WEIGHTS_NAME
from ..model_folder.provenance import Circumstances, StartingPoint, TrainingFacts
from ..model_folder.results import Results
from ..models.patch_memory import PatchMemory
from ..models.stlm.config import NetworkConfig, STLMConfig
from ..models.stlm.network import STLMNetwork
from ..pseudo_anomalies.nuisance import Nuisance
from ..pseudo_anomalies.textures import TextureSource
from ..starting_weights.starting_weights import StartingWeights
from ..stlm import STLM
from . import checkpoint
from .config import TrainingConfig
from .data import Split
from .loop import StepReport, train
from .objective import PAPER, Objective
from .processes import processes
from .step import mixed_precision

TRAINING_OPTIONS = ("textures", "teacher-checkpoint", "weights")
"""Options of a command that change the training, besides the recipe."""


@dataclass(frozen=True)
class Trained:
    """A network, and what a run needs to know of how it was trained.

    Args:
        network: in eval mode; its config holds the number of stages that both streams share. None: the memory judges
            alone.
        facts: of the training.
        log: a record of each step; empty for a network that was taken over.
        losses: plot of the training's losses, if there is one already.
        other_seeds: figures of trainings of the same recipe with other seeds, if they judge in the same way.
        options: of the command that trained it, out of `TRAINING_OPTIONS`.
        memory: filled from the same photographs in the same way; None: it must be filled.
        weights: file of a network that was taken over. It is copied byte for byte, so that it is stored only once.
    """

    network: STLMNetwork | None = None
    facts: TrainingFacts | None = None
    log: Sequence[dict[str, float]] = ()
    losses: Path | None = None
    other_seeds: tuple[SeedFigures, ...] = ()
    options: dict[str, bool | int | float | str] = dataclasses.field(default_factory=dict)
    memory: PatchMemory | None = None
    weights: Path | None = None


def train_network(
    config: NetworkConfig,
    photographs: Sequence[Path],
    training: TrainingConfig,
    weights: StartingWeights,
    work: Path,
    made: Circumstances,
    *,
    objective: Objective = PAPER,
    textures: TextureSource | None = None,
    region: np.ndarray | None = None,
    teacher_checkpoint: Path | None = None,
    workers: int = 0,
    on_step: Callable[[StepReport], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Trained | None:
    """Trains a network, or goes on from its newest checkpoint.

    Args:
        config: of the network.
        photographs, training, weights, textures, region, teacher_checkpoint, workers: see `loop.train`.
        on_step, should_stop: the same.
        work: folder of checkpoints and log.
        made: date, hardware and versions.
        objective: what is minimised, and which weights are trained.

    Returns:
        None in all but the main process of a distributed training.

    Raises:
        TrainingError: `should_stop` ended the training; a checkpoint is kept.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)  # the aggregation module is all that starts from random values
        network = STLMNetwork(config)
    precision = mixed_precision(training.precision)
    log = train(
        network,
        photographs,
        training,
        weights,
        work,
        objective=objective,
        textures=textures,
        region=region,
        teacher_checkpoint=teacher_checkpoint,
        workers=workers,
        facts={**dataclasses.asdict(made), "precision": precision},
        on_step=on_step,
        should_stop=should_stop,
    )
    total = objective.total_steps(training, len(photographs), processes().num_processes)
    reached = int(log[-1]["step"]) if log else 0
    if reached < total:
        raise TrainingError(f"Training stopped after step {reached} of {total}; the same command goes on from there.")
    if not processes().is_main_process:
        return None
    network.config = dataclasses.replace(config, shared_stages=training.frozen_stages)
    then, precision = _when_trained(work / "checkpoints", made, precision)
    facts = TrainingFacts(
        settings=training.to_dict() | objective.described(training),
        steps=total,
        seconds=round(sum(record["seconds"] for record in log), 1),
        final_losses={name: _last_mean([record[name] for record in log]) for name in LOSSES},
        precision=precision,
        starting_weights=StartingPoint(public_source(weights.source), weights.sha256),
        made=then,
    )
    return Trained(network, facts, log)


def read_trained(
    folder: Path,
    config: STLMConfig,
    anomaly_map: str,
    training: TrainingConfig,
    split: Split,
    nuisance: Nuisance | None = None,
) -> Trained:
    """The network of a finished model, for a run of the same recipe; with its memory, if that would be the same.

    Args:
        folder: of the model, with its results.json.
        config, anomaly_map, training, split, nuisance: of the run that takes the network over.

    Raises:
        ConfigError: results.json does not say how the network was trained or is of other weights, or the network was
            trained in another way or on other photographs.
        WeightsError, HubError: the folder holds no model.
    """
    local = hub.resolve(folder)
    known_config, known_judging = read_folder(local.folder)
    results = hub.results_of(local) or Results()
    known, photographs = results.training, results.dataset.train
    if known is None or photographs is None:
        raise ConfigError(f"{folder / RESULTS_NAME} does not tell how the network was trained; train it anew.")
    before = TrainingConfig.from_dict(dict(known.settings)).deciding
    changed = [name for name, value in training.deciding.items() if before[name] != value]
    differs = {
        f"training ({', '.join(changed)})": bool(changed),
        "model": dataclasses.replace(known_config.network, shared_stages=0)
        != dataclasses.replace(config.network, shared_stages=0),
        "photographs": photographs.sha256 != fingerprint(split.train),
    }
    if differing := [name for name, different in differs.items() if different]:
        raise ConfigError(
            f"The network in {folder} is of another recipe, its {' and '.join(differing)} differ; train it anew, or "
            "take the recipe that it was made by."
        )
    disturbed = dataclasses.asdict(nuisance) if nuisance else None
    judged = (config.patch_memory, anomaly_map, disturbed)
    same_judging = (known_config.patch_memory, known_judging.judge_by, results.nuisance) == judged
    held_out = results.dataset.held_out
    same_memory = same_judging and held_out is not None and held_out.sha256 == fingerprint(split.held_out)
    model = STLM.from_pretrained(folder, device="cpu", backend="torch")
    losses = folder / "losses.png"
    commands = results.provenance.commands
    options = commands[0].options if commands else {}
    return Trained(
        model.network,
        dataclasses.replace(known, made=known.made or results.provenance.made),
        losses=losses if losses.is_file() else None,
        other_seeds=results.other_seeds if same_judging else (),
        options={
            name: value
            for name in TRAINING_OPTIONS
            if name in options and not isinstance(value := options[name], tuple)
        },
        memory=model.patch_memory if same_memory else None,
        weights=local.folder / WEIGHTS_NAME if model.network is not None else None,
    )


def _when_trained(checkpoints: Path, now: Circumstances, precision: str) -> tuple[Circumstances | None, str]:
    """When and on what the last steps were trained, from the newest checkpoint, and their precision.

    A training that was finished earlier is not repeated, so this need not be now.

    Returns:
        The circumstances, None: as now; and the precision.
    """
    newest = checkpoint.latest(checkpoints)
    kept = checkpoint.read_state(newest).get("facts") if newest else None
    if not isinstance(kept, dict):
        return None, precision
    then = Circumstances(kept.get("date", ""), kept.get("hardware", ""), kept.get("versions", {}))
    return None if then == now else then, kept.get("precision", precision)


def _last_mean(values: Sequence[float], n: int = 50) -> float:
    """Mean of the last n values, rounded to 5 digits."""
    return round(float(np.mean(values[-n:])), 5)
