"""The training loop (paper, section 3.4): one step trains both streams, the decoder and the aggregation module.

With Accelerate the same code runs in one process or under `accelerate launch` on several. It draws nothing from a
global random state, so a run that was killed goes on from its last checkpoint with the losses it would have had.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..errors import TrainingError
from ..model.checkpoints import StartingWeights
from ..model.network import STLMNetwork
from . import checkpoint
from .config import TrainingConfig
from .data import NormalPhotographs, StepSampler, collate, fingerprint
from .losses import cosine_distillation, focal, l1, mask_on_grid
from .targets import Targets
from .teacher import build_teacher
from .textures import TextureSource


@dataclass(frozen=True)
class StepReport:
    """One finished step: `losses` by name, mean `seconds_per_step` of late, `seconds_left` at that pace."""

    step: int
    total: int
    losses: dict[str, float]
    seconds_per_step: float

    @property
    def seconds_left(self) -> float:
        return (self.total - self.step) * self.seconds_per_step


class LossModule(nn.Module):
    """Batch and targets in, losses out: what is differentiated, in one `forward` so that it can be distributed."""

    def __init__(self, network: STLMNetwork, config: TrainingConfig) -> None:
        super().__init__()
        self.network, self.config = network, config

    def forward(
        self, pseudo: Tensor, mask: Tensor, clean_target: dict[str, Tensor], pseudo_target: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """
        Args:
            pseudo: Bx3xSxS float RGB in [0, 255], pseudo-anomalous or clean.
            mask: Bx1xSxS of 0 and 1.
            clean_target, pseudo_target: see `Targets`; with a "trunk" the frozen stages are not computed again.

        Returns:
            Scalars "plain", "denoising", "focal", "l1" (equations 3, 4, 6, 7) and their sum "total" (equation 8).
        """
        network, depth = self.network, self.config.frozen_stages
        levels = network.config.feature_levels
        if "trunk" in pseudo_target:
            trunk = pseudo_target["trunk"]
        else:
            with torch.set_grad_enabled(torch.is_grad_enabled() and depth == 0):
                trunk = network.denoising_encoder.trunk(pseudo, depth)
        denoising = network.levels(network.denoising_encoder, trunk, depth)
        if self.config.plain_stream == "frozen":  # it is the teacher; only the shared decoder moves
            plain = {level: pseudo_target[level] for level in levels if level != "decoder"}
            if "decoder" in levels:
                plain["decoder"] = network.decoder(pseudo_target["embedding"])
            plain = {level: plain[level] for level in levels}
        elif depth:  # frozen stages hold the same weights in both streams
            plain = network.levels(network.plain_encoder, trunk, depth)
        else:
            plain = network.plain_levels(pseudo)
        logits = network.aggregate(plain, denoising)
        target = mask_on_grid(mask, (logits.shape[-2], logits.shape[-1]))
        losses = {
            "plain": cosine_distillation(plain, pseudo_target),
            "denoising": cosine_distillation(denoising, clean_target),
            "focal": focal(logits, target),
            "l1": l1(logits, target),
        }
        return losses | {"total": torch.stack(list(losses.values())).sum()}


def freeze(network: STLMNetwork, config: TrainingConfig) -> None:
    """Takes the gradient from what the config keeps at the starting weights."""
    for encoder in (network.plain_encoder, network.denoising_encoder):
        if config.frozen_stages:
            encoder.patch_embed.requires_grad_(False)
            encoder.stages[: config.frozen_stages].requires_grad_(False)
    if config.plain_stream == "frozen":
        network.plain_encoder.requires_grad_(False)
    if "embedding" not in network.config.feature_levels and "decoder" not in network.config.feature_levels:
        last = max(int(level[-1]) for level in network.config.feature_levels)
        for encoder in (network.plain_encoder, network.denoising_encoder):  # nothing reads what comes after that stage
            encoder.neck.requires_grad_(False)
            encoder.stages[last + 1 :].requires_grad_(False)
    if "decoder" not in network.config.feature_levels:
        network.decoder.requires_grad_(False)


def make_optimizers(network: STLMNetwork, config: TrainingConfig) -> dict[str, torch.optim.Optimizer]:
    """Adam for the streams and the decoder, SGD for the aggregation module (paper, section 4.1.3)."""
    streams = [
        p
        for module in (network.plain_encoder, network.denoising_encoder, network.decoder)
        for p in module.parameters()
        if p.requires_grad
    ]
    aggregation = network.aggregation
    return {
        "streams": torch.optim.Adam(streams, lr=config.learning_rate, betas=config.betas),
        "aggregation": torch.optim.SGD(
            [
                {"params": list(aggregation.residual.parameters()), "lr": config.residual_learning_rate},
                {"params": list(aggregation.head.parameters()), "lr": config.head_learning_rate},
            ],
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        ),
    }


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
        on_step: told of every finished step.
        should_stop: asked after every step; True ends the training early, after a checkpoint.

    Returns:
        The log: for each step a record of its number, losses, learning rate and seconds.

    Raises:
        TrainingError: a loss is not finite, the folder holds the checkpoints of another training, there are no
            photographs, or `frozen_stages` leave nothing to train.
    """
    cv2.setNumThreads(0)  # OpenCV's pool would fight with OpenMP's
    _check(network, photographs, config)
    # Accelerate fixes one precision for the life of the process; torch lets every training choose its own.
    accelerator = Accelerator(mixed_precision="no", log_with="tensorboard", project_dir=folder)
    half = mixed_precision(config.precision) == "bf16"
    device, processes = accelerator.device, accelerator.num_processes
    total = config.total_steps(len(photographs), processes)
    weights.load_into(network.plain_encoder, network.decoder)
    weights.load_into(network.denoising_encoder)
    freeze(network, config)
    network.train()
    wanted = set(network.config.feature_levels) | (
        {"embedding"} if "decoder" in network.config.feature_levels else set()
    )
    teacher = build_teacher(config.teacher, sorted(wanted), weights, teacher_checkpoint, config.frozen_stages).to(device)
    targets = Targets(teacher, config.feature_cache_bytes)
    optimizers = make_optimizers(network, config)
    identity = {
        "photographs": fingerprint(photographs),
        "config": config.to_dict() | {"total": total},
        "model": network.config.to_dict(),
        "weights": weights.sha256,
        "processes": processes,
    }
    network.to(device)
    log = _read_log(folder / "log.jsonl")
    first, log = _resume(folder / "checkpoints", network, optimizers, identity, log)
    model, *prepared = accelerator.prepare(LossModule(network, config), *optimizers.values())
    base = [[group["initial_lr"] for group in optimizer.param_groups] for optimizer in prepared]
    dataset = NormalPhotographs(photographs, network.config.image_size, config, textures or TextureSource.builtin())
    sampler = StepSampler(
        len(photographs), config.batch_size, config.seed, first, total, accelerator.process_index, processes
    )
    loader = DataLoader(
        dataset, batch_sampler=sampler, collate_fn=collate, num_workers=workers, worker_init_fn=_one_thread
    )
    accelerator.init_trackers("tensorboard")
    started, pace = time.monotonic(), 0.0
    with _LogFile(folder / "log.jsonl", log, accelerator.is_main_process) as write:
        for step, batch in enumerate(loader, start=first):
            factor = learning_rate_factor(step, total, config)
            for optimizer, rates in zip(prepared, base, strict=True):
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * factor
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                clean_target, pseudo_target = targets(batch, device)
                losses = model(
                    batch["pseudo"].to(device, torch.float32), batch["mask"].to(device), clean_target, pseudo_target
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
            pace = seconds if not pace else 0.9 * pace + 0.1 * seconds
            rate = config.learning_rate * factor
            record = {"step": step + 1, **values, "learning_rate": rate, "seconds": round(seconds, 3)}
            log.append(record)
            write(record)
            accelerator.log(values, step=step + 1)
            stop = bool(should_stop and should_stop())
            if accelerator.is_main_process and ((step + 1) % config.checkpoint_every == 0 or step + 1 == total or stop):
                checkpoint.save(folder / "checkpoints", step + 1, network, optimizers, {"identity": identity})
            if on_step and accelerator.is_main_process:
                on_step(StepReport(step + 1, total, values, pace))
            if stop:
                break
    accelerator.wait_for_everyone()
    accelerator.end_training()
    network.eval()
    return log


def _check(network: STLMNetwork, photographs: Sequence[Path], config: TrainingConfig) -> None:
    if not photographs:
        raise TrainingError("There are no photographs to train on; add photographs of good parts.")
    levels, depth = network.config.feature_levels, config.frozen_stages
    stages = [int(level[-1]) for level in levels if level.startswith("stage")]
    readable = all(stage >= depth - 1 for stage in stages)
    trainable = len(stages) < len(levels) or max(stages) >= depth
    if not (readable and trainable):
        raise TrainingError(
            f"With frozen_stages {depth} the feature levels {list(levels)} leave nothing to train or to read; "
            "use fewer frozen_stages or later feature_levels."
        )


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
    meta = checkpoint.load(newest, network, optimizers)
    # what an older checkpoint does not know it cannot contradict
    if any(_decisive(identity.get(name)) != _decisive(value) for name, value in meta["identity"].items()):
        raise TrainingError(
            f"{folder} holds checkpoints of a training with other photographs, settings or starting weights; "
            "choose another output folder or delete it."
        )
    return meta["step"], [record for record in log if record["step"] <= meta["step"]]


def _decisive(value: Any) -> Any:
    """Without the settings that change no loss, so that a run may go on with others."""
    if isinstance(value, dict):
        return {key: item for key, item in value.items() if key not in ("checkpoint_every", "feature_cache_bytes")}
    return value


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
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f".{self.path.name}.part")  # a kill must not leave less than there was
        part.write_text("".join(json.dumps(record) + "\n" for record in self.records))
        part.replace(self.path)
        self.file = self.path.open("a")
        return self._write

    def _write(self, record: dict[str, float]) -> None:
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()

    def __exit__(self, *_: object) -> None:
        if self.active:
            self.file.close()


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
