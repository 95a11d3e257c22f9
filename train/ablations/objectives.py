"""The paper's ablations that change a training step: each is the paper's objective with one part replaced."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from stlm_hub.errors import TrainingError
from stlm_hub.models.stlm.config import NetworkConfig
from stlm_hub.models.stlm.network import STLMNetwork
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.training.config import TrainingConfig
from stlm_hub.training.losses import cosine_distance
from stlm_hub.training.objective import PAPER, Losses, Objective, freeze, load_decoders
from stlm_hub.training.teacher import MobileTeacher, SamTeacher

from .masks import MaskHead, MobileMaskTeacher, SamMaskTeacher, mask_distillation, mask_head_of, mask_head_of_sam

Features = dict[str, Tensor]  # by level


# ---------------------------------------------------------------- Table 4: without a plain student


class PlainTeacherLosses(Losses):
    """The plain stream's features are the teacher's."""

    def plain_stream(self, pseudo: Tensor, trunk: Tensor, pseudo_target: Features) -> Features:
        return pseudo_target


class NoPlainStudent(Objective):
    """The plain stream is the teacher: MobileSAM, which fits into the finished network, with a decoder of its own."""

    name = "no_plain_student"

    def check_fits(self, model: NetworkConfig, config: TrainingConfig) -> None:
        super().check_fits(model, config)
        if config.teacher != "mobile":
            raise TrainingError(f'{self.name} needs teacher "mobile": no other fits into the finished network.')
        if model.decoders != "separate" and "decoder" in model.feature_levels:
            raise TrainingError(
                f'{self.name} keeps SAM\'s decoder for the plain stream; set decoders "separate" for the model.'
            )

    def prepare(self, network: STLMNetwork, config: TrainingConfig, weights: StartingWeights) -> None:
        super().prepare(network, config, weights)
        network.plain_encoder.requires_grad_(False)
        network.decoder.requires_grad_(False)

    def losses(self, network: STLMNetwork, config: TrainingConfig, weights: StartingWeights) -> list[Losses]:
        return [PlainTeacherLosses(network, config)]


# ---------------------------------------------------------------- Tables 4 and 5: streams and aggregation apart


class StreamLosses(Losses):
    """The streams alone; "focal" and "l1" are 0."""

    def segmentation(self, plain: Features, denoising: Features, mask: Tensor) -> dict[str, Tensor]:
        zero = torch.zeros((), device=mask.device)
        return {"focal": zero, "l1": zero}


class AggregationLosses(Losses):
    """The aggregation alone; "plain" and "denoising" have no gradient."""

    @torch.no_grad()
    def streams(self, pseudo: Tensor, pseudo_target: Features) -> tuple[Features, Features]:
        return super().streams(pseudo, pseudo_target)


class NoAggregation(Objective):
    """The streams alone (Table 4, strategy [46]). The aggregation stays random, so its map must not judge."""

    name = "no_aggregation"
    trains_aggregation = False

    def prepare(self, network: STLMNetwork, config: TrainingConfig, weights: StartingWeights) -> None:
        super().prepare(network, config, weights)
        network.aggregation.requires_grad_(False)

    def losses(self, network: STLMNetwork, config: TrainingConfig, weights: StartingWeights) -> list[Losses]:
        return [StreamLosses(network, config)]


class TwoStages(Objective):
    """First the streams, then the aggregation (Table 5)."""

    name = "two_stages"
    stages = 2

    def losses(self, network: STLMNetwork, config: TrainingConfig, weights: StartingWeights) -> list[Losses]:
        return [StreamLosses(network, config), AggregationLosses(network, config)]


# ---------------------------------------------------------------- Table 7: without a teacher


class Pixels(nn.Module):
    """Stands in for a teacher where there is none: hands out the images themselves, as "image"."""

    def forward(self, image: Tensor) -> Features:
        return {"image": image}


class MutualLosses(Losses):
    """Both streams learn from each other: the plain one sees the clean image, the denoising one the pasted."""

    def distillation(
        self, plain: Features, denoising: Features, clean_target: Features, pseudo_target: Features
    ) -> dict[str, Tensor]:
        plain_clean = self.network.plain_levels(clean_target["image"])
        distance = cosine_distance(denoising, plain_clean, self.config.hardest_share)
        return {"plain": distance.new_zeros(()), "denoising": distance}


class NoTeacher(Objective):
    """Without a fixed SAM. The paper does not say what the streams learn then; see `MutualLosses`."""

    name = "no_teacher"

    def teacher_name(self, config: TrainingConfig) -> str:
        return "none"

    def check_fits(self, model: NetworkConfig, config: TrainingConfig) -> None:
        super().check_fits(model, config)
        if config.frozen_stages or config.plain_stream != "trained":
            raise TrainingError(
                f'{self.name} needs frozen_stages 0 and plain_stream "trained": both streams learn as a whole.'
            )

    def teacher(
        self, network: STLMNetwork, config: TrainingConfig, weights: StartingWeights, checkpoint: Path | None
    ) -> nn.Module:
        return Pixels()

    def losses(self, network: STLMNetwork, config: TrainingConfig, weights: StartingWeights) -> list[Losses]:
        return [MutualLosses(network, config)]


# ---------------------------------------------------------------- Table 8: random encoders


class RandomEncoders(Objective):
    """Encoders stay as they were made; their BatchNorm learns its statistics, of which random weights have none."""

    name = "random_encoders"

    def check_fits(self, model: NetworkConfig, config: TrainingConfig) -> None:
        super().check_fits(model, config)
        if config.plain_stream != "trained" or config.frozen_stages:
            raise TrainingError(f'{self.name} needs plain_stream "trained" and frozen_stages 0.')
        if config.recompute_activations:
            raise TrainingError(f"{self.name} needs recompute_activations false: BatchNorm would count batches twice.")

    def prepare(self, network: STLMNetwork, config: TrainingConfig, weights: StartingWeights) -> None:
        load_decoders(network, weights)
        for encoder in (network.plain_encoder, network.denoising_encoder):
            encoder.batch_norm_frozen = False
        freeze(network, config)


# ---------------------------------------------------------------- Table 9: masks instead of features


class MaskLosses(Losses):
    """Each stream's masks against the teacher's.

    Args:
        head: makes masks of a stream's decoder and embedding; it stays as it is.
    """

    def __init__(self, network: STLMNetwork, config: TrainingConfig, head: MaskHead) -> None:
        super().__init__(network, config)
        self.head = head

    def distillation(
        self, plain: Features, denoising: Features, clean_target: Features, pseudo_target: Features
    ) -> dict[str, Tensor]:
        network = self.network
        streams = {
            "plain": (network.plain_encoder, plain, pseudo_target),
            "denoising": (network.denoising_encoder, denoising, clean_target),
        }
        return {
            name: mask_distillation(self.head(network.decoder_of(encoder), levels["embedding"]), target["masks"])
            for name, (encoder, levels, target) in streams.items()
        }


class DistilMasks(Objective):
    """SAM's masks are the targets. The paper does not say which; here all four that it makes without a prompt."""

    name = "distil_masks"

    def check_fits(self, model: NetworkConfig, config: TrainingConfig) -> None:
        super().check_fits(model, config)
        if "embedding" not in model.feature_levels:
            raise TrainingError(f'{self.name} needs the feature level "embedding", of which masks are made.')
        if config.hardest_share < 1:
            raise TrainingError(f"{self.name} needs hardest_share 1: it has no distances of features.")

    def teacher(
        self, network: STLMNetwork, config: TrainingConfig, weights: StartingWeights, checkpoint: Path | None
    ) -> nn.Module:
        teacher = super().teacher(network, config, weights, checkpoint)
        if isinstance(teacher, MobileTeacher):
            return MobileMaskTeacher(teacher, mask_head_of(weights))
        assert isinstance(teacher, SamTeacher) and checkpoint is not None  # `build_teacher` makes no other
        return SamMaskTeacher(teacher, mask_head_of_sam(checkpoint))

    def losses(self, network: STLMNetwork, config: TrainingConfig, weights: StartingWeights) -> list[Losses]:
        return [MaskLosses(network, config, mask_head_of(weights))]


OBJECTIVES: dict[str, Objective] = {
    objective.name: objective
    for objective in (
        PAPER,
        NoPlainStudent(),
        NoAggregation(),
        TwoStages(),
        NoTeacher(),
        RandomEncoders(),
        DistilMasks(),
    )
}
