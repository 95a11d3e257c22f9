"""Held-out normal photographs -> the scales on which the combined map compares the others."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch.nn import functional as F

from .config import MapScale
from .errors import DataError
from .maps import available_maps, raw_map
from .model.network import STLMNetwork
from .predictor import forward


def measure_scales(model: STLMNetwork, images: Iterable[np.ndarray]) -> tuple[MapScale, ...]:
    """Mean and standard deviation of the scores in each map that the network has, see `MapScale`.

    Args:
        model: its maps with and without aggregation are measured, and that of its memory if it has one.
        images: HxWx3 uint8 RGB of good parts that the model was not trained on, two at the least.

    Raises:
        DataError: there are fewer images, or all score the same in a map.
    """
    config = model.config
    scores: dict[str, list[float]] = {name: [] for name in available_maps(config) if name != "combined"}
    for _, output in forward(model, images):
        for name, known in scores.items():
            with torch.inference_mode():
                raw = F.interpolate(raw_map(output, name), size=(config.image_size, config.image_size), mode="bilinear")
                known += raw.flatten(1).topk(config.score_top_k).values.mean(1).cpu().tolist()
    if min(map(len, scores.values())) < 2 or any(np.std(known, ddof=1) < 1e-6 for known in scores.values()):
        raise DataError(
            "The maps of these photographs do not vary, so they have no scale; use several different photographs of "
            "parts."
        )
    return tuple(MapScale(name, float(np.mean(known)), float(np.std(known, ddof=1))) for name, known in scores.items())
