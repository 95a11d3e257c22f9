"""The training loop (paper, section 3.4), from starting weights to the last checkpoint.

With Accelerate the same code runs in one process or, under `accelerate launch`, in several. The losses of several are
those of one process with all of their batches. Nothing depends on a global random state, so a killed run goes on from
its last checkpoint with the losses that it would have had.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil  # type: ignore[import-untyped]
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader

from ..errors import TrainingError
from ..models.stlm.network import STLMNetwork
from ..pseudo_anomalies.textures import TextureSource
from ..starting_weights.starting_weights import StartingWeights
from . import checkpoint
from .config import TrainingConfig
from .data import NormalPhotographs, StepSampler, collate
from .identity import differences, identity_of
from .log import LogFile, Record, read_log
from .objective import PAPER, Objective, make_optimizers
from .processes import processes, shared_batch_norm, told_of_lost_ones
from .step import Stepper
from .targets import Targets


@dataclass(frozen=True)
class StepReport:
    """One finished step.

    Args:
        step: its number, from 1.
        total: how many there are.
        losses: by name.
        seconds_per_step: moving average of the last steps.
    """

    step: int
    total: int
    losses: dict[str, float]
    seconds_per_step: float

    @property
    def seconds_left(self) -> float:
        """Estimate, from `seconds_per_step`."""
        return (self.total - self.step) * self.seconds_per_step


@contextmanager
def _opencv_in_this_thread() -> Iterator[None]:
    """Switches OpenCV's thread pool off for a while: it would compete with OpenMP's for the cores."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


