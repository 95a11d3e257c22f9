"""fp32 -> int8 after training: ranges of activations are measured on normal photographs (static quantisation)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..errors import ConfigError
from .graph import INSTALL, modules

KEPT = ("patch_memory", "familiarity", "spread_", "line_")
"""Modules and weights that stay in fp32. Distances are differences of large numbers, and the memory's backbone is a
small part of the work: on 20 pills with and without pseudo anomalies it costs 5 points of I-AUROC and 7 of AUPRO. The
others resize maps, and are small."""
MOST = 32
"""Photographs that ranges are measured on."""


def quantise(graph: Path, output: Path, photographs: Sequence[np.ndarray]) -> None:
    """Writes a graph whose convolutions and layers compute in int8; everything between them stays in fp32.

    Args:
        graph: an ONNX file in fp32.
        output: file to write.
        photographs: normal ones, SxSx3 uint8 RGB at the network's size.

    Raises:
        ConfigError: a package is missing.
    """
    try:
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    except ImportError as error:
        raise ConfigError(INSTALL.format(error.name)) from None

    class Photographs(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is untyped
        def __init__(self) -> None:
            self.left: Iterator[np.ndarray] = iter(photographs[:MOST])

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.left, None)
            return None if image is None else {"pixels": image[None]}

    model = onnx.load(graph)
    quantize_static(
        graph,
        output,
        Photographs(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv", "MatMul", "Gemm"],
        nodes_to_exclude=[node.name for node in model.graph.node if any(name in modules(node) for name in KEPT)],
        per_channel=True,
        reduce_range=True,  # processors without VNNI add products of 8 bits in 16, which would overflow
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True, "ActivationSymmetric": False},
    )
