"""What a model is: `config.json`, field for field. How it judges is in `judging.py`.

Values are checked and bounded on construction, so a hostile file is refused before anything is allocated.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...errors import ConfigError
from ...validate import check_choice, check_fields, check_flag, check_integer, check_text, read_json
from ..backbones import BACKBONES

CONFIG_NAME = "config.json"
FORMAT_VERSION = 3
"""Version of the model folder. It rises when a field changes its meaning. Other versions are refused."""

LEVEL_CHANNELS: dict[str, int] = {"stage1": 128, "stage2": 160, "embedding": 256, "decoder": 256}
"""Level features that a stream can return, with their channels. `stage1` has a grid of H/8, the others of H/16."""

AGGREGATION_INPUTS = ("product", "cosine", "subtraction", "concat")
"""Ways to combine both streams for the aggregation module (paper, Table 6), see `STLMNetwork.aggregate`."""

MAX_INPUT_SIDE = 2048  # px
SEEN = 4
"""Pixels of the frame that a defect must cover to be found: half a cell of the memory's grid."""
MAX_TILES = 256  # per photograph
MAX_FRAME_PIXELS = 2**26
"""Limit for all tiles together; photographs have at most 40 megapixels."""
TILE_OVERLAP = 64
"""Pixels that neighbouring tiles share. Seams are blended over them; a multiple of 16 keeps the grids aligned."""


