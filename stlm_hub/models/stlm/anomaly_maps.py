"""From pixels to anomaly maps and scores, in one module: everything between decoding a photograph and judging it.

Each map exists twice: as *raw* values on a grid of its own, which may be any number, and as what people see, in [0, 1)
at the network's size. The second counts in limits: 0 is a typical normal patch, 0.5 as high as normal photographs
reach, x times as high is x / (1 + x). So values never crowd together, however far above the limit.
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
from .judging import Judging
from .network import STLMNetwork, STLMOutput
from .region import Region
from .scales import ANOMALY_MAPS, MapScale, agreed, in_unit
from .tiles import blend, cut

TILE_PIXELS = 2**20
"""Pixels of tiles that are in the network at once."""

_SMALLEST = 1e-9  # log(0) is no number; one level of a normal part is about 1e-4


class ScoredMaps(NamedTuple):
    """One anomaly map of a batch, Bx1xHxW float32 in [0, 1], and the anomaly scores of its images, B float32."""

    values: Tensor
    scores: Tensor


class InLimits(NamedTuple):
    """A map in limits of normal photographs, Bx1xHxW, and the scores of its images, B."""

    values: Tensor
    peaks: Tensor


class Raw(NamedTuple):
    """Raw values of a batch on the maps' own grids, Bx1xhxw each, and what familiarity looks at.

    aggregation: logits. cosine: mean logarithm of the distances between the streams. memory: distances.
    """

    values: dict[str, Tensor]
    description: Description


class Seen(NamedTuple):
    """What a model sees of a batch: its maps by name, and how far each image is from good ones, Bx2 float32."""

    maps: dict[str, ScoredMaps]
    distances: Tensor


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

    def forward(self, image: Tensor, which: Sequence[str] = (), without: Sequence[int] | None = None) -> Seen:
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
        return Seen({name: self.scored(name, raw, size) for name in wanted}, self.familiarity(description))

    def raw(self, image: Tensor, which: Sequence[str], without: Sequence[int] | None = None) -> Raw:
        """Everything that photographs decide, before anything that a calibration decides.

        Args:
            image, without: as `forward` takes them.
            which: names of maps, not "combined".
        """
        memory = self.patch_memory
        self.needed(which)  # refuses what is no map
        if "memory" in which and memory is None:
            raise ConfigError("This model has no memory of normal patches; train it with memory entries.")
        asked = [name for name in which if name != "memory"]
        if asked and self.network is None:
            raise ConfigError(f"This model has no streams, so it has no map {asked[0]!r}; train it with steps.")
        seen = self._look(image, asked)
        patches = seen.pop("patches").permute(0, 2, 3, 1)
        if memory is not None and "memory" in which:
            seen["memory"] = memory.distances(patches, without)
        weight = None if self.region is None else self.region.on_grid((patches.shape[1], patches.shape[2]))
        return Raw({name: seen[name] for name in which}, describe(patches, weight))

    def patches(self, image: Tensor) -> Tensor:
        """Bx3xHxW of `frame_size` -> BxhxwxD float32: what memory and familiarity look at."""
        return self._look(image, ())["patches"].permute(0, 2, 3, 1)

    def _look(self, image: Tensor, asked: Sequence[str]) -> dict[str, Tensor]:
        """Raw maps of the streams and "patches", BxCxhxw each, on the grids of the whole frame."""
        network = self.config.network
        image = image if self.region is None else self.region.cover(image)
        if network.tiles == (1, 1):
            return self._look_at_once(image, asked)
        tiles = cut(image, network)
        batch, count = tiles.shape[:2]
        at_once = max(1, TILE_PIXELS // (network.input_size[0] * network.input_size[1]))
        parts = [self._look_at_once(part, asked) for part in tiles.flatten(0, 1).split(at_once)]
        joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return {name: blend(values.unflatten(0, (batch, count)), network) for name, values in joined.items()}

    def _look_at_once(self, image: Tensor, asked: Sequence[str]) -> dict[str, Tensor]:
        """`_look` at what the network sees in one pass."""
        memory, network = self.patch_memory, self.network
        output = network(image) if network is not None and (asked or memory is None) else None
        patches = memory.patches(image) if memory is not None else _finest(output)
        found = {"patches": patches.permute(0, 3, 1, 2)}
        for name in asked:
            assert output is not None
            found[name] = _logits(output) if name == "aggregation" else self._log_cosine(output)
        return found

    def scored(self, name: str, raw: Mapping[str, Tensor], size: tuple[int, int]) -> ScoredMaps:
        """A map and its scores, from raw values of the maps behind it.

        Args:
            name: of the map.
            raw: see `Raw`.
            size: height and width of the network's input.
        """
        if name != "combined":
            limits = self.limits(name, raw[name], size)
            return ScoredMaps(self._shown(limits.values), in_unit(limits.peaks))
        maps = {m: self.limits(m, raw[m], size) for m in self.judging.compared}
        values, peaks = (agreed({m: found[i] for m, found in maps.items()}) for i in (0, 1))
        return ScoredMaps(self._shown(values), in_unit(peaks))

    def peak(self, values: Tensor) -> Tensor:
        """Bx1xHxW -> B: `highest`, but with a `minimum_area` no more than what a connected region of it reaches."""
        return self.bounded(self.highest(values), values)

    def highest(self, values: Tensor) -> Tensor:
        """Bx1xHxW -> B: mean of the `score_top_k` highest values in the region that counts."""
        flat = self.counted(values).flatten(1)
        highest = flat.topk(min(self.judging.score_top_k, flat.shape[1])).values
        counts = highest.isfinite()  # a region may have fewer values
        return highest.where(counts, 0.0).sum(1) / counts.sum(1).clamp_min(1)

    def bounded(self, peaks: Tensor, values: Tensor) -> Tensor:
        """`peak` of values, Bx1xHxW, whose `highest` are known, B."""
        if self.judging.minimum_area <= 1:
            return peaks
        area = round(self.judging.minimum_area)
        arrays = self.counted(values)[:, 0].float().cpu().numpy()
        return torch.minimum(peaks, peaks.new_tensor([reached(array, area) for array in arrays]))

    def counted(self, values: Tensor) -> Tensor:
        """Values with -inf outside the region that counts."""
        inside: Tensor = values if self.region is None else self.region(values, float("-inf"))
        return inside

    def median(self, raw: Tensor) -> Tensor:
        """Bx1xhxw raw values -> B: the median of those in the region that counts, the higher one of two."""
        flat = raw.flatten(1)
        if self.region is None:
            return flat.sort(dim=1).values[:, flat.shape[1] // 2]
        counts = self.region.on_grid((raw.shape[-2], raw.shape[-1])).flatten() >= 0.5
        ordered = flat.masked_fill(~counts, float("-inf")).sort(dim=1, descending=True).values
        # `len` of it would be a number, and the batch of an exported graph just as large.
        middle = ((counts.sum() - 1).clamp_min(0) // 2).expand(flat.shape[0], 1)
        return ordered.gather(1, middle)[:, 0]

    def _shown(self, limits: Tensor) -> Tensor:
        """Values in limits -> what people see: in [0, 1), and 0 outside the region that counts."""
        shown = in_unit(limits)
        return shown if self.region is None else self.region(shown, 0.0)

    @property
    def _channels(self) -> int:
        """Channels of the patches that familiarity looks at."""
        if self.patch_memory is not None:
            return sum(self.patch_memory.backbone.channels)
        return LEVEL_CHANNELS[self.config.network.feature_levels[0]]

    def needed(self, which: Sequence[str]) -> tuple[str, ...]:
        """The maps behind these, without "combined"."""
        for name in which:
            if name not in ANOMALY_MAPS:
                raise ConfigError(f"There is no map {name!r}; choose one of {list(ANOMALY_MAPS)}.")
        if "combined" in which and not self.judging.scales:
            raise ConfigError(
                "calibration.json has no scales, so there are no maps to combine: its training was cut off. Give the "
                "training's command again, or measure them with: stlm calibrate"
            )
        compared = self.judging.compared if "combined" in which else ()
        return tuple(name for name in ANOMALY_MAPS[:-1] if name in which or name in compared)

    def limits(self, name: str, raw: Tensor, size: tuple[int, int]) -> InLimits:
        """A single map, not "combined", in limits where its scale is known, else raw values."""
        scale = self.judging.scale(name)
        if scale is None:
            values = self._unscaled(name, raw, size)
            return InLimits(values, self.peak(values))
        values = self._scaled(scale, raw, size)
        highest = self.highest(values)
        if scale.lift:
            factor = scale.without_lift(highest, self.median(raw))
            values, highest = values * factor[:, None, None, None], highest * factor
        return InLimits(values, self.bounded(highest, values))

    def _scaled(self, scale: MapScale, raw: Tensor, size: tuple[int, int]) -> Tensor:
        return scale.in_limits(self.resized(raw, size))

    def _unscaled(self, name: str, raw: Tensor, size: tuple[int, int]) -> Tensor:
        """A map that was never calibrated, as odds of what the paper draws, so that `in_unit` yields just that.

        aggregation: probabilities, bilinear from the logits' grid. cosine: the product over L levels of (1 - cosine
        similarity) / 2, and of that the L-th root (paper, Table 4, "strategy [46]"; neither half nor root changes the
        ranking of positions). memory: distances.
        """
        if name == "memory":
            return self.resized(raw, size)
        values = self.resized(raw.sigmoid() if name == "aggregation" else raw.exp(), size).clamp(0.0, 1 - 1e-6)
        return values / (1 - values)

    def _log_cosine(self, output: STLMOutput) -> Tensor:
        """Mean over the levels of log((1 - cosine similarity) / 2), on the grid of the logits: Bx1xhxw."""
        size = (output.logits.shape[-2], output.logits.shape[-1])
        distances = [self.resized(output.distance(level), size) for level in output.plain]
        return torch.stack([(values.clamp(0, 1) + _SMALLEST).log() for values in distances]).mean(0)

    def resized(self, values: Tensor, size: tuple[int, int]) -> Tensor:
        """BxCxhxw on another grid, bilinear: BxCxHxW."""
        return F.interpolate(values, size=size, mode="bilinear", align_corners=False)


def check_judging(config: STLMConfig, judging: Judging) -> None:
    """Raises ConfigError where the maps or the top K of `judging` are none of a model of this `config`."""
    maps = (judging.judge_by, judging.drawn, *(scale.anomaly_map for scale in judging.scales))
    if "memory" in maps and config.patch_memory is None:
        raise ConfigError(
            "This model has no memory of normal patches, so it cannot judge by that map; name another map, or train it "
            "with memory entries."
        )
    if not config.streams and {"aggregation", "cosine"} & set(maps):
        raise ConfigError("This model has no streams, so it cannot judge by their maps; train it with steps.")
    height, width = config.network.frame_size
    for name in ("score_top_k", "minimum_area"):
        if getattr(judging, name) > height * width:
            raise ConfigError(f"{name} must be at most the {height} x {width} values of a map.")


def _finest(output: STLMOutput | None) -> Tensor:
    """BxhxwxD: what the plain stream sees at its finest level."""
    assert output is not None
    return next(iter(output.plain.values())).permute(0, 2, 3, 1)


def _logits(output: STLMOutput) -> Tensor:
    return output.logits.float()
