"""Frozen networks whose features a patch memory compares: MobileSAM's encoder and EfficientNet-lite0 of ImageNet.

Both yield a level at H/8 and one at H/16, as PatchCore's own backbones do.
"""

from __future__ import annotations

from torch import Tensor, nn

from stlm_hub.models.backbones.efficientnet_lite0 import ImageNetEncoder
from stlm_hub.models.stlm.image_encoder import ImageEncoder
from stlm_hub.starting_weights.efficientnet_lite0 import load_imagenet_weights
from stlm_hub.starting_weights.sources import starting_weights


class MobileSAMStages(nn.Module):
    """MobileSAM's encoder up to its third stage: Bx3xSxS RGB in [0, 255] -> Bx128x(S/8)x(S/8), Bx160x(S/16)x(S/16)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ImageEncoder()
        self.encoder.stages = nn.Sequential(*list(self.encoder.stages.children())[:3])
        del self.encoder.neck  # layers after H/16 are neither run nor saved

    def forward(self, image: Tensor) -> list[Tensor]:
        features = self.encoder(image, ("stage1", "stage2"))
        return [features["stage1"], features["stage2"]]


Backbone = MobileSAMStages | ImageNetEncoder


def load_pretrained(backbone: Backbone) -> None:
    """Loads published weights into a backbone: MobileSAM's, from where a training gets them, or those of ImageNet.

    Raises:
        WeightsError: the weights cannot be read or downloaded.
    """
    if isinstance(backbone, ImageNetEncoder):
        load_imagenet_weights(backbone.network)
        return
    whole = starting_weights().encoder
    backbone.encoder.load_state_dict({name: whole[name] for name in backbone.encoder.state_dict()})
