"""Which layers of an OpenVINO graph keep fp32 where the others compute in bf16.

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


def keep_precise(graph: Path, source: Path) -> None:
    """Marks the layers of an OpenVINO graph that are of no module in `COARSE`; OpenVINO's runtimes obey the mark.

    Args:
        graph: XML file of the graph, which is written again.
        source: the ONNX file that it was converted from, which knows the module of each node.
    """
    import onnx

    found = {}
    for node in onnx.load(source, load_external_data=False).graph.node:
        for name in (node.name, *node.output):  # OpenVINO names a layer by either
            found[name] = modules(node)
    tree = ET.parse(graph)  # noqa: S314 - of our own making
    for layer in tree.iterfind("layers/layer"):
        name = layer.attrib["name"]
        module = found.get(name) or found.get(name.partition("/")[0])  # None: fused of several, or made on the way
        if module is None or layer.attrib["type"] in SOURCELESS or any(coarse in module for coarse in COARSE):
            continue
        facts = layer.find("rt_info")
        if facts is None:
            facts = ET.Element("rt_info")
            layer.insert(0 if layer.find("data") is None else 1, facts)
        ET.SubElement(facts, "attribute", name="precise", version="0")
    tree.write(graph)
