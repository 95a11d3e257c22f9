"""One step of any objective at 64 px, without the loop around it: its losses, and which parts the gradient reached."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stlm_hub.models.stlm.network import STLMNetwork
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.training.config import TrainingConfig
from stlm_hub.training.objective import PAPER, Losses, Objective
from stlm_hub.training.targets import Targets

CPU = torch.device("cpu")
ENCODERS = {"plain_encoder", "denoising_encoder"}


def settings(**fields: Any) -> TrainingConfig:
    return TrainingConfig(**{"teacher": "mobile", "precision": "no", **fields})


class OneStep:
    """A network made ready for an objective.

    Args:
        network: of `make_network`.
        weights: starting weights, and the teacher.
        objective: what is minimised.
        fields: of the training.
    """

    def __init__(
        self, network: STLMNetwork, weights: StartingWeights, objective: Objective = PAPER, **fields: Any
    ) -> None:
        self.network, self.weights, self.objective, self.config = network, weights, objective, settings(**fields)
        objective.check_fits(network.config, self.config)
        objective.prepare(network, self.config, weights)
        network.train()

    def losses(self) -> list[Losses]:
        """The loss modules of its stages."""
        return self.objective.losses(self.network, self.config, self.weights)

    def targets(self, batch: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What the losses compare with: of the clean and of the pseudo-anomalous images."""
        return Targets(self.objective.teacher(self.network, self.config, self.weights, None), 0)(batch, CPU)

    def step(self, batch: dict[str, Any], stage: int = 0) -> dict[str, Tensor]:
        """The losses of one stage, after their backward pass."""
        losses: dict[str, Tensor] = self.losses()[stage](batch["pseudo"].float(), batch["mask"], *self.targets(batch))
        losses["total"].backward()
        return losses

    @property
    def moved(self) -> set[str]:
        """Parts of the network that the gradient reached."""
        return {
            name.split(".")[0]
            for name, parameter in self.network.named_parameters()
            if parameter.grad is not None and parameter.grad.abs().max() > 0
        }
