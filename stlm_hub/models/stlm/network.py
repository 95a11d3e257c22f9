"""STLM's network: two streams, one shared decoder, the aggregation module (paper, figure 2). 16.65 M parameters.

The plain stream describes the part as it is, the denoising stream as it would be if it were normal. Where they
disagree, the aggregation module finds an anomaly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .aggregation import FeatureAggregation
from .config import NetworkConfig
from .image_encoder import ImageEncoder
from .mask_decoder import MaskDecoder


@dataclass
class STLMOutput:
    """Output of one forward pass. Levels are keyed by the names in `NetworkConfig.feature_levels`."""

    logits: Tensor  # Bx1xhxw on the finest level grid: H/8 with "stage1", else H/16
    plain: dict[str, Tensor]  # level features of the plain stream, each BxCxh'xw'
    denoising: dict[str, Tensor]  # level features of the denoising stream, same shapes

    def distance(self, level: str) -> Tensor:
        """(1 - cosine similarity) / 2 of the two streams at each position of a level: Bx1xh'xw' float32 in [0, 1]."""
        similarity = F.cosine_similarity(self.plain[level].float(), self.denoising[level].float(), dim=1)
        return (1 - similarity.unsqueeze(1)) / 2


class STLMNetwork(nn.Module):
    """The two streams, their decoder and the aggregation; no handling of photographs or maps.

    Args:
        config: of the network.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.plain_encoder = ImageEncoder()
        self.denoising_encoder = ImageEncoder()
        self.decoder = MaskDecoder()  # of both streams, or of the plain one
        self.denoising_decoder = MaskDecoder() if config.decoders == "separate" else None
        self.aggregation = FeatureAggregation(
            config.aggregation_in_channels, config.aggregation_channels, config.aggregation_dilations
        )

    def plain_levels(self, image: Tensor) -> dict[str, Tensor]:
        """Level features of the plain stream for Bx3xHxW RGB in [0, 255]."""
        return self.levels(self.plain_encoder, self.plain_encoder.trunk(image, 0), 0)

    def denoising_levels(self, image: Tensor) -> dict[str, Tensor]:
        """Level features of the denoising stream for Bx3xHxW RGB in [0, 255]."""
        return self.levels(self.denoising_encoder, self.denoising_encoder.trunk(image, 0), 0)

    def levels(self, encoder: ImageEncoder, trunk: Tensor, depth: int) -> dict[str, Tensor]:
        """Level features of one stream, from its trunk, in the order of `config.feature_levels`.

        Args:
            encoder: `plain_encoder` or `denoising_encoder`, which names the stream.
            trunk, depth: see `ImageEncoder.from_trunk`.
        """
        wanted = self.config.feature_levels
        needs_embedding = "decoder" in wanted or "embedding" in wanted
        features = encoder.from_trunk(trunk, depth, {*wanted, "embedding"} if needs_embedding else wanted)
        if "decoder" in wanted:
            features["decoder"] = self.decoder_of(encoder)(features["embedding"])
        return {level: features[level] for level in wanted}

    def decoder_of(self, encoder: ImageEncoder) -> MaskDecoder:
        """The mask decoder of the stream with this encoder: the shared one, or the stream's own."""
        if encoder is self.denoising_encoder and self.denoising_decoder is not None:
            return self.denoising_decoder
        return self.decoder

    def aggregate(self, plain: dict[str, Tensor], denoising: dict[str, Tensor]) -> Tensor:
        """Level features of both streams -> Bx1xhxw logits (paper, equation 2 and section 3.3).

        Features are L2-normalised over channels, then combined as `aggregation_input` says (Table 6):

        - "product": multiplied element by element; the channels of a product add up to the cosine similarity.
        - "cosine": that similarity itself.
        - "subtraction": the denoising stream's features, and the squared differences.
        - "concat": the features of both streams.

        Args:
            plain, denoising: BxCxh'xw' for each level.
        """
        grid = max((feature.shape[-2:] for feature in plain.values()), key=lambda size: size[0] * size[1])
        inputs = []
        for level, feature in plain.items():
            combined = _combine(
                self.config.aggregation_input, F.normalize(feature, dim=1), F.normalize(denoising[level], dim=1)
            )
            device_type = combined.device.type
            if torch.is_autocast_enabled(device_type):  # the convolution would narrow it anyway, after resizing
                combined = combined.to(torch.get_autocast_dtype(device_type))
            if combined.shape[-2:] != grid:
                combined = F.interpolate(combined, size=grid, mode="bilinear", align_corners=False)
            inputs.append(combined)
        logits: Tensor = self.aggregation(torch.cat(inputs, dim=1))
        return logits

    def forward(self, image: Tensor) -> STLMOutput:
        """
        Args:
            image: Bx3xHxW, RGB, values in [0, 255]; H and W multiples of 64.
        """
        depth = self.config.shared_stages
        trunk = self.plain_encoder.trunk(image, depth)
        plain = self.levels(self.plain_encoder, trunk, depth)
        if depth:
            denoising = self.levels(self.denoising_encoder, trunk, depth)
        else:
            denoising = self.denoising_levels(image)
        return STLMOutput(self.aggregate(plain, denoising), plain, denoising)


def _combine(how: str, plain: Tensor, denoising: Tensor) -> Tensor:
    """BxCxhxw features of both streams, normalised -> input of the aggregation; `how`: one of `AGGREGATION_INPUTS`."""
    if how == "cosine":
        return (plain * denoising).sum(dim=1, keepdim=True)
    if how == "subtraction":
        return torch.cat([denoising, (plain - denoising) ** 2], dim=1)
    if how == "concat":
        return torch.cat([plain, denoising], dim=1)
    return plain * denoising
