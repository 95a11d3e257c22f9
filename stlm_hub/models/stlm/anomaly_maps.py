"""The kinds of anomaly maps that one forward pass yields: what the network put out -> values in [0, 1].

Each map exists twice: as a *raw* value on a grid of its own, which may be any number, and as what people see, in [0, 1]
at a wanted size. The combined map takes the highest of the others, each on the scale of normal photographs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import ConfigError
from .config import MapScale, STLMConfig
from .network import STLMOutput

MIDDLE = 1.5
"""Where the combined map is 0.5: one and a half times as far above the typical normal value as normal peaks are."""
STEEPNESS = 2.5
"""Log-odds of the combined map for each normal peak, so that values up to 8 peaks differ in float32."""
_SMALLEST = 1e-17  # log(0) is no number; products over four levels are about 1e-15 on normal parts


@dataclass(frozen=True)
class MapKind:
    """What people read of a map: `label` in words, and the key of its figures in results.json."""

    label: str
    figures: str


KINDS = {
    "aggregation": MapKind("with aggregation", "metrics"),
    "cosine": MapKind("without aggregation", "metrics_without_aggregation"),
    "memory": MapKind("of the memory", "metrics_memory"),
    "combined": MapKind("combined", "metrics_combined"),
}


def available_maps(config: STLMConfig) -> tuple[str, ...]:
    """Names of the maps that a model with this configuration yields, in the order of `KINDS`."""
    missing = set() if config.memory_entries else {"memory"}
    missing |= set() if config.combined_maps else {"combined"}
    return tuple(name for name in KINDS if name not in missing or name == config.anomaly_map)


def aggregation_map(output: STLMOutput, size: tuple[int, int]) -> Tensor:
    """The anomaly map with the aggregation module: Bx1xHxW probabilities in [0, 1], bilinear from the logits' grid."""
    return _resize(output.logits.float().sigmoid(), size)


def cosine_map(output: STLMOutput, size: tuple[int, int]) -> Tensor:
    """The anomaly map without the aggregation module (paper, Table 4, "strategy [46]"): Bx1xHxW in [0, 1].

    The product over L levels of (1 - cosine similarity) / 2, and of that the L-th root. Neither the half nor the root
    changes the ranking of positions. Without the root, even peaks of normal parts are at 1e-9 with four levels,
    where no threshold can be read, shown or set.
    """
    return _cosine_product(output, size).pow(1 / len(output.plain))


def memory_map(output: STLMOutput, size: tuple[int, int]) -> Tensor:
    """The anomaly map of the memory alone: Bx1xHxW, distance d as d / (1 + d), which changes no ranking."""
    distances = _distances(output)
    return _resize(distances / (1 + distances), size)


def combined_map(output: STLMOutput, size: tuple[int, int], scales: Sequence[MapScale]) -> Tensor:
    """The highest of several maps in peaks of normal photographs: Bx1xHxW in [0, 1].

    A raw value x counts as (x - typical) / (peak - typical): 0 is a typical normal patch, 1 as high as the highest of a
    normal photograph usually is. An anomaly needs to be seen by one map only; one that sees nothing of it pulls nothing
    down. Both numbers are means, which few held-out photographs tell well; the standard deviation of their scores,
    the textbook's scale, they do not.

    Args:
        scales: of the maps to compare, from `stlm_hub.calibration.map_scales.measure_scales`.

    Raises:
        ConfigError: there are none.
    """
    if not scales:
        raise ConfigError(
            "config.json names no combined_maps, so there is nothing to combine: its training was cut off, or it is of "
            "an older stlm_hub. Give the training's command again, or measure them with: stlm calibrate"
        )
    peaks = [(_resize(raw_map(output, s.anomaly_map), size) - s.typical) / (s.peak - s.typical) for s in scales]
    return (STEEPNESS * (torch.stack(peaks).amax(0) - MIDDLE)).sigmoid()


def raw_map(output: STLMOutput, name: str) -> Tensor:
    """Raw values on the map's own grid, Bx1xhxw: logits, logarithm of the cosine product, distances of the memory."""
    if name == "aggregation":
        return output.logits.float()
    if name == "cosine":
        height, width = output.logits.shape[-2:]
        return (_cosine_product(output, (height, width)) + _SMALLEST).log()
    assert name == "memory"  # MapScale takes no other
    return _distances(output)


def compute_map(name: str, output: STLMOutput, config: STLMConfig) -> Tensor:
    """One map of `KINDS` at the network's size: Bx1xSxS in [0, 1].

    Raises:
        ConfigError: there is no such map, or the model lacks it.
    """
    if name not in KINDS:
        raise ConfigError(f"There is no map {name!r}; choose one of {list(KINDS)}.")
    size = (config.image_size, config.image_size)
    if name == "combined":
        return combined_map(output, size, config.combined_maps)
    return _SINGLE[name](output, size)


_SINGLE: dict[str, Callable[[STLMOutput, tuple[int, int]], Tensor]] = {
    "aggregation": aggregation_map,
    "cosine": cosine_map,
    "memory": memory_map,
}


def _cosine_product(output: STLMOutput, size: tuple[int, int]) -> Tensor:
    result: Tensor | None = None
    for level, feature in output.plain.items():
        similarity = F.cosine_similarity(feature.float(), output.denoising[level].float(), dim=1).unsqueeze(1)
        distance = _resize((1 - similarity) / 2, size)
        result = distance if result is None else result * distance
    assert result is not None  # a config has at least one level
    return result.clamp(0, 1)


def _distances(output: STLMOutput) -> Tensor:
    if output.distances is None:
        raise ConfigError("This model has no memory of normal patches; train it with memory_entries.")
    return output.distances.float()


def _resize(values: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(values, size=size, mode="bilinear", align_corners=False)
