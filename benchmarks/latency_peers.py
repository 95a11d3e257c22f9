"""Other methods for `benchmarks/latency.py`: anomalib's own code. Random weights take as long as trained ones.

Backbones and layers are anomalib's defaults. PatchCore's memory holds a tenth of the patches of 209 photographs at
256 px, the good bottles of MVTec AD; at other sizes it holds as many. All run in the environment of `make peers`.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import timm
import torch
from anomalib.models.image.efficient_ad.torch_model import EfficientAdModel
from anomalib.models.image.padim.torch_model import PadimModel
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from anomalib.models.image.supersimplenet.torch_model import SupersimplenetModel
from torch import Tensor, nn

MEMORY = 209 * (256 // 8) ** 2 // 10
PADIM_FEATURES, PADIM_STRIDE = 100, 4


class Peer(nn.Module):
    """A method with the outputs that a session asks for: map, score, and nothing about familiarity.

    Args:
        model: anomalib's, in eval mode.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """BxHxWx3 uint8 RGB -> maps, scores and, for the shape of it, scores again."""
        found = self.model(pixels.permute(0, 3, 1, 2).to(torch.float32) / 255)
        return found.anomaly_map, found.pred_score, found.pred_score + 0.0


def build(method: str, size: int) -> Peer:
    """A method of `latency.PEERS` for photographs of `size` x `size` px."""
    torch.manual_seed(0)
    plain = timm.create_model

    def without_weights(*arguments: Any, **options: Any) -> nn.Module:
        made: nn.Module = plain(*arguments, **{**options, "pretrained": False})
        return made

    with patch.object(timm, "create_model", without_weights):
        model = _build(method, size)
    return Peer(model.eval()).requires_grad_(False)


def _build(method: str, size: int) -> nn.Module:
    if method == "patchcore":
        patchcore = PatchcoreModel(["layer2", "layer3"], "wide_resnet50_2")
        patchcore.memory_bank = torch.randn(MEMORY, 512 + 1024)
        return patchcore
    if method == "padim":
        padim = PadimModel("resnet18", ["layer1", "layer2", "layer3"], n_features=PADIM_FEATURES)
        positions = (size // PADIM_STRIDE) ** 2
        padim.gaussian.mean = torch.randn(PADIM_FEATURES, positions)
        padim.gaussian.inv_covariance = torch.eye(PADIM_FEATURES).repeat(positions, 1, 1)
        return padim
    return EfficientAdModel() if method == "efficient_ad" else SupersimplenetModel()


def write_openvino(method: str, size: int, path: str) -> None:
    """Writes a method as a graph for OpenVINO, in float32."""
    import openvino

    pixels = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    graph = openvino.convert_model(build(method, size), example_input=pixels, input=[1, size, size, 3])
    graph.inputs[0].get_tensor().set_names({"pixels"})
    for output, name in zip(graph.outputs, ("maps", "scores", "distances"), strict=True):
        output.get_tensor().set_names({name})
    openvino.save_model(graph, path, compress_to_fp16=False)