@_opencv_in_this_thread()
def train(
    network: STLMNetwork,
    photographs: Sequence[Path],
    config: TrainingConfig,
    weights: StartingWeights,
    folder: Path,
    *,
    objective: Objective = PAPER,
    textures: TextureSource | None = None,
    region: np.ndarray | None = None,
    teacher_checkpoint: Path | None = None,
    workers: int = 0,
    facts: dict[str, Any] | None = None,
    on_step: Callable[[StepReport], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[Record]:
    """Trains a network in place, from its newest checkpoint in `folder` where there is one.

    Args:
        network: its encoders and decoder are overwritten with `weights` at the start.
        photographs: normal photographs to train on.
        config: settings of the training.
        weights: that the streams start from, and the mobile teacher.
        folder: receives `log.jsonl`, TensorBoard events and `checkpoints/`.
        objective: what is minimised, and which weights are trained.
        textures: material to paste; None: the built-in source.
        region: HxW bool of the frame; the outside is covered and never damaged. None: all of the frame counts.
        teacher_checkpoint: Segment Anything's file for the ViT teachers.
        workers: processes that load photographs. Use 0 on a CPU, where they would compete with the training for cores.
        facts: further data to keep with the checkpoints, ready for JSON, such as date and hardware.
        on_step: called after every step.
        should_stop: called after every step; True ends the training early, after a checkpoint.

    Returns:
        The log: a record of each step.

    Raises:
        TrainingError: a loss is not finite, another process of this training has ended, the folder holds the
            checkpoints of another training, there are no photographs, or the settings do not go together, see
            `Objective.check_fits`.
        WeightsError: the teacher's file is missing or is another one's.
        StorageError: log or checkpoints cannot be written.
    """
    if not photographs:
        raise TrainingError("There are no photographs to train on; add photographs of good parts.")
    objective.check_fits(network.config, config)
    count = processes().num_processes
    # Accelerate fixes one precision for the life of the process; torch lets every training choose its own.
    accelerator = Accelerator(mixed_precision="no", log_with="tensorboard", project_dir=folder)
    total = objective.total_steps(config, len(photographs), count)
    teacher = objective.teacher(network, config, weights, teacher_checkpoint)
    identity = identity_of(
        photographs,
        network.config,
        config,
        objective,
        weights,
        textures=textures,
        region=region,
        teacher_checkpoint=teacher_checkpoint,
        processes=count,
        total=total,
    )
    optimizers = _prepare(network, config, objective, weights, accelerator.device)
    log = _resume(folder, network, optimizers, identity)
    losses = objective.losses(network, config, weights)
    prepared = accelerator.prepare(*losses, *optimizers.values())
    targets = Targets(teacher.to(accelerator.device), _cache_bytes(config, count))
    stepper = Stepper(
        accelerator, network, config, targets, prepared[: len(losses)], prepared[len(losses) :], total=total
    )
    dataset = NormalPhotographs(photographs, network.config, config, textures or TextureSource.builtin(), region)
    first = int(log[-1]["step"]) if log else 0
    batches = _batches(dataset, config, first, total, accelerator, workers)
    accelerator.init_trackers("tensorboard")
    pace = _Pace()
    with (
        LogFile(folder / "log.jsonl", log, accelerator.is_main_process) as write,
        shared_batch_norm(network),
        told_of_lost_ones(),
    ):
        for done, batch in enumerate(batches, start=first + 1):
            values, rate = stepper.step(done - 1, batch)
            log.append({"step": done, **values, "learning_rate": rate, "seconds": round(pace.lap(), 3)})
            write(log[-1])
            accelerator.log(values, step=done)
            stop = _is_to_stop(accelerator, should_stop)
            if accelerator.is_main_process and (done % config.checkpoint_every == 0 or done == total or stop):
                meta = {"identity": identity, "facts": facts or {}}
                checkpoint.save(folder / "checkpoints", done, network, optimizers, meta)
            if on_step and accelerator.is_main_process:
                on_step(StepReport(done, total, values, pace.mean))
            if stop:
                break
        accelerator.wait_for_everyone()
    accelerator.end_training()
    network.eval()
    return log


def _prepare(
    network: STLMNetwork, config: TrainingConfig, objective: Objective, weights: StartingWeights, device: torch.device
) -> dict[str, torch.optim.Optimizer]:
    """Prepares a network for the first step, in place. Returns its optimisers."""
    objective.prepare(network, config, weights)
    for encoder in (network.plain_encoder, network.denoising_encoder):
        encoder.recompute_activations = config.recompute_activations
    network.train().to(device)
    return make_optimizers(network, config)


class _Pace:
    """Seconds of each step, and their moving average `mean`."""

    def __init__(self) -> None:
        self.started, self.mean = time.monotonic(), 0.0

    def lap(self) -> float:
        """Seconds since the last call."""
        now = time.monotonic()
        seconds, self.started = now - self.started, now
        self.mean = 0.9 * self.mean + 0.1 * seconds if self.mean else seconds
        return seconds


def _cache_bytes(config: TrainingConfig, processes: int) -> int:
    """Bytes for teacher features in each process, so few that the training itself does not run short."""
    free: int = psutil.virtual_memory().available
    return min(config.feature_cache_bytes, free // (4 * processes))


def _batches(
    dataset: NormalPhotographs,
    config: TrainingConfig,
    first: int,
    total: int,
    accelerator: Accelerator,
    workers: int,
) -> DataLoader[Any]:
    """This process's batches for the steps `first` to `total`, excluded."""
    sampler = StepSampler(
        len(dataset),
        config.batch_size,
        config.seed,
        first,
        total,
        accelerator.process_index,
        accelerator.num_processes,
    )
    return DataLoader(
        dataset, batch_sampler=sampler, collate_fn=collate, num_workers=workers, worker_init_fn=_one_thread
    )


def _one_thread(_worker: int) -> None:
    """Limits a loading process to one thread."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def _is_to_stop(accelerator: Accelerator, should_stop: Callable[[], bool] | None) -> bool:
    """Whether any process is to stop. All must end after the same step, or the others would wait for ever."""
    stop = bool(should_stop and should_stop())
    if accelerator.num_processes == 1:
        return stop
    processes_to_stop: Tensor = accelerator.reduce(torch.tensor(float(stop), device=accelerator.device))
    return processes_to_stop.item() > 0


def _resume(
    folder: Path, network: STLMNetwork, optimizers: dict[str, torch.optim.Optimizer], identity: dict[str, Any]
) -> list[Record]:
    """Restores network and optimisers from the newest checkpoint, if there is one.

    Returns:
        Records of the steps that are done.

    Raises:
        TrainingError: the checkpoint is of another training, or the log does not reach to it.
    """
    newest = checkpoint.latest(folder / "checkpoints")
    if newest is None:
        return []
    # Compared before anything is loaded: torch's own errors about parameters that do not fit help nobody.
    known = checkpoint.read_state(newest).get("identity")
    if not isinstance(known, dict):
        raise TrainingError(f"{newest} does not say what training it is of; start anew with another output folder.")
    if differing := differences(known, identity):
        raise TrainingError(
            f"{newest.parent} holds checkpoints of another training ({'; '.join(differing)}); choose another output "
            "folder or delete it."
        )
    step = checkpoint.load(newest, network, optimizers)["step"]
    log = [record for record in read_log(folder / "log.jsonl") if record["step"] <= step]
    if not log or log[-1]["step"] != step:
        raise TrainingError(
            f"{folder / 'log.jsonl'} does not reach to the newest checkpoint, step {step}; put all of it back, or "
            f"delete {newest.parent} to train anew."
        )
    return log
