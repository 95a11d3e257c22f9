"""What a graph has to do: multiply-adds and bytes of each type of node, counted and not measured."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

VALUE = 4
"""Bytes of a float32."""


def work_of(graph: Path) -> list[dict[str, Any]]:
    """A row for each type of node of an ONNX graph, for a batch of one, those with the most multiply-adds first.

    Bytes are those of inputs, weights among them, and outputs: what moves where nothing is fused or stays in a cache.
    """
    import onnx

    inferred = onnx.shape_inference.infer_shapes(_of_one(onnx.load(graph)), data_prop=True).graph
    shapes = {value.name: _shape(value) for value in (*inferred.input, *inferred.value_info, *inferred.output)}
    shapes |= {weight.name: tuple(weight.dims) for weight in inferred.initializer}
    rows: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for node in inferred.node:
        row = rows[node.op_type]
        row[0] += 1
        row[1] += _multiply_adds(node, shapes)
        row[2] += VALUE * sum(math.prod(shapes.get(name, ())) for name in (*node.input, *node.output) if name)
    return [
        {"node": kind, "nodes": n, "gmacs": round(macs / 1e9, 3), "mb": round(size / 1e6, 1)}
        for kind, (n, macs, size) in sorted(rows.items(), key=lambda row: (-row[1][1], -row[1][2]))
    ]


def _multiply_adds(node: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    outputs = math.prod(shapes.get(node.output[0], (0,)))
    if node.op_type == "Conv":
        return outputs * math.prod(shapes[node.input[1]][1:])
    if node.op_type in ("MatMul", "Gemm"):
        return outputs * shapes[node.input[0]][-1]
    return 0


def _of_one(model: Any) -> Any:
    """The model for a batch of one, in place. Sizes such as "64*batch", of windows, follow when shapes are inferred."""
    for value in model.graph.input:
        for side in value.type.tensor_type.shape.dim:
            if not side.HasField("dim_value"):
                side.dim_value = 1
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    return model


def _shape(value: Any) -> tuple[int, ...]:
    """Sizes that could not be inferred count as one; no matrix product has any."""
    return tuple(side.dim_value if side.HasField("dim_value") else 1 for side in value.type.tensor_type.shape.dim)
