"""From pixels to anomaly maps and scores, in one module: everything between decoding a photograph and judging it.

Each map exists twice: as *raw* values on a grid of its own, which may be any number, and as what people see, in [0, 1]
at the network's size. The combined map takes the highest of the others, each on the scale of normal photographs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError
from ..patch_memory import PatchMemory
from .config import STLMConfig
from .judging import ANOMALY_MAPS, Judging, MapScale
from .network import STLMNetwork, STLMOutput

MIDDLE = 1.5
"""Where the combined map is 0.5: one and a half times as far above the typical normal value as normal peaks are."""
STEEPNESS = 2.5
"""Log-odds of the combined map for each normal peak, so that values up to 8 peaks differ in float32."""

MAP_LABELS = {
    "aggregation": "with aggregation",
    "cosine": "without aggregation",
    "memory": "of the memory",
    "combined": "combined",
}
"""What people read of each map."""

_SMALLEST = 1e-17  # log(0) is no number; products over four levels are about 1e-15 on normal parts


class ScoredMaps(NamedTuple):
    """One anomaly map of a batch, Bx1xSxS float32 in [0, 1], and the anomaly scores of its images, B float32."""

    values: Tensor
    scores: Tensor


class AnomalyMaps(nn.Module):
    """The streams, the memory beside them, and how their maps are composed and scored.

    Args:
        config: what it is made of.
        judging: which map judges, on which scales.
        network: that is there already; None makes one.

    Raises:
        ConfigError: `judging` names a map that a model of this `config` does not have.
    """

    def __init__(self, config: STLMConfig, judging: Judging, network: STLMNetwork | None = None) -> None:
        super().__init__()
        self.config = config
        self.network = STLMNetwork(config.network) if network is None else network
        self.patch_memory = PatchMemory(config.patch_memory) if config.patch_memory else None
        self.judging = judging
        check_judging(config, judging)

    @property
    def image_size(self) -> int:
        """Side of the square network input in pixels."""
        return self.config.network.image_size

    @property
    def available(self) -> tuple[str, ...]:
        """Names of the maps that this model yields, in the order of `ANOMALY_MAPS`."""
        missing = set() if self.patch_memory is not None else {"memory"}
        missing |= set() if self.judging.scales else {"combined"}
        return tuple(name for name in ANOMALY_MAPS if name not in missing or name == self.judging.anomaly_map)

    def forward(self, image: Tensor, which: Sequence[str] = ()) -> dict[str, ScoredMaps]:
        """
        Args:
            image: Bx3xSxS, RGB, values in [0, 255], S the network's image size.
            which: names of maps; (): the one that judges.

        Returns:
            The wanted maps by name.

        Raises:
            ConfigError: the model has no such map.
        """
        wanted = tuple(which) or (self.judging.anomaly_map,)
        output, distances = self._run(image, wanted)
        size = (image.shape[-2], image.shape[-1])
        maps = {name: self._map(name, output, distances, size) for name in wanted}
        top_k = min(self.judging.score_top_k, size[0] * size[1])
        return {name: ScoredMaps(m, m.flatten(1).topk(top_k).values.mean(1).clamp_max(1)) for name, m in maps.items()}

    def raw(self, image: Tensor, which: Sequence[str]) -> dict[str, Tensor]:
        """Raw values on the maps' own grids, Bx1xhxw: logits, logarithm of the cosine product, distances.

        Args:
            image: as `forward` takes it.
            which: names of maps, not "combined".
        """
        output, distances = self._run(image, which)
        return {name: _raw(name, output, distances) for name in which}

    def _run(self, image: Tensor, which: Sequence[str]) -> tuple[STLMOutput, Tensor | None]:
        for name in which:
            if name not in ANOMALY_MAPS:
                raise ConfigError(f"There is no map {name!r}; choose one of {list(ANOMALY_MAPS)}.")
        compared = [scale.anomaly_map for scale in self.judging.scales] if "combined" in which else []
        memory = self.patch_memory if "memory" in (*which, *compared) else None
        return self.network(image), memory(image) if memory is not None else None

    def _map(self, name: str, output: STLMOutput, distances: Tensor | None, size: tuple[int, int]) -> Tensor:
        if name == "combined":
            return combined_map(output, distances, size, self.judging.scales)
        if name == "memory":
            return memory_map(distances, size)
        return (aggregation_map if name == "aggregation" else cosine_map)(output, size)


def check_judging(config: STLMConfig, judging: Judging) -> None:
    """Raises ConfigError where the maps or the top K of `judging` are none of a model of this `config`."""
    maps = (judging.anomaly_map, *(scale.anomaly_map for scale in judging.scales))
    if "memory" in maps and config.patch_memory is None:
        raise ConfigError(
            "This model has no memory of normal patches, so it cannot judge by that map; name another map, or train it "
            "with memory entries."
        )
    if judging.score_top_k > config.network.image_size**2:
        raise ConfigError(f"score_top_k must be at most the {config.network.image_size}^2 values of a map.")


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


def memory_map(distances: Tensor | None, size: tuple[int, int]) -> Tensor:
    """The anomaly map of the memory alone: Bx1xHxW, distance d as d / (1 + d), which changes no ranking."""
    known = _known(distances)
    return _resize(known / (1 + known), size)


def combined_map(
    output: STLMOutput, distances: Tensor | None, size: tuple[int, int], scales: Sequence[MapScale]
) -> Tensor:
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
            "calibration.json has no scales, so there are no maps to combine: its training was cut off. Give the "
            "training's command again, or measure them with: stlm calibrate"
        )
    peaks = [(_resize(_raw(s.anomaly_map, output, distances), size) - s.typical) / (s.peak - s.typical) for s in scales]
    return (STEEPNESS * (torch.stack(peaks).amax(0) - MIDDLE)).sigmoid()


def _raw(name: str, output: STLMOutput, distances: Tensor | None) -> Tensor:
    if name == "aggregation":
        return output.logits.float()
    if name == "cosine":
        height, width = output.logits.shape[-2:]
        return (_cosine_product(output, (height, width)) + _SMALLEST).log()
    return _known(distances)


def _cosine_product(output: STLMOutput, size: tuple[int, int]) -> Tensor:
    result: Tensor | None = None
    for level, feature in output.plain.items():
        similarity = F.cosine_similarity(feature.float(), output.denoising[level].float(), dim=1).unsqueeze(1)
        distance = _resize((1 - similarity) / 2, size)
        result = distance if result is None else result * distance
    assert result is not None  # a config has at least one level
    return result.clamp(0, 1)


def _known(distances: Tensor | None) -> Tensor:
    if distances is None:
        raise ConfigError("This model has no memory of normal patches; train it with memory entries.")
    return distances.float()


def _resize(values: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(values, size=size, mode="bilinear", align_corners=False)
