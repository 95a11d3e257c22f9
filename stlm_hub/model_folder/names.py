"""The files of a model folder."""

from __future__ import annotations

from pathlib import Path

from ..models.stlm.config import CONFIG_NAME as CONFIG_NAME
from ..models.stlm.judging import CALIBRATION_NAME as CALIBRATION_NAME

WEIGHTS_NAME = "model.safetensors"
MEMORY_NAME = "patch_memory.safetensors"
FAMILIARITY_NAME = "familiarity.safetensors"
REGION_NAME = "region.safetensors"
RESULTS_NAME = "results.json"
CARD_NAME = "README.md"
PLOTS = ("scores.png", "curves.png", "losses.png")

WEIGHT_FILES = (WEIGHTS_NAME, MEMORY_NAME, FAMILIARITY_NAME, REGION_NAME)
"""Files of tensors. Those of streams, memory and region are there only where a model has them."""

DECIDING = (CONFIG_NAME, *WEIGHT_FILES, CALIBRATION_NAME)
"""Files that decide a prediction; zoo.json pins the SHA-256 of each."""

ALWAYS = (CONFIG_NAME, WEIGHTS_NAME, FAMILIARITY_NAME, CALIBRATION_NAME)
"""What people read of a model's files; a memory that judges alone has no weights of streams."""

MAX_WEIGHT_BYTES = 512 * 2**20
"""Of one file of tensors, or of an export's graph; the widest network takes 320 MB in float32."""

FILES = (*DECIDING, RESULTS_NAME, CARD_NAME)
"""All files of a finished model but its plots."""

FORMATS = {"onnx": "model.onnx", "openvino": "model.xml"}
"""File formats of an export's graph, with the file that is opened. OpenVINO's weights are in `model.bin` beside it."""

PRECISIONS = ("fp32", "bf16", "int8")


def is_export(folder: Path) -> bool:
    """Whether a folder holds an exported graph."""
    return any((folder / name).is_file() for name in FORMATS.values())
