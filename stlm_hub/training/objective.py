"""What a training minimises, and which weights it trains: all at once (paper, section 3.4)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import TrainingError
from ..models.stlm.config import NetworkConfig
from ..models.stlm.network import STLMNetwork
from ..starting_weights.starting_weights import StartingWeights
from .config import TrainingConfig
from .losses import cosine_distillation, focal, l1, mask_on_grid
from .teacher import build_teacher


class Losses(nn.Module):
    """Batch and targets -> losses, in one `forward`, so that it can be distributed.

    Args:
        network: that is trained.
        config: of the training.
    """

    def __init__(self, network: STLMNetwork, config: TrainingConfig) -> None:
        super().__init__()
        self.network, self.config = network, config

    def forward(
        self, pseudo: Tensor, mask: Tensor, clean_target: dict[str, Tensor], pseudo_target: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """
        Args:
            pseudo: Bx3xhxw float RGB in [0, 255], pseudo-anomalous or clean.
            mask: Bx1xhxw of 0 and 1.
            clean_target, pseudo_target: see `Targets`. If they hold a "trunk", the frozen stages are not run again.

        Returns:
            Scalars "plain", "denoising", "focal", "l1" (equations 3, 4, 6, 7) and their sum "total" (equation 8).
        """
        plain, denoising = self.streams(pseudo, pseudo_target)
        losses = self.distillation(plain, denoising, clean_target, pseudo_target)
        losses |= self.segmentation(plain, denoising, mask)
        return losses | {"total": torch.stack(list(losses.values())).sum()}

    def streams(self, pseudo: Tensor, pseudo_target: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Level features of the plain and of the denoising stream; arguments as of `forward`."""
        network, depth = self.network, self.config.frozen_stages
        if "trunk" in pseudo_target:
            trunk = pseudo_target["trunk"]
        else:
            with torch.set_grad_enabled(torch.is_grad_enabled() and depth == 0):
                trunk = network.denoising_encoder.trunk(pseudo, depth)
        denoising = network.levels(network.denoising_encoder, trunk, depth)
        plain = self.plain_stream(pseudo, trunk, pseudo_target)
        return {level: plain[level] for level in denoising}, denoising

    def plain_stream(self, pseudo: Tensor, trunk: Tensor, pseudo_target: dict[str, Tensor]) -> dict[str, Tensor]:
        """Level features of the plain stream, perhaps with others. `trunk`: output of the shared stages."""
        network, depth = self.network, self.config.frozen_stages
        if self.config.plain_stream == "frozen":  # its encoder is the teacher's; only the shared decoder moves
            plain = dict(pseudo_target)
            if "decoder" in network.config.feature_levels:
                plain["decoder"] = network.decoder(pseudo_target["embedding"])
            return plain
        if depth:  # frozen stages hold the same weights in both streams
            return network.levels(network.plain_encoder, trunk, depth)
        return network.plain_levels(pseudo)

    def distillation(
        self,
        plain: dict[str, Tensor],
        denoising: dict[str, Tensor],
        clean_target: dict[str, Tensor],
        pseudo_target: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        """Distances from the teacher's features: "plain", of the same image, and "denoising", of the clean image."""
        return {
            "plain": cosine_distillation(plain, pseudo_target),
            "denoising": cosine_distillation(denoising, clean_target, self.config.hardest_share),
        }

    def segmentation(self, plain: dict[str, Tensor], denoising: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
        """Losses "focal" and "l1" of the aggregation map against the mask of the pseudo anomaly."""
        logits = self.network.aggregate(plain, denoising)
        target = mask_on_grid(mask, (logits.shape[-2], logits.shape[-1]))
        return {
            "focal": focal(logits, target, hardest_share=self.config.hardest_share),
            "l1": l1(logits, target),
        }


class Objective:
    """Teacher, losses and trained weights: this class is the paper's. Each ablation replaces a part of it.

    Attributes:
        name: part of a training's identity, because it decides the losses together with the settings.
        stages: number of trainings that follow one another, each with all steps and learning rates of the config.
        trains_aggregation: whether the aggregation map can be used afterwards.
    """

    name = "paper"
    stages = 1
    trains_aggregation = True

    def total_steps(self, config: TrainingConfig, n_photographs: int, processes: int = 1) -> int:
        """Number of optimiser steps of all stages."""
        return self.stages * config.total_steps(n_photographs, processes)

    def teacher_name(self, config: TrainingConfig) -> str:
        """The network whose features are distilled, one of `config.TEACHERS`."""
        return config.teacher

    def described(self, config: TrainingConfig) -> dict[str, str]:
        """Entries for results.json beside the settings; none for the paper's objective."""
        return {} if self.name == Objective.name else {"objective": self.name, "teacher": self.teacher_name(config)}

    def check_fits(self, model: NetworkConfig, config: TrainingConfig) -> None:
        """Raises TrainingError for a network and a training that do not go together."""
        levels, depth = model.feature_levels, config.frozen_stages
        if any(level.startswith("stage") and int(level[-1]) < depth for level in levels):
            raise TrainingError(
                f"With frozen_stages {depth} some of the feature levels {list(levels)} are the same in both streams, "
                "whatever they see; use fewer frozen_stages or later feature_levels."
            )
        if model.decoders == "separate" and "decoder" not in levels:
            raise TrainingError(
                'decoders "separate" needs the feature level "decoder"; nothing would read the second one.'
            )

    def prepare(self, network: STLMNetwork, config: TrainingConfig, weights: StartingWeights) -> None:
        """Overwrites encoders and decoders with the starting weights, and freezes the weights that are not trained."""
        load_starting_weights(network, weights)
        freeze(network, config)

    def teacher(
        self, network: STLMNetwork, config: TrainingConfig, weights: StartingWeights, checkpoint: Path | None
    ) -> nn.Module:
        """A module: Bx3xhxw RGB in [0, 255] -> level features, and whatever else the losses need."""
        wanted = set(network.config.feature_levels)
        wanted |= {"embedding"} if "decoder" in wanted else set()
        return build_teacher(config.teacher, sorted(wanted), weights, checkpoint, config.frozen_stages)

    def losses(self, network: STLMNetwork, config: TrainingConfig, weights: StartingWeights) -> list[Losses]:
        """The losses of each stage. More than one stage cannot be distributed."""
        return [Losses(network, config)]


PAPER = Objective()


def load_starting_weights(network: STLMNetwork, weights: StartingWeights) -> None:
    """Overwrites encoders and decoders with the weights that a training starts from."""
    for encoder in (network.plain_encoder, network.denoising_encoder):
        weights.load_into(encoder)
    load_decoders(network, weights)


def load_decoders(network: STLMNetwork, weights: StartingWeights) -> None:
    """Overwrites the shared decoder, or both."""
    weights.load_into(decoder=network.decoder)
    if network.denoising_decoder is not None:
        weights.load_into(decoder=network.denoising_decoder)


def freeze(network: STLMNetwork, config: TrainingConfig) -> None:
    """Switches gradients off for weights that the config freezes, and for modules that no level needs."""
    levels = network.config.feature_levels
    for encoder in (network.plain_encoder, network.denoising_encoder):
        if config.frozen_stages:
            encoder.patch_embed.requires_grad_(False)
            encoder.stages[: config.frozen_stages].requires_grad_(False)
        if "embedding" not in levels and "decoder" not in levels:
            last = max(int(level[-1]) for level in levels)
            encoder.neck.requires_grad_(False)
            encoder.stages[last + 1 :].requires_grad_(False)
    if config.plain_stream == "frozen":
        network.plain_encoder.requires_grad_(False)
    if "decoder" not in levels:
        network.decoder.requires_grad_(False)
        if network.denoising_decoder is not None:
            network.denoising_decoder.requires_grad_(False)


def make_optimizers(network: STLMNetwork, config: TrainingConfig) -> dict[str, torch.optim.Optimizer]:
    """Adam for the streams and the decoder, SGD for the aggregation module (paper, section 4.1.3).

    Each group keeps the learning rate of the config as "initial_lr", see `step.learning_rate_factor`.
    """
    aggregation = network.aggregation
    of_aggregation = {id(p) for p in aggregation.parameters()}
    streams = [p for p in network.parameters() if p.requires_grad and id(p) not in of_aggregation]
    optimizers: dict[str, torch.optim.Optimizer] = {
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
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers
