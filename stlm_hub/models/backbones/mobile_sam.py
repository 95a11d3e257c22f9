"""MobileSAM's image encoder (arXiv 2306.14289) up to its third stage, as Segment Anything distilled it."""

from __future__ import annotations

from torch import Tensor, nn

from ..stlm.image_encoder import ImageEncoder
from . import BACKBONES


class MobileSam(nn.Module):
    """TinyViT up to H/16, 2.3 M parameters. The last stage and the neck are removed."""

    channels = BACKBONES["mobile_sam"].channels
    strides = (8, 16)

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ImageEncoder()
        self.encoder.stages = nn.Sequential(*list(self.encoder.stages.children())[:3])
        del self.encoder.neck
        self.requires_grad_(False).eval()

    def forward(self, image: Tensor) -> list[Tensor]:
        """
        Args:
            image: Bx3xHxW, RGB, values in [0, 255]; H and W multiples of 16.

        Returns:
            Bx128x(H/8)x(W/8) and Bx160x(H/16)x(W/16).
        """
        features = self.encoder(image, ("stage1", "stage2"))
        return [features["stage1"], features["stage2"]]

    def load_pretrained(self) -> None:
        """Loads MobileSAM's weights, from the same sources as a training.

        Raises:
            WeightsError: they cannot be obtained.
        """
        from ...starting_weights.sources import starting_weights  # here, because models/ must not need it to predict

        whole = starting_weights().encoder
        self.encoder.load_state_dict({name: whole[name] for name in self.encoder.state_dict()})
