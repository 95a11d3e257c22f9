"""How much work a model may be: counted from its config.json, before its weights are downloaded or a tensor is made.

A valid configuration can be a hundred times the paper's, and whoever names such a model has everybody else wait.
"""

from __future__ import annotations

import math
import os

from stlm_hub.errors import ConfigError
from stlm_hub.models.backbones import BACKBONES
from stlm_hub.models.stlm.config import STLMConfig, size_text

MAX_WORK = float(os.environ.get("STLM_SPACE_MODEL_WORK", 200))
"""Billion multiplications for one photograph. The largest model of the zoo takes 35, the paper's at 1024 px 94, that of
`stlm finetune` at 1024 px 140. 200 take about 20 s and 1 GB on one processor core."""

_STREAMS, _DECODERS = 80.0, 2.2  # billion for a megapixel of input, measured; all grow with its pixels
_BACKBONES = {"efficientnet_lite0": 5.0, "mobile_sam": 26.0}  # the same


def work_of(config: STLMConfig) -> float:
    """Billion multiplications that a model takes for one photograph, to about 30 %."""
    network, memory = config.network, config.patch_memory
    pixels = math.prod(network.input_size) * math.prod(network.tiles)
    fine = "stage1" in network.feature_levels
    cells = pixels / (64 if fine else 256)
    work = (_STREAMS + _DECODERS) * pixels / 1e6 if config.streams else 0.0

    width, entering = network.aggregation_channels, network.aggregation_in_channels
    dilations = len(network.aggregation_dilations)
    # Two residual blocks; pyramid of a 1x1 and dilated 3x3 convolutions, its fusion; head: see `FeatureAggregation`.
    weights = 10 * entering * width + width**2 * (27 + 1 + 9 * dilations + 9 * (2 + dilations) + 9)
    work += cells * weights / 1e9 if config.streams else 0.0

    if memory is not None:
        entering = sum(BACKBONES[memory.backbone].channels)
        work += pixels / 64 * memory.channels * (entering + memory.entries) / 1e9
        work += _BACKBONES[memory.backbone] * pixels / 1e6
    return work


def check_budget(config: STLMConfig) -> None:
    """Refuses a model that is too much work for a page which others share.

    Raises:
        ConfigError: it is.
    """
    work = work_of(config)
    if work > MAX_WORK:
        raise ConfigError(
            f"This model takes {work:,.0f} billion multiplications for a photograph, at "
            f"{size_text(config.network)}; this page lends at most {MAX_WORK:,.0f}. Choose a smaller one, or use it on "
            "your own computer: `stlm predict`."
        )
