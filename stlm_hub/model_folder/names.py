"""The files of a model folder."""

from __future__ import annotations

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

FILES = (*DECIDING, RESULTS_NAME, CARD_NAME)
"""All files of a finished model but its plots."""
