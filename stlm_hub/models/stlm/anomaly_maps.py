"""From pixels to anomaly maps and scores, in one module: everything between decoding a photograph and judging it.

A map passes through three stages:

1. `raw`: values on the map's own grid, which may be any number.
2. `limits`: values at the frame's size, counted in limits of normal photographs. 0 is a typical normal patch, 1 is as
   high as normal photographs reach.
3. `scored`: what people see, x / (1 + x) of the limits, in [0, 1): the limit is 0.5, nine times the limit 0.9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError
from ..acceleration import Acceleration
from ..familiarity import Description, Familiarity, describe
from ..patch_memory import PatchMemory
from .area import reached
from .config import LEVEL_CHANNELS, STLMConfig
from .judging import Judging, check_judging
from .network import STLMNetwork, STLMOutput
from .region import Region
from .scales import ANOMALY_MAPS, MapScale, agreed, in_unit
from .tiles import blend, cut

TILE_PIXELS = 2**20
"""Most pixels of tiles in one forward pass."""

_SMALLEST = 1e-9  # keeps log finite; a level of a normal part lies at about 1e-4


class ScoredMaps(NamedTuple):
    """One anomaly map of a batch, Bx1xHxW float32 in [0, 1), and the anomaly scores of its images, B float32."""

    values: Tensor
    scores: Tensor


class InLimits(NamedTuple):
    """The same in limits of normal photographs, unbounded: a map Bx1xHxW, and the scores of its images, B."""

    values: Tensor
    scores: Tensor


class RawMaps(NamedTuple):
    """Raw values of a batch on the maps' own grids, Bx1xhxw each, and what familiarity compares.

    aggregation: logits. cosine: mean logarithm of the distances between the streams. memory: distances.
    """

    values: dict[str, Tensor]
    description: Description


class AnomalyOutput(NamedTuple):
    """What a model returns for a batch: its maps by name, and how far each image is from good ones, Bx2 float32."""

    maps: dict[str, ScoredMaps]
    distances: Tensor


class AnomalyMaps(nn.Module):
    """The streams, the memory beside them, and how their maps are composed and scored.

    Args:
        config: what the model is made of.
        judging: which map judges, on which scales.
        network: streams to take over; None: new ones.

    Raises:
        ConfigError: `judging` names a map that a model of this `config` does not have.
    """

    def __init__(self, config: STLMConfig, judging: Judging, network: STLMNetwork | None = None) -> None:
        super().__init__()
        self.config = config
        self.network = (network or STLMNetwork(config.network)) if config.streams else None
        self.patch_memory = PatchMemory(config.patch_memory) if config.patch_memory else None
        self.familiarity = Familiarity(self._channels)
        self.judging = judging
        self.acceleration = Acceleration()
        self.region = Region(config.network.frame_size) if config.region else None
        check_judging(config, judging)

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width in pixels that photographs are squeezed to: one input of the network, or all tiles."""
        return self.config.network.frame_size

    @property
    def available(self) -> tuple[str, ...]:
        """Names of the maps that this model yields, in the order of `ANOMALY_MAPS`."""
        missing = set() if self.patch_memory is not None else {"memory"}
        missing |= set() if self.network is not None else {"aggregation", "cosine"}
        missing |= set() if self.judging.scales else {"combined"}
        return tuple(name for name in ANOMALY_MAPS if name not in missing or name == self.judging.judge_by)

    def forward(self, image: Tensor, which: Sequence[str] = (), without: Sequence[int] | None = None) -> AnomalyOutput:
        """
        Args:
            image: Bx3xHxW of `frame_size`, RGB, values in [0, 255].
            which: names of maps; none: the one that judges.
            without: for each image the number of its photograph in the memory, which then does not count, or -1.

        Returns:
            The maps, and the distances from good photographs, see `Familiarity`.

        Raises:
            ConfigError: the model has no such map.
        """
        wanted = tuple(which) or (self.judging.judge_by,)
        raw, description = self.raw(image, self.needed(wanted), without)
        size = (image.shape[-2], image.shape[-1])
        return AnomalyOutput({name: self.scored(name, raw, size) for name in wanted}, self.familiarity(description))

    def needed(self, which: Sequence[str]) -> tuple[str, ...]:
        """`Judging.single_maps` of these names, checked.

        Raises:
            ConfigError: there is no such map, or no scales to combine maps by.
        """
        for name in which:
            if name not in ANOMALY_MAPS:
                raise ConfigError(f"There is no map {name!r}; choose one of {list(ANOMALY_MAPS)}.")
        if "combined" in which and not self.judging.scales:
            raise ConfigError(
                "calibration.json has no scales, so there are no maps to combine: its training was cut off. Give the "
                "training's command again, or measure them with: stlm calibrate"
            )
        return self.judging.single_maps(which)

    def raw(self, image: Tensor, which: Sequence[str], without: Sequence[int] | None = None) -> RawMaps:
        """The first stage, which no calibration changes.

        Args:
            image, without: as `forward` takes them.
            which: names of maps, not "combined".

        Raises:
            ConfigError: the model has no such map.
        """
        memory = self.patch_memory
        self.needed(which)  # refuses unknown names
        if "memory" in which and memory is None:
            raise ConfigError("This model has no memory of normal patches; train it with memory entries.")
        stream_maps = [name for name in which if name != "memory"]
        if stream_maps and self.network is None:
            raise ConfigError(f"This model has no streams, so it has no map {stream_maps[0]!r}; train it with steps.")
        tensors = self._infer_frame(image, stream_maps)
        patches = tensors.pop("patches").permute(0, 2, 3, 1)
        if memory is not None and "memory" in which:
            tensors["memory"] = memory.distances(patches, without)
        weight = None if self.region is None else self.region.on_grid((patches.shape[1], patches.shape[2]))
        return RawMaps({name: tensors[name] for name in which}, describe(patches, weight))

    def patches(self, image: Tensor) -> Tensor:
        """Bx3xHxW of `frame_size` -> BxhxwxD float32: the patch features that memory and familiarity compare."""
        return self._infer_frame(image, ())["patches"].permute(0, 2, 3, 1)

    def _infer_frame(self, image: Tensor, stream_maps: Sequence[str]) -> dict[str, Tensor]:
        """Raw maps of the streams by name, and "patches": BxCxhxw each, on the grids of the whole frame."""
        network = self.config.network
        image = image if self.region is None else self.region.cover(image)
        if network.tiles == (1, 1):
            return self._infer_input(image, stream_maps)
        tiles = cut(image, network)
        batch, count = tiles.shape[:2]
        at_once = max(1, TILE_PIXELS // (network.input_size[0] * network.input_size[1]))
        parts = [self._infer_input(part, stream_maps) for part in tiles.flatten(0, 1).split(at_once)]
        joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return {name: blend(values.unflatten(0, (batch, count)), network) for name, values in joined.items()}

    def _infer_input(self, image: Tensor, stream_maps: Sequence[str]) -> dict[str, Tensor]:
        """`_infer_frame` for images of the network's input size: one forward pass, no tiles."""
        memory, network = self.patch_memory, self.network
        output = network(image) if network is not None and (stream_maps or memory is None) else None
        if memory is not None:
            tensors = {"patches": memory.patches(image).permute(0, 3, 1, 2)}
        else:
            assert output is not None
            tensors = {"patches": next(iter(output.plain.values()))}  # the plain stream's finest level
        for name in stream_maps:
            assert output is not None
            tensors[name] = output.logits.float() if name == "aggregation" else self._log_cosine(output)
        return tensors

    def _log_cosine(self, output: STLMOutput) -> Tensor:
        """Mean over the levels of log((1 - cosine similarity) / 2), on the grid of the logits: Bx1xhxw."""
        size = (output.logits.shape[-2], output.logits.shape[-1])
        distances = [self.resized(output.distance(level), size) for level in output.plain]
        return torch.stack([(values.clamp(0, 1) + _SMALLEST).log() for values in distances]).mean(0)

    def scored(self, name: str, raw: Mapping[str, Tensor], size: tuple[int, int]) -> ScoredMaps:
        """The third stage: a map as people see it, and its scores.

        Args:
            name: of the map.
            raw: raw values of `needed((name,))`, Bx1xhxw each.
            size: height and width of the frame.
        """
        if name == "combined":
            single = {m: self.limits(m, raw[m], size) for m in self.judging.compared}
            values = agreed({m: limits.values for m, limits in single.items()})
            scores = agreed({m: limits.scores for m, limits in single.items()})
        else:
            values, scores = self.limits(name, raw[name], size)
        shown = in_unit(values)
        return ScoredMaps(shown if self.region is None else self.region(shown, 0.0), in_unit(scores))

    def limits(self, name: str, raw: Tensor, size: tuple[int, int]) -> InLimits:
        """The second stage, for a single map, not "combined". Without a scale its values are those of `_unscaled`.

        Args:
            name: of the map.
            raw: its raw values, Bx1xhxw.
            size: height and width of the frame.
        """
        scale = self.judging.scale(name)
        if scale is None:
            values = self._unscaled(name, raw, size)
            return InLimits(values, self.score(values))
        values = self._scaled(scale, raw, size)
        highest = self.mean_of_highest(values)
        if scale.lift:
            factor = scale.without_lift(highest, self.median(raw))
            values, highest = values * factor[:, None, None, None], highest * factor
        return InLimits(values, self.bounded_by_area(highest, values))

    def score(self, values: Tensor) -> Tensor:
        """Bx1xHxW -> B: `mean_of_highest`, `bounded_by_area`."""
        return self.bounded_by_area(self.mean_of_highest(values), values)

    def mean_of_highest(self, values: Tensor) -> Tensor:
        """Bx1xHxW -> B: mean of the `score_top_k` highest values in the region that counts."""
        flat = self.counted(values).flatten(1)
        highest = flat.topk(min(self.judging.score_top_k, flat.shape[1])).values
        counts = highest.isfinite()  # a region may have fewer values
        return highest.where(counts, 0.0).sum(1) / counts.sum(1).clamp_min(1)

    def bounded_by_area(self, scores: Tensor, values: Tensor) -> Tensor:
        """B scores -> same, at most the level that a connected region of `minimum_area` in Bx1xHxW values reaches."""
        if self.judging.minimum_area <= 1:
            return scores
        area = round(self.judging.minimum_area)
        arrays = self.counted(values)[:, 0].float().cpu().numpy()
        return torch.minimum(scores, scores.new_tensor([reached(array, area) for array in arrays]))

    def counted(self, values: Tensor) -> Tensor:
        """BxCxHxW -> same, with -inf outside the region that counts."""
        inside: Tensor = values if self.region is None else self.region(values, float("-inf"))
        return inside

    def median(self, raw: Tensor) -> Tensor:
        """Bx1xhxw raw values -> B: the median in the region that counts, the higher middle value of an even number."""
        flat = raw.flatten(1)
        if self.region is None:
            return flat.sort(dim=1).values[:, flat.shape[1] // 2]
        counts = self.region.cells((raw.shape[-2], raw.shape[-1])).flatten()
        ordered = flat.masked_fill(~counts, float("-inf")).sort(dim=1, descending=True).values
        # A shape that is read as a number would fix the batch of an exported graph.
        middle = ((counts.sum() - 1).clamp_min(0) // 2).expand(flat.shape[0], 1)
        return ordered.gather(1, middle)[:, 0]

    def mean(self, raw: Tensor) -> Tensor:
        """Bx1xhxw raw values -> B: the mean in the region that counts."""
        flat = raw.flatten(1)
        if self.region is None:
            return flat.mean(1)
        return flat[:, self.region.cells((raw.shape[-2], raw.shape[-1])).flatten()].mean(1)

    @property
    def _channels(self) -> int:
        """Channels D of the patches that familiarity compares."""
        if self.patch_memory is not None:
            return sum(self.patch_memory.backbone.channels)
        return LEVEL_CHANNELS[self.config.network.feature_levels[0]]

    def _scaled(self, scale: MapScale, raw: Tensor, size: tuple[int, int]) -> Tensor:
        """Raw values Bx1xhxw -> in limits, Bx1xHxW. Exported models resize after scaling, which is cheaper."""
        return scale.in_limits(self.resized(raw, size))

    def _unscaled(self, name: str, raw: Tensor, size: tuple[int, int]) -> Tensor:
        """A map without a scale, Bx1xHxW: the odds of what the paper draws, so that `in_unit` yields just that.

        aggregation: probabilities, bilinear from the logits' grid. cosine: the product over L levels of (1 - cosine
        similarity) / 2, and of that the L-th root (paper, Table 4, "strategy [46]"; neither half nor root changes the
        ranking of positions). memory: distances.
        """
        if name == "memory":
            return self.resized(raw, size)
        values = self.resized(raw.sigmoid() if name == "aggregation" else raw.exp(), size).clamp(0.0, 1 - 1e-6)
        return values / (1 - values)

    def resized(self, values: Tensor, size: tuple[int, int]) -> Tensor:
        """BxCxhxw on another grid, bilinear: BxCxHxW."""
        return F.interpolate(values, size=size, mode="bilinear", align_corners=False)
