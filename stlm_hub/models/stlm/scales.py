"""The names of the maps, and the scale that makes them comparable: values in limits of normal photographs.

A `MapScale` is measured on good photographs. Functions take arrays and tensors alike, because exported models judge
without PyTorch.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ...errors import ConfigError
from ...validate import check_choice, check_number

if TYPE_CHECKING:  # listing a zoo must import neither
    import numpy as np
    from torch import Tensor

    Scaled = TypeVar("Scaled", np.ndarray, Tensor)

MAP_LABELS = {
    "aggregation": "with aggregation",
    "cosine": "without aggregation",
    "memory": "of the memory",
    "combined": "combined",
}
"""Maps that a model can judge by, and the label of each for people."""

ANOMALY_MAPS = tuple(MAP_LABELS)

MEMORY_WEIGHT = 2 / 3
"""Weight of the memory in the combined map. Streams may miss a kind of defect altogether; a memory rarely does."""

SMALLEST_HEIGHT = 1e-6
"""Smallest difference of a map's limit and its typical value; with a smaller one the map does not vary."""


@dataclass(frozen=True)
class MapScale:
    """The range of a map on normal photographs, which makes different maps comparable.

    Args:
        anomaly_map: name of the map; its raw values are measured, see `AnomalyMaps.raw`.
        typical: mean of all values.
        limit: score of a photograph, in raw values, up to which this map alone calls it normal; above `typical`.
        lift: how much the highest values of a good photograph rise when its median rises by 1, because light, focus or
            noise change; 0: not at all.
        median: median of the values of a usual good photograph.
        lifted: highest median up to which a lift is taken off, at least `median`.
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
        """Raw values -> in limits: 0 is typical, 1 the limit. Arrays or tensors of any shape."""
        return (raw - self.typical) / (self.limit - self.typical)

    def without_lift(self, highest: Scaled, median: Scaled) -> Scaled:
        """The factor in [0, 1] on the values of a photograph that takes off a lift of the whole photograph.

        Another light or a noisy sensor raises the median and the highest values together. The factor lowers the highest
        values by that rise, and all others in proportion, so their order stays. At most as much is taken off as good
        photographs needed.

        Args:
            highest: score of each photograph in limits, with the lift.
            median: median of all raw values of each photograph.

        Returns:
            One factor for each photograph.
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
    """The combined map: the weighted mean of single maps in limits, by name. See `MEMORY_WEIGHT`.

    Streams and memory err in different places, so their mean has less noise than either. Their maximum would have the
    false alarms of all.
    """
    streams = [values for name, values in limits.items() if name != "memory"]
    if not streams:
        return limits["memory"]
    mean: Scaled = functools.reduce(operator.add, streams) / len(streams)
    if "memory" not in limits:
        return mean
    return MEMORY_WEIGHT * limits["memory"] + (1 - MEMORY_WEIGHT) * mean


def times(values: np.ndarray, gain: float) -> np.ndarray:
    """Multiplies the odds x / (1 - x) of values in [0, 1) with a gain; these odds are the values in limits."""
    return values * gain / (1 + values * (gain - 1))
