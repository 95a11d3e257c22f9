"""The first part of EfficientNet-lite0 (Tan and Le, ICML 2019, arXiv 1905.11946), with the weights of ImageNet: what a
memory can look at in place of the plain stream."""

from __future__ import annotations

import timm
from torch import Tensor, nn

EFFICIENTNET = "tf_efficientnet_lite0"
"""timm's name of the network."""

EFFICIENTNET_MEAN, EFFICIENTNET_STD = 127.0, 128.0  # what its weights were trained with, for values in [0, 255]


class ImageNetEncoder(nn.Module):
    """EfficientNet-lite0 up to H/16, 0.7 M parameters; what comes after it is neither run nor kept."""

    def __init__(self) -> None:
        super().__init__()
        self.network = timm.create_model(EFFICIENTNET, pretrained=False, features_only=True, out_indices=(2, 3))
        self.network.blocks = nn.Sequential(*list(self.network.get_submodule("blocks").children())[:5])
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """
        Args:
            image: Bx3xHxW, RGB, values in [0, 255]; H and W multiples of 16.

        Returns:
            Bx40x(H/8)x(W/8) and Bx112x(H/16)x(W/16).
        """
        levels: list[Tensor] = self.network(normalized(image))
        return levels


def normalized(image: Tensor) -> Tensor:
    """Values in [0, 255] -> as EfficientNet-lite was trained with."""
    return (image - EFFICIENTNET_MEAN) / EFFICIENTNET_STD
