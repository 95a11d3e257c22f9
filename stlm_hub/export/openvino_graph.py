"""An ONNX graph -> OpenVINO's form, in which some layers keep fp32 where the others compute in bf16.

Distances are differences of large numbers, and bf16 has eight bits: a distance from the memory moves by more than good
parts differ. Streams and aggregation are nearly all of the work, and a memory's backbone is a small part of it.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from .graph import modules

COARSE = ("encoder", "decoder", "aggregation")
"""Modules that compute in bf16: the streams, and what judges where they disagree."""
SOURCELESS = ("Const", "Parameter", "Result")


def write_openvino(source: Path, graph: Path, precision: str) -> None:
    """Converts a graph.

    Args:
        source: ONNX file.
        graph: XML file to write, and beside it a BIN file of its weights.
        precision: that it is for: fp32, bf16 or int8.
    """
    import openvino

    openvino.save_model(openvino.convert_model(source), graph, compress_to_fp16=False)
    if precision == "bf16":
        _keep_precise(source, graph)


def _keep_precise(source: Path, graph: Path) -> None:
    """Marks the layers that are of no module in `COARSE`; OpenVINO obeys the mark."""
    import onnx

    module_of: dict[str, str] = {}
    for node in onnx.load(source, load_external_data=False).graph.node:
        module_of |= dict.fromkeys((node.name, *node.output), modules(node))  # OpenVINO names a layer by either
    tree = ET.parse(graph)  # noqa: S314 - of our own making
    for layer in tree.iterfind("layers/layer"):
        name = layer.attrib["name"]
        # None: fused of several, or made on the way
        module = module_of.get(name) or module_of.get(name.partition("/")[0])
        if module is None or layer.attrib["type"] in SOURCELESS or any(coarse in module for coarse in COARSE):
            continue
        facts = layer.find("rt_info")
        if facts is None:
            facts = ET.Element("rt_info")
            layer.insert(0 if layer.find("data") is None else 1, facts)
        ET.SubElement(facts, "attribute", name="precise", version="0")
    tree.write(graph)
