"""The maps by name, and the scale that all are brought to: values in limits of normal photographs.

Photographs of good parts decide a `MapScale`. Arrays and tensors are taken alike: runtimes without PyTorch judge too.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ...errors import ConfigError
from ...validate import check_choice, check_number

if TYPE_CHECKING:  # a zoo is listed without loading either
    import numpy as np
    from torch import Tensor

    Scaled = TypeVar("Scaled", np.ndarray, Tensor)

MAP_LABELS = {
    "aggregation": "with aggregation",
    "cosine": "without aggregation",
    "memory": "of the memory",
    "combined": "combined",
}
"""Maps that a model can judge by, and what people read of each."""

ANOMALY_MAPS = tuple(MAP_LABELS)

MEMORY_WEIGHT = 2 / 3
"""Of the memory in the combined map. The streams may see nothing of a kind of defect; a memory rarely does."""

SMALLEST_HEIGHT = 1e-6
"""Least height of a map's limit above its typical value; a map below it does not vary."""


@dataclass(frozen=True)
class MapScale:
    """How high a map lies on normal photographs, so that maps of different kinds can be compared.

    Args:
        anomaly_map: name of the map; its raw values are measured, see `AnomalyMaps.raw`.
        typical: mean of all values.
        limit: score of a photograph, in raw values, up to which this map alone calls it normal; above `typical`.
        lift: by how much the highest values of a good photograph rise with its median, when light, focus or noise
            change: as a factor, 0 for not at all.
        median: median of the values of a usual good photograph.
        lifted: the highest median of good photographs, at least `median`. What lies above it is not taken off.
    """

    anomaly_map: str
    typical: float
    limit: float
    lift: float = 0.0
    median: float = 0.0
    lifted: float = 0.0

    def __post_init__(self) -> None:
        check_choice("scales anomaly_map", self.anomaly_map, ANOMALY_MAPS[:-1])
        check_number("scales typical", self.typical, -1e6, 1e6)
        check_number("scales limit", self.limit, -1e6, 1e6)
        if not self.limit - self.typical >= SMALLEST_HEIGHT:
            raise ConfigError("scales: limit must be above typical; calibrate the model again.")
        check_number("scales lift", self.lift, 0.0, 1e3)
        check_number("scales median", self.median, -1e6, 1e6)
        check_number("scales lifted", self.lifted, self.median, 1e6)

    def in_limits(self, raw: Scaled) -> Scaled:
        """How often the limit values lie above the typical one; arrays or tensors of any shape."""
        return (raw - self.typical) / (self.limit - self.typical)

    def without_lift(self, highest: Scaled, median: Scaled) -> Scaled:
        """What values of a photograph are multiplied with to take off what lifts all of it, in [0, 1].

        Another light or a noisy sensor lifts the highest values with the median. So much is taken off the highest
        ones, and the others fall with them: their order stays. No more is taken off than good photographs needed.

        Args:
            highest: score of each photograph, in limits, before.
            median: of all raw values of each photograph.
        """
        lift = self.lift * (median - self.median).clip(0.0, self.lifted - self.median) / (self.limit - self.typical)
        positive = highest.clip(SMALLEST_HEIGHT)
        factor: Scaled = (1.0 - lift / positive).clip(0.0, 1.0)
        return factor


def in_unit(limits: Scaled) -> Scaled:
    """Values in limits of normal photographs -> [0, 1): x / (1 + x), and 0 below 0."""
    positive = limits.clip(0)
    unit: Scaled = positive / (1 + positive)
    return unit


def agreed(limits: Mapping[str, Scaled]) -> Scaled:
    """What several maps say together, in limits: their mean, in which the memory counts twice as much as the streams.

    Streams and memory err in different places, so that a mean has less noise than either; the highest of them would
    have the false alarms of all.
    """
    streams = [values for name, values in limits.items() if name != "memory"]
    if not streams:
        return limits["memory"]
    mean: Scaled = functools.reduce(operator.add, streams) / len(streams)
    return MEMORY_WEIGHT * limits["memory"] + (1 - MEMORY_WEIGHT) * mean if "memory" in limits else mean


def times(values: np.ndarray, gain: float) -> np.ndarray:
    """Values in [0, 1) whose odds, the values in limits, are `gain` times as high: [0, 1)."""
    return values * gain / (1 + values * (gain - 1))
