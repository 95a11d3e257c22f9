"""The training loop (paper, section 3.4), from starting weights to the last checkpoint.

With Accelerate the same code runs in one process or under `accelerate launch` on several. It draws nothing from a
global random state, so a run that was killed goes on from its last checkpoint with the losses it would have had.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import psutil  # type: ignore[import-untyped]
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch.utils.data import DataLoader

from ..errors import StorageError, TrainingError
from ..fingerprint import file_sha256, fingerprint
from ..models.stlm.network import STLMNetwork
from ..starting_weights.starting_weights import StartingWeights
from . import checkpoint
from .config import TrainingConfig
from .data import NormalPhotographs, StepSampler, collate
from .identity import differences
from .objective import LossModule, check, freeze, load_starting_weights, make_optimizers
from .pseudo_anomalies.textures import TextureSource
from .targets import Targets
from .teacher import SAM_FILES, build_teacher


@dataclass(frozen=True)
class StepReport:
    """One finished step: `losses` by name, mean `seconds_per_step` of late, `seconds_left` at that pace.

    Where steps on whole photographs are to come, `further` is how many more steps on windows they are worth.
    """

    step: int
    total: int
    losses: dict[str, float]
    seconds_per_step: float
    further: float = 0.0

    @property
    def seconds_left(self) -> float:
        return (self.total - self.step + self.further) * self.seconds_per_step


def learning_rate_factor(step: int, total: int, config: TrainingConfig) -> float:
    """What the learning rates of step 0, 1, ... are multiplied with: warm-up, then half a cosine."""
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    fall = 0.5 * (1 + math.cos(math.pi * step / total))
    return warmup * (config.final_learning_rate + (1 - config.final_learning_rate) * fall)


def mixed_precision(choice: str) -> str:
    """ "auto" -> "bf16" where the hardware multiplies it, else "no"; anything else stays."""
    if choice != "auto":
        return choice
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    return "bf16" if torch.cpu.get_capabilities().get("avx512_bf16", False) else "no"


@contextmanager
def _opencv_in_this_thread() -> Iterator[None]:
    """OpenCV's pool would fight with OpenMP's; whoever resizes photographs afterwards gets it back."""
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
    textures: TextureSource | None = None,
    teacher_checkpoint: Path | None = None,
    workers: int = 0,
    facts: dict[str, Any] | None = None,
    on_step: Callable[[StepReport], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[dict[str, float]]:
    """Trains a network in place, from its newest checkpoint in `folder` where there is one.

    Args:
        network: its encoders and decoder are overwritten with `weights` at the start.
        photographs: normal photographs to train on.
        weights: starting weights, and the mobile teacher.
        folder: receives `log.jsonl`, TensorBoard events and `checkpoints/`.
        textures: what is pasted; by default the built-in source.
        teacher_checkpoint: Segment Anything's file for the ViT teachers.
        workers: processes that load photographs; 0 on a CPU, where they would fight with the training for cores.
        facts: what to keep with the checkpoints, as JSON: when, where and with what their last steps were trained, say.
        on_step: told of every finished step.
        should_stop: asked after every step; True ends the training early, after a checkpoint.

    Returns:
        The log: for each step a record of its number, losses, learning rate and seconds.

    Raises:
        TrainingError: a loss is not finite, the folder holds the checkpoints of another training, there are no
            photographs, or the settings do not go together, see `objective.check`.
        StorageError: log or checkpoints cannot be written.
    """
    if not photographs:
        raise TrainingError("There are no photographs to train on; add photographs of good parts.")
    check(network.config, config)
    # Accelerate fixes one precision for the life of the process; torch lets every training choose its own.
    # In one stage every loss reaches all that is trained; otherwise processes must not wait for what has no gradient.
    unused = DistributedDataParallelKwargs(find_unused_parameters=config.aggregation != "one_stage")
    accelerator = Accelerator(
        mixed_precision="no", log_with="tensorboard", project_dir=folder, kwargs_handlers=[unused]
    )
    half = mixed_precision(config.precision) == "bf16"
    device, processes = accelerator.device, accelerator.num_processes
    total = config.total_steps(len(photographs), processes)
    load_starting_weights(network, weights, config)
    freeze(network, config)
    for encoder in (network.plain_encoder, network.denoising_encoder):
        encoder.recompute_activations = config.recompute_activations
    network.train()
    targets = None
    if config.teacher != "none":
        levels = network.config.feature_levels
        wanted = {*levels, "embedding"} if "decoder" in levels else set(levels)
        if config.distillation == "masks":
            wanted |= {"masks"}
        teacher = build_teacher(config.teacher, sorted(wanted), weights, teacher_checkpoint, config.frozen_stages)
        free = psutil.virtual_memory().available  # on a small machine the training itself needs it more
        targets = Targets(teacher.to(device), min(config.feature_cache_bytes, free // (4 * processes)))
    optimizers = make_optimizers(network, config)
    identity = {
        "photographs": fingerprint(photographs),
        "config": config.to_dict() | {"total": total},
        "model": network.config.to_dict(),
        "weights": weights.sha256,
        "processes": processes,
        "textures": fingerprint(textures.photographs) if textures else "",
        "teacher": file_sha256(teacher_checkpoint) if teacher_checkpoint and config.teacher in SAM_FILES else "",
    }
    meta = {"identity": identity, "facts": facts or {}}
    network.to(device)
    log = _read_log(folder / "log.jsonl")
    first, log = _resume(folder / "checkpoints", network, optimizers, identity, log)
    model, *prepared = accelerator.prepare(LossModule(network, config, weights), *optimizers.values())
    base = [[group["initial_lr"] for group in optimizer.param_groups] for optimizer in prepared]
    dataset = NormalPhotographs(photographs, network.config.image_size, config, textures or TextureSource.builtin())
    whole_from = config.whole_from(total)
    sampler = StepSampler(
        len(photographs),
        config.batch_size,
        config.seed,
        first,
        total,
        accelerator.process_index,
        processes,
        whole_from=whole_from,
    )
    loader = DataLoader(
        dataset, batch_sampler=sampler, collate_fn=collate, num_workers=workers, worker_init_fn=_one_thread
    )
    accelerator.init_trackers("tensorboard")
    started, pace = time.monotonic(), 0.0
    larger = (network.config.image_size / config.crop) ** 2 - 1 if config.crop else 0.0
    with _LogFile(folder / "log.jsonl", log, accelerator.is_main_process) as write:
        for step, batch in enumerate(loader, start=first):
            factor = learning_rate_factor(*config.step_in_stage(step, total), config)
            for optimizer, rates in zip(prepared, base, strict=True):
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * factor
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                clean_target, pseudo_target = (
                    targets(batch, device) if targets else ({"image": batch["clean"].to(device, torch.float32)}, {})
                )
                losses = model(
                    batch["pseudo"].to(device, torch.float32),
                    batch["mask"].to(device),
                    clean_target,
                    pseudo_target,
                    config.stage(step, total),
                    None if batch["windows"] is None else batch["windows"].to(device),
                )
            for optimizer in prepared:
                optimizer.zero_grad(set_to_none=True)
            accelerator.backward(losses["total"])
            if config.gradient_clip:
                accelerator.clip_grad_norm_(network.parameters(), config.gradient_clip)
            for optimizer in prepared:
                optimizer.step()
            values = {name: float(value.detach()) for name, value in losses.items()}
            if not math.isfinite(values["total"]):
                raise TrainingError(
                    f"The loss is not finite at step {step + 1}; lower learning_rate or set gradient_clip and "
                    "start anew."
                )
            now = time.monotonic()
            seconds, started = now - started, now
            pace = seconds if not pace or step == whole_from else 0.9 * pace + 0.1 * seconds
            rate = config.learning_rate * factor
            record = {"step": step + 1, **values, "learning_rate": rate, "seconds": round(seconds, 3)}
            log.append(record)
            write(record)
            accelerator.log(values, step=step + 1)
            stop = bool(should_stop and should_stop())
            if processes > 1:  # all of them end after the same step, or those that go on wait for the others for ever
                stop = accelerator.reduce(torch.tensor(float(stop), device=device)).item() > 0
            if accelerator.is_main_process and ((step + 1) % config.checkpoint_every == 0 or step + 1 == total or stop):
                checkpoint.save(folder / "checkpoints", step + 1, network, optimizers, meta)
            if on_step and accelerator.is_main_process:
                further = larger * (total - whole_from) if step < whole_from else 0.0
                on_step(StepReport(step + 1, total, values, pace, further))
            if stop:
                break
    accelerator.wait_for_everyone()
    accelerator.end_training()
    network.eval()
    return log


def _resume(
    folder: Path,
    network: STLMNetwork,
    optimizers: dict[str, torch.optim.Optimizer],
    identity: dict[str, Any],
    log: list[dict[str, float]],
) -> tuple[int, list[dict[str, float]]]:
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    newest = checkpoint.latest(folder)
    if newest is None:
        return 0, []
    # before anything is loaded: what other settings train has other parameters, and torch's words for that help nobody
    known = checkpoint.read_state(newest).get("identity")
    if not isinstance(known, dict):
        raise TrainingError(f"{newest} does not say what training it is of; start anew with another output folder.")
    if other := differences(known, identity):
        raise TrainingError(
            f"{folder} holds checkpoints of another training ({'; '.join(other)}); choose another output folder or "
            "delete it."
        )
    meta = checkpoint.load(newest, network, optimizers)
    log = [record for record in log if record["step"] <= meta["step"]]
    if not log or log[-1]["step"] != meta["step"]:
        raise TrainingError(
            f"{folder.parent / 'log.jsonl'} does not reach to the newest checkpoint, step {meta['step']}; put all of "
            f"it back, or delete {folder} to train anew."
        )
    return meta["step"], log


def _read_log(path: Path) -> list[dict[str, float]]:
    if not path.exists():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:  # the line that a kill cut off; its step comes again
            break
    return records


class _LogFile:
    """Appends records to a JSON-lines file, after rewriting it to what the resumed run still counts as done."""

    def __init__(self, path: Path, records: list[dict[str, float]], active: bool) -> None:
        self.path, self.records, self.active = path, list(records), active

    def __enter__(self) -> Callable[[dict[str, float]], None]:
        if not self.active:
            return lambda record: None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part = self.path.with_name(f".{self.path.name}.part")  # a kill must not leave less than there was
            part.write_text("".join(json.dumps(record) + "\n" for record in self.records))
            part.replace(self.path)
            self.file = self.path.open("a")
        except OSError as error:
            raise self._unwritable(error) from error
        return self._write

    def _write(self, record: dict[str, float]) -> None:
        try:
            self.file.write(json.dumps(record) + "\n")
            self.file.flush()
            os.fsync(self.file.fileno())  # a checkpoint must never be ahead of its log
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> StorageError:
        reason = error.strerror or error
        return StorageError(
            f"{self.path} cannot be written ({reason}); make room there and give the same command again."
        )

    def __exit__(self, *_: object) -> None:
        if self.active:
            self.file.close()


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
