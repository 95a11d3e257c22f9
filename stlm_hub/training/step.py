"""One training step: a batch updates the weights; its losses are returned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..errors import TrainingError
from ..models.stlm.network import STLMNetwork
from .config import TrainingConfig
from .targets import Targets


def learning_rate_factor(step: int, total: int, config: TrainingConfig) -> float:
    """The factor on all learning rates in step 0, 1, ... of `total`: warm-up, then half a cosine."""
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    fall = 0.5 * (1 + math.cos(math.pi * step / total))
    return warmup * (config.final_learning_rate + (1 - config.final_learning_rate) * fall)


def mixed_precision(choice: str) -> str:
    """The precision for a choice of `PRECISIONS`: "auto" is "bf16" if the hardware multiplies bfloat16, else "no"."""
    if choice != "auto":
        return choice
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    return "bf16" if torch.cpu.get_capabilities().get("avx512_bf16", False) else "no"


@dataclass(frozen=True)
class Stepper:
    """Runs the steps of one training. Losses and optimisers are those that Accelerate has prepared."""

    accelerator: Accelerator
    network: STLMNetwork
    config: TrainingConfig
    targets: Targets
    losses: Sequence[nn.Module]  # of each stage
    optimizers: Sequence[torch.optim.Optimizer]
    total: int

    def step(self, number: int, batch: dict[str, Any]) -> tuple[dict[str, float], float]:
        """Updates the weights of the network from one batch.

        Args:
            number: of the step, from 0.
            batch: see `data.collate`.

        Returns:
            The losses by name, and the learning rate of the streams.

        Raises:
            TrainingError: the loss is not finite.
        """
        steps = self.total // len(self.losses)  # of each stage
        stage, step = divmod(number, steps)
        factor = learning_rate_factor(step, steps, self.config)
        self._set_learning_rates(factor)
        losses = self._forward(stage, batch)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(losses["total"])
        if self.config.gradient_clip:
            self.accelerator.clip_grad_norm_(self.network.parameters(), self.config.gradient_clip)
        for optimizer in self.optimizers:
            optimizer.step()
        values = self._of_all(losses)
        if not math.isfinite(values["total"]):
            raise TrainingError(
                f"The loss is not finite at step {number + 1}; lower learning_rate or set gradient_clip and start anew."
            )
        return values, self.config.learning_rate * factor

    def _of_all(self, losses: dict[str, Tensor]) -> dict[str, float]:
        """Losses as numbers: means over all processes, whose batches have equal sizes."""
        values = torch.stack([value.detach().float() for value in losses.values()])
        if self.accelerator.num_processes > 1:
            values = self.accelerator.reduce(values, reduction="mean")
        return dict(zip(losses, values.tolist(), strict=True))

    def _set_learning_rates(self, factor: float) -> None:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor

    def _forward(self, stage: int, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Losses of a batch in one stage, scalars by name."""
        device = self.accelerator.device
        half = mixed_precision(self.config.precision) == "bf16"
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            clean_target, pseudo_target = self.targets(batch, device)
            pseudo, mask = batch["pseudo"].to(device, torch.float32), batch["mask"].to(device)
            losses: dict[str, Tensor] = self.losses[stage](pseudo, mask, clean_target, pseudo_target)
        return losses
