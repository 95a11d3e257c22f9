"""What a training step minimises, and what it moves: both streams, the decoder and the aggregation module at once.

The paper's training is the default (section 3.4). Its ablations are settings of `TrainingConfig`: without a teacher
(Table 7), without a plain student (Table 4), in two stages (Table 5), without the aggregation module (Table 4), with
SAM's masks as targets instead of its features (Table 9).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import TrainingError
from ..models.stlm.config import NetworkConfig
from ..models.stlm.mask_head import MaskHead
from ..models.stlm.network import STLMNetwork
from ..starting_weights.starting_weights import StartingWeights
from .config import TrainingConfig
from .losses import (
    cosine_distance,
    cosine_distillation,
    focal,
    l1,
    mask_distillation,
    mask_on_grid,
)


class LossModule(nn.Module):
    """Batch and targets in, losses out: what is differentiated, in one `forward` so that it can be distributed.

    Args:
        network: that is trained.
        config: of the training.
        weights: starting weights, of which distilling masks takes SAM's mask head. It stays as it is.

    Raises:
        WeightsError: the weights lack that head.
    """

    def __init__(self, network: STLMNetwork, config: TrainingConfig, weights: StartingWeights) -> None:
        super().__init__()
        self.network, self.config = network, config
        self.mask_head = None
        if config.distillation == "masks":
            self.mask_head = MaskHead().requires_grad_(False)
            weights.load_into(mask_head=self.mask_head)

    def forward(
        self,
        pseudo: Tensor,
        mask: Tensor,
        clean_target: dict[str, Tensor],
        pseudo_target: dict[str, Tensor],
        stage: str = "all",
        windows: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """
        Args:
            pseudo: Bx3xSxS float RGB in [0, 255], pseudo-anomalous or clean.
            mask: Bx1xSxS of 0 and 1.
            clean_target, pseudo_target: see `Targets`; with a "trunk" the frozen stages are not computed again, with
                "masks" these are distilled. Without a teacher `clean_target` holds the clean images as "image", like
                `pseudo`, and `pseudo_target` nothing.
            stage: see `TrainingConfig.stage`.
            windows: Bx4, of the photographs that the images are; None: all of them. See `MaskDecoder`.

        Returns:
            Scalars "plain", "denoising", "focal", "l1" (equations 3, 4, 6, 7) and their sum "total" (equation 8).
            In stage "streams" the last two are 0; in stage "aggregation" the first two have no gradient.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and stage != "aggregation"):
            plain, denoising = self._streams(pseudo, pseudo_target, windows)
            losses = self._stream_losses(plain, denoising, clean_target, pseudo_target)
        if stage == "streams":
            zero = losses["denoising"].new_zeros(())
            losses |= {"focal": zero, "l1": zero}
        else:
            logits = self.network.aggregate(plain, denoising)
            target = mask_on_grid(mask, (logits.shape[-2], logits.shape[-1]))
            losses |= {
                "focal": focal(logits, target, hardest_share=self.config.hardest_share),
                "l1": l1(logits, target),
            }
        return losses | {"total": torch.stack(list(losses.values())).sum()}

    def _streams(
        self, pseudo: Tensor, pseudo_target: dict[str, Tensor], windows: Tensor | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        network, depth = self.network, self.config.frozen_stages
        if "trunk" in pseudo_target:
            trunk = pseudo_target["trunk"]
        else:
            with torch.set_grad_enabled(torch.is_grad_enabled() and depth == 0):
                trunk = network.denoising_encoder.trunk(pseudo, depth)
        denoising = network.levels(network.denoising_encoder, trunk, depth, windows)
        if self.config.plain_stream == "teacher":
            plain = pseudo_target
        elif self.config.plain_stream == "frozen":  # its encoder is the teacher's; only the shared decoder moves
            plain = dict(pseudo_target)
            if "decoder" in denoising:
                plain["decoder"] = network.decoder(pseudo_target["embedding"], windows)
        elif depth:  # frozen stages hold the same weights in both streams
            plain = network.levels(network.plain_encoder, trunk, depth, windows)
        else:
            plain = network.plain_levels(pseudo, windows)
        return {level: plain[level] for level in denoising}, denoising

    def _stream_losses(
        self,
        plain: dict[str, Tensor],
        denoising: dict[str, Tensor],
        clean_target: dict[str, Tensor],
        pseudo_target: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        if self.mask_head is not None:
            network, head = self.network, self.mask_head
            streams = {
                "plain": (network.plain_encoder, plain, pseudo_target),
                "denoising": (network.denoising_encoder, denoising, clean_target),
            }
            return {
                name: mask_distillation(head(network.decoder_of(encoder), levels["embedding"]), target["masks"])
                for name, (encoder, levels, target) in streams.items()
            }
        if self.config.teacher != "none":
            return {
                "plain": cosine_distillation(plain, pseudo_target),
                "denoising": cosine_distillation(denoising, clean_target, self.config.hardest_share),
            }
        # Both streams learn from each other alone: the plain one sees the clean image, the denoising one the pasted.
        plain_clean = self.network.plain_levels(clean_target["image"])
        distance = cosine_distance(denoising, plain_clean, self.config.hardest_share)
        return {"plain": distance.new_zeros(()), "denoising": distance}


def check(model: NetworkConfig, config: TrainingConfig) -> None:
    """Raises TrainingError for a model and a training that do not go together."""
    levels, depth = model.feature_levels, config.frozen_stages
    stages = [int(level[-1]) for level in levels if level.startswith("stage")]
    if any(stage < depth for stage in stages):
        raise TrainingError(
            f"With frozen_stages {depth} some of the feature levels {list(levels)} are the same in both streams, "
            "whatever they see; use fewer frozen_stages or later feature_levels."
        )
    if config.crop >= model.image_size:
        raise TrainingError(
            f"A crop of {config.crop} px is no part of photographs at image_size {model.image_size}; set it lower, or "
            "0 to train on whole photographs."
        )
    if config.distillation == "masks" and "embedding" not in levels:
        raise TrainingError('distillation "masks" needs the feature level "embedding", of which masks are made.')
    if model.decoders == "separate" and "decoder" not in levels:
        raise TrainingError('decoders "separate" needs the feature level "decoder"; nothing would read the second one.')
    if config.plain_stream == "teacher" and model.decoders != "separate" and "decoder" in levels:
        raise TrainingError(
            'With plain_stream "teacher" the plain stream keeps SAM\'s decoder; set decoders "separate" for the model.'
        )


def load_starting_weights(network: STLMNetwork, weights: StartingWeights, config: TrainingConfig) -> None:
    """Overwrites encoders and decoders with the weights that the training starts from.

    With `encoder_weights` "random" the encoders stay as they were made (paper, Table 8) and their BatchNorm learns its
    statistics, of which random weights have none.
    """
    weights.load_into(decoder=network.decoder)
    if network.denoising_decoder is not None:
        weights.load_into(decoder=network.denoising_decoder)
    for encoder in (network.plain_encoder, network.denoising_encoder):
        if config.encoder_weights == "random":
            encoder.batch_norm_frozen = False
        else:
            weights.load_into(encoder)


def freeze(network: STLMNetwork, config: TrainingConfig) -> None:
    """Takes the gradient from what the config keeps at the starting weights."""
    levels = network.config.feature_levels
    decoders = [decoder for decoder in (network.decoder, network.denoising_decoder) if decoder is not None]
    for encoder in (network.plain_encoder, network.denoising_encoder):
        if config.frozen_stages:
            encoder.patch_embed.requires_grad_(False)
            encoder.stages[: config.frozen_stages].requires_grad_(False)
    if config.plain_stream != "trained":
        network.plain_encoder.requires_grad_(False)
    if config.plain_stream == "teacher":
        network.decoder.requires_grad_(False)
    if config.aggregation == "none":
        network.aggregation.requires_grad_(False)
    if "embedding" not in levels and "decoder" not in levels:
        last = max(int(level[-1]) for level in levels)
        for encoder in (network.plain_encoder, network.denoising_encoder):  # nothing reads what comes after that stage
            encoder.neck.requires_grad_(False)
            encoder.stages[last + 1 :].requires_grad_(False)
    if "decoder" not in levels:
        for decoder in decoders:
            decoder.requires_grad_(False)


def make_optimizers(network: STLMNetwork, config: TrainingConfig) -> dict[str, torch.optim.Optimizer]:
    """Adam for the streams and the decoder, SGD for the aggregation module (paper, section 4.1.3)."""
    aggregation = network.aggregation
    own = {id(p) for p in aggregation.parameters()}
    streams = [p for p in network.parameters() if p.requires_grad and id(p) not in own]
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
