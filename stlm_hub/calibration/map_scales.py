"""Held-out normal photographs -> the scales on which the combined map compares the others."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from ..errors import DataError
from ..models.stlm.anomaly_maps import AnomalyMaps
from ..models.stlm.judging import SMALLEST_HEIGHT, MapScale
from ..predict.predictor import batches, evaluating, input_of


def measure_scales(model: AnomalyMaps, images: Iterable[np.ndarray]) -> tuple[MapScale, ...]:
    """Typical and peak raw values of each map that the model has, see `MapScale`.

    Args:
        model: its maps with and without aggregation are measured, and that of its memory if it has one.
        images: HxWx3 uint8 RGB of good parts that the model was not trained on.

    Raises:
        DataError: there is no image, or a map does not vary at all.
    """
    names = [name for name in model.available if name != "combined"]
    means: dict[str, list[float]] = {name: [] for name in names}
    peaks: dict[str, list[float]] = {name: [] for name in names}
    for batch in batches(images, model.image_size):
        with evaluating(model), torch.inference_mode():
            raw = model.raw(input_of(model, batch), names)
        for name in names:
            values = raw[name].flatten(1).cpu().double()
            means[name] += values.mean(1).tolist()
            peaks[name] += values.amax(1).tolist()
    found = {name: (float(np.mean(means[name])), float(np.mean(peaks[name]))) for name in names if means[name]}
    if not found or any(peak - typical < SMALLEST_HEIGHT for typical, peak in found.values()):
        raise DataError("The maps of these photographs do not vary, so they have no scale; use photographs of parts.")
    return tuple(MapScale(name, *values) for name, values in found.items())