@dataclass(frozen=True)
class NetworkConfig:
    """The two streams, their decoder and the aggregation head. Defaults are the paper's (arXiv 2402.19145)."""

    input_size: tuple[int, int] = (1024, 1024)  # height and width in pixels of one input
    tiles: tuple[int, int] = (1, 1)  # rows and columns of inputs that a photograph is cut into
    feature_levels: tuple[str, ...] = ("embedding", "decoder")  # levels that are distilled, multiplied and aggregated
    shared_stages: int = 0  # first stages with the same weights in both streams; they are computed once
    decoders: Literal["shared", "separate"] = "shared"  # one mask decoder for both streams, or one each (Fig. 5)
    aggregation_input: str = "product"  # one of AGGREGATION_INPUTS
    aggregation_channels: int = 128  # width of the aggregation module (section 3.3)
    aggregation_dilations: tuple[int, ...] = (3,)  # of its 3x3 convolutions; the full module: 6, 12, 18 (Fig. 6)

    def __post_init__(self) -> None:
        for name, smallest, largest in (("input_size", 64, MAX_INPUT_SIDE), ("tiles", 1, MAX_TILES)):
            object.__setattr__(self, name, _pair(name, getattr(self, name), smallest, largest))
        if any(side % 64 for side in self.input_size):
            raise ConfigError(f"input_size must be two multiples of 64, not {list(self.input_size)}.")
        if self.tiles[0] * self.tiles[1] > MAX_TILES:
            raise ConfigError(f"tiles must be at most {MAX_TILES} in all, not {list(self.tiles)}; use fewer.")
        if any(side <= TILE_OVERLAP for side, n in zip(self.input_size, self.tiles, strict=True) if n > 1):
            raise ConfigError(
                f"Tiles must be larger than {TILE_OVERLAP} px, which they share; use a larger input_size."
            )
        if self.frame_size[0] * self.frame_size[1] > MAX_FRAME_PIXELS:
            raise ConfigError(
                f"input_size and tiles make a frame of {self.frame_size[0]} x {self.frame_size[1]} px, more than any "
                "photograph has; use fewer tiles."
            )
        levels = _texts("feature_levels", self.feature_levels)
        object.__setattr__(self, "feature_levels", levels)
        if not levels or len(set(levels)) != len(levels) or not set(levels) <= LEVEL_CHANNELS.keys():
            raise ConfigError(
                f"feature_levels must name each level once, out of {sorted(LEVEL_CHANNELS)}, not {levels!s:.200}."
            )
        check_integer("shared_stages", self.shared_stages, 0, 3)
        if any(level.startswith("stage") and int(level[-1]) < self.shared_stages - 1 for level in levels):
            raise ConfigError(
                f"With shared_stages {self.shared_stages} the levels {list(levels)} cannot all be read; use the file "
                "that save_pretrained wrote."
            )
        check_choice("decoders", self.decoders, ("shared", "separate"))
        check_choice("aggregation_input", self.aggregation_input, AGGREGATION_INPUTS)
        check_integer("aggregation_channels", self.aggregation_channels, 8, 512)
        if not isinstance(self.aggregation_dilations, (list, tuple)) or not 1 <= len(self.aggregation_dilations) <= 8:
            raise ConfigError("aggregation_dilations must be a list of 1 to 8 whole numbers.")
        object.__setattr__(self, "aggregation_dilations", tuple(self.aggregation_dilations))
        for dilation in self.aggregation_dilations:
            check_integer("aggregation_dilations", dilation, 1, 64)

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width in pixels that a whole photograph is squeezed to: one input, or all tiles together."""
        (height, width), (rows, columns) = self.input_size, self.tiles
        return rows * height - (rows - 1) * TILE_OVERLAP, columns * width - (columns - 1) * TILE_OVERLAP

    @property
    def aggregation_in_channels(self) -> int:
        """Input channels of the aggregation module, which depend on `aggregation_input`."""
        if self.aggregation_input == "cosine":
            return len(self.feature_levels)
        channels = sum(LEVEL_CHANNELS[level] for level in self.feature_levels)
        return channels if self.aggregation_input == "product" else 2 * channels

    @classmethod
    def from_dict(cls, data: Any) -> NetworkConfig:
        """The network of parsed JSON or YAML.

        Raises:
            ConfigError: a field is unknown, of the wrong type or out of range.
        """
        return cls(**check_fields("network", data, _names(cls)))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return _plain(self)


@dataclass(frozen=True)
class PatchMemoryConfig:
    """The memory of normal patches beside the streams (PatchCore's, not the paper's)."""

    entries: int = 4096  # patches in the memory
    channels: int = 128  # principal components of each patch
    backbone: str = "efficientnet_lite0"  # network that computes their features, see `models/backbones`

    def __post_init__(self) -> None:
        check_integer("patch_memory entries", self.entries, 1, 65536)
        check_choice("patch_memory backbone", self.backbone, BACKBONES)
        check_integer("patch_memory channels", self.channels, 1, sum(BACKBONES[self.backbone].channels))

    @classmethod
    def from_dict(cls, data: Any) -> PatchMemoryConfig:
        """The memory of parsed JSON or YAML.

        Raises:
            ConfigError: a field is unknown, of the wrong type or out of range.
        """
        return cls(**check_fields("patch_memory", data, _names(cls)))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return _plain(self)


@dataclass(frozen=True)
class STLMConfig:
    """What a model is made of, and what it was made for.

    Args:
        network: streams, decoder and aggregation. A model without streams uses only input size and tiles.
        patch_memory: None: the paper's model, without a memory.
        streams: False: the memory judges alone.
        region: whether only a part of the frame counts, see `region.Region`.
        category: kind of part, e.g. "bottle"; only shown to people.
        dataset: source of the normal photographs, e.g. "MVTec AD"; only shown to people.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    patch_memory: PatchMemoryConfig | None = None
    streams: bool = True
    region: bool = False
    category: str = ""
    dataset: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.network, NetworkConfig):
            raise ConfigError(f"network must be a NetworkConfig, not {self.network!r:.60}.")
        if self.patch_memory is not None and not isinstance(self.patch_memory, PatchMemoryConfig):
            raise ConfigError(f"patch_memory must be a PatchMemoryConfig or None, not {self.patch_memory!r:.60}.")
        check_flag("streams", self.streams)
        check_flag("region", self.region)
        if not self.streams and self.patch_memory is None:
            raise ConfigError("A model needs streams or a patch_memory; this config has neither.")
        check_text("category", self.category)
        check_text("dataset", self.dataset)

    def replace(self, **changes: Any) -> STLMConfig:
        """A copy with some fields changed, validated again."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "format_version": FORMAT_VERSION,
            "category": self.category,
            "dataset": self.dataset,
            "network": self.network.to_dict(),
            "patch_memory": self.patch_memory.to_dict() if self.patch_memory else None,
            "streams": self.streams,
            "region": self.region,
        }

    @classmethod
    def from_dict(cls, data: Any) -> STLMConfig:
        """Builds a config from parsed JSON. Unknown fields are refused: they would change a prediction silently.

        Raises:
            ConfigError: a field is unknown, of the wrong type or out of range.
        """
        version = data.get("format_version") if isinstance(data, dict) else None
        if isinstance(version, int) and version > FORMAT_VERSION:  # before unknown fields are looked at
            raise ConfigError(
                f"This model was saved in format {version}, but this stlm_hub reads up to {FORMAT_VERSION}. Upgrade "
                "with: pip install --upgrade stlm_hub"
            )
        if isinstance(version, int) and version < FORMAT_VERSION:
            raise ConfigError(
                f"This model was saved in format {version} by an older stlm_hub, but this one reads format "
                f"{FORMAT_VERSION}. Make it again with the command that made it."
            )
        fields = check_fields(CONFIG_NAME, data, ("format_version", *_names(cls)), required=("network",))
        check_integer("format_version", fields.get("format_version", FORMAT_VERSION), FORMAT_VERSION, FORMAT_VERSION)
        memory = fields.get("patch_memory")
        return cls(
            network=NetworkConfig.from_dict(fields["network"]),
            patch_memory=PatchMemoryConfig.from_dict(memory) if memory is not None else None,
            streams=fields.get("streams", True),
            region=fields.get("region", False),
            category=fields.get("category", ""),
            dataset=fields.get("dataset", ""),
        )

    @classmethod
    def load(cls, path: Path) -> STLMConfig:
        """Reads and checks `config.json`.

        Raises:
            ConfigError: the file is missing, too large, not JSON or not a valid configuration.
        """
        return cls.from_dict(read_json(path))


def size_text(network: NetworkConfig) -> str:
    """The size for people: "256 px", "192 x 512 px", "4 x 5 tiles of 256 px"; height before width."""
    (height, width), (rows, columns) = network.input_size, network.tiles
    size = f"{height} px" if height == width else f"{height} x {width} px"
    return size if (rows, columns) == (1, 1) else f"{rows} x {columns} tiles of {size}"


def smallest_defect(shape: tuple[int, int], frame_size: tuple[int, int]) -> float:
    """Side in photograph pixels of the smallest defect that covers `SEEN` pixels of the frame.

    Args:
        shape: height and width of photographs in pixels.
        frame_size: height and width of the frame that they are resized to.
    """
    return SEEN * max(1.0, *(own / framed for own, framed in zip(shape, frame_size, strict=True)))


def _pair(name: str, value: Any, smallest: int, largest: int) -> tuple[int, int]:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ConfigError(f"{name} must be two whole numbers, height and width or rows and columns, not {value!r:.60}.")
    for number in value:
        check_integer(name, number, smallest, largest)
    return (value[0], value[1])


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise ConfigError(f"{name} must be a list of names out of {sorted(LEVEL_CHANNELS)}.")
    return tuple(value)


def _names(cls: type) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(cls))


def _plain(config: Any) -> dict[str, Any]:
    """Fields of a flat dataclass, tuples as lists."""
    return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(config).items()}
