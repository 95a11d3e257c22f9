"""The configuration of one STLM model: a frozen dataclass that is `config.json`, field for field.

Everything that decides what a prediction looks like is in here, so that a published folder predicts the same
everywhere. Values are checked on construction and bounded: a hostile `config.json` is refused before anything is
allocated.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...errors import ConfigError

FORMAT_VERSION = 3
"""Raised when a field changes its meaning; a newer folder than this library knows is refused with a sentence. In format
1 the combined map was the mean of the others, so its scales and the threshold are to be measured anew. Up to format 2
the map "cosine" was the product of the levels' distances, now their geometric mean; older thresholds on it are void."""

LEVEL_CHANNELS: dict[str, int] = {"stage1": 128, "stage2": 160, "embedding": 256, "decoder": 256}
"""Level features that a stream can hand out, with their channels. `stage1` is on a grid of H/8, the others of H/16."""

MEMORY_ENCODERS: dict[str, tuple[int, ...]] = {"plain": (), "efficientnet_lite0": (40, 112)}
"""Whose features a memory remembers, with the channels of its levels at H/8 and H/16; "plain", the plain stream, has
those of the stages among `feature_levels`."""

AGGREGATION_INPUTS = ("product", "cosine", "subtraction", "concat")
"""What the aggregation module sees of the two streams (paper, Table 6), see `STLMNetwork.aggregate`."""

ANOMALY_MAPS = ("aggregation", "cosine", "memory", "combined")
"""Maps that a model can judge by, see `anomaly_maps`."""

SMALLEST_HEIGHT = 1e-6
"""Of a map's normal peaks above its typical value; less is a map that does not vary."""

MAX_IMAGE_SIZE = 2048
MAX_CONFIG_BYTES = 1_000_000


@dataclass(frozen=True)
class Calibration:
    """How the threshold was chosen: from scores of held-out normal photographs only.

    Args:
        threshold: anomaly score at or above which a photograph is judged anomalous, in [0, 1].
        false_alarm_rate: share of normal parts that is expected to be judged anomalous, in (0, 1).
        n: number of held-out normal photographs behind it.
        method: name of the estimate, see `stlm_hub.calibration.threshold`.
        date: ISO date of the calibration.
    """

    threshold: float
    false_alarm_rate: float
    n: int
    method: str
    date: str

    def __post_init__(self) -> None:
        _number("calibration.threshold", self.threshold, 0.0, 1.0)
        _number("calibration.false_alarm_rate", self.false_alarm_rate, 0.0, 1.0)
        _integer("calibration.n", self.n, 1, 10_000_000)
        for name in ("method", "date"):
            _text(f"calibration.{name}", getattr(self, name), 200)


@dataclass(frozen=True)
class MapScale:
    """How high a map lies on held-out normal photographs, so that maps of different kinds can be compared.

    Args:
        anomaly_map: which one; its values are taken before they become probabilities, see `anomaly_maps`.
        typical: mean of all values.
        peak: mean over the photographs of each one's highest value; above `typical`.
    """

    anomaly_map: str
    typical: float
    peak: float

    def __post_init__(self) -> None:
        if self.anomaly_map not in ANOMALY_MAPS[:-1]:
            raise ConfigError(f"combined_maps must name maps out of {list(ANOMALY_MAPS[:-1])}, each once.")
        _number("combined_maps.typical", self.typical, -1e6, 1e6)
        _number("combined_maps.peak", self.peak, -1e6, 1e6)
        if not self.peak - self.typical >= SMALLEST_HEIGHT:
            raise ConfigError("combined_maps.peak must be above combined_maps.typical; calibrate the model again.")


@dataclass(frozen=True)
class STLMConfig:
    """Architecture, preprocessing, scoring and calibration of a model. Defaults are the paper's (arXiv 2402.19145)."""

    image_size: int = 1024  # side of the square network input in pixels, a multiple of 64
    feature_levels: tuple[str, ...] = ("embedding", "decoder")  # levels that are distilled, multiplied and aggregated
    shared_stages: int = 0  # first stages that training left the same in both streams; they are computed once
    decoders: Literal["shared", "separate"] = "shared"  # one mask decoder for both streams or one each (Fig. 5)
    aggregation_input: str = (
        "product"  # what the aggregation module sees: product, cosine, subtraction, concat (Table 6)
    )
    aggregation_channels: int = 128  # width of the aggregation module (paper, section 3.3)
    aggregation_dilations: tuple[int, ...] = (3,)  # of its 3x3 convolutions; the full module: 6, 12, 18 (Fig. 6)
    memory_entries: int = 0  # normal patches that are remembered beside the streams; 0: no memory
    memory_encoder: str = "plain"  # whose features they are: the plain stream's, or those of a network of ImageNet
    memory_channels: int = 128  # principal components that are kept of each
    anomaly_map: Literal["aggregation", "cosine", "memory", "combined"] = (
        "aggregation"  # which map is scored, thresholded and shown
    )
    combined_maps: tuple[MapScale, ...] = ()  # of "combined": what it compares; (): not measured yet
    score_top_k: int = 100  # the anomaly score is the mean of this many highest map values at `image_size`
    category: str = ""  # what the part is, e.g. "bottle"; shown to people, used for nothing else
    dataset: str = ""  # where the normal photographs came from, e.g. "MVTec AD"
    calibration: Calibration | None = None  # None: not calibrated, the threshold is DEFAULT_THRESHOLD
    format_version: int = field(default=FORMAT_VERSION)  # of this file

    def __post_init__(self) -> None:
        _integer("format_version", self.format_version, 1, 10_000)
        if self.format_version > FORMAT_VERSION:
            raise ConfigError(
                f"This model was saved in format {self.format_version}, but this stlm_hub reads up to "
                f"{FORMAT_VERSION}. Upgrade with: pip install --upgrade stlm_hub"
            )
        _integer("image_size", self.image_size, 64, MAX_IMAGE_SIZE)
        if self.image_size % 64:
            raise ConfigError(f"image_size must be a multiple of 64, not {self.image_size}.")
        if isinstance(self.feature_levels, (str, bytes)) or not isinstance(self.feature_levels, (list, tuple)):
            raise ConfigError(f"feature_levels must be a list of names out of {sorted(LEVEL_CHANNELS)}.")
        if not all(isinstance(level, str) for level in self.feature_levels):
            raise ConfigError(f"feature_levels must be a list of names out of {sorted(LEVEL_CHANNELS)}.")
        object.__setattr__(self, "feature_levels", tuple(self.feature_levels))
        unknown = [level for level in self.feature_levels if level not in LEVEL_CHANNELS]
        if unknown or not self.feature_levels or len(set(self.feature_levels)) != len(self.feature_levels):
            raise ConfigError(
                f"feature_levels must name each level once, out of {sorted(LEVEL_CHANNELS)}, "
                f"not {self.feature_levels!s:.200}."
            )
        _integer("shared_stages", self.shared_stages, 0, 3)
        if any(level.startswith("stage") and int(level[-1]) < self.shared_stages - 1 for level in self.feature_levels):
            raise ConfigError(
                f"With shared_stages {self.shared_stages} the levels {list(self.feature_levels)} cannot all be read; "
                "use the file that save_pretrained wrote."
            )
        if self.decoders not in ("shared", "separate"):
            raise ConfigError(f'decoders must be "shared" or "separate", not {self.decoders!r:.60}.')
        if self.aggregation_input not in AGGREGATION_INPUTS:
            raise ConfigError(
                f"aggregation_input must be one of {list(AGGREGATION_INPUTS)}, not {self.aggregation_input!r:.60}."
            )
        _integer("aggregation_channels", self.aggregation_channels, 8, 512)
        if not isinstance(self.aggregation_dilations, (list, tuple)) or not 1 <= len(self.aggregation_dilations) <= 8:
            raise ConfigError("aggregation_dilations must be a list of 1 to 8 whole numbers.")
        object.__setattr__(self, "aggregation_dilations", tuple(self.aggregation_dilations))
        for dilation in self.aggregation_dilations:
            _integer("aggregation_dilations", dilation, 1, 64)
        self._check_memory()
        self._check_maps()
        _integer("score_top_k", self.score_top_k, 1, self.image_size**2)
        _text("category", self.category, 200)
        _text("dataset", self.dataset, 200)
        if self.calibration is not None and not isinstance(self.calibration, Calibration):
            raise ConfigError("calibration must be an object with threshold, false_alarm_rate, n, method and date.")

    def _check_memory(self) -> None:
        _integer("memory_entries", self.memory_entries, 0, 65536)
        if not isinstance(self.memory_encoder, str) or self.memory_encoder not in MEMORY_ENCODERS:
            raise ConfigError(
                f"memory_encoder must be one of {list(MEMORY_ENCODERS)}, not {self.memory_encoder!r:.60}."
            )
        _integer("memory_channels", self.memory_channels, 1, 1024)
        if not self.memory_entries or self.memory_channels <= self.memory_in_channels:
            return
        if self.memory_encoder == "plain":
            raise ConfigError(
                f"A memory of {self.memory_channels} channels needs feature_levels out of stage1 and stage2 with as "
                f"many; {list(self.feature_levels)} have {self.memory_in_channels}."
            )
        raise ConfigError(
            f"memory_channels must be at most {self.memory_in_channels} with the memory_encoder {self.memory_encoder}."
        )

    def _check_maps(self) -> None:
        if self.anomaly_map not in ANOMALY_MAPS:
            raise ConfigError(f"anomaly_map must be one of {list(ANOMALY_MAPS)}, not {self.anomaly_map!r:.60}.")
        if not isinstance(self.combined_maps, (list, tuple)) or len(self.combined_maps) >= len(ANOMALY_MAPS):
            raise ConfigError("combined_maps must be a list of maps with their typical and peak values.")
        object.__setattr__(self, "combined_maps", tuple(self.combined_maps))
        if not all(isinstance(scale, MapScale) for scale in self.combined_maps):
            raise ConfigError("combined_maps must be a list of objects with anomaly_map, typical and peak.")
        combined = [scale.anomaly_map for scale in self.combined_maps]
        if len(set(combined)) != len(combined):
            raise ConfigError(f"combined_maps must name each map once, not {combined}.")
        if not self.memory_entries and "memory" in (self.anomaly_map, *combined):
            raise ConfigError('The map "memory" needs memory_entries above 0.')

    @property
    def memory_levels(self) -> tuple[str, ...]:
        """Levels of the plain stream that its memory remembers: the encoder's stages among `feature_levels`."""
        return tuple(level for level in self.feature_levels if level.startswith("stage"))

    @property
    def memory_in_channels(self) -> int:
        """Channels of a patch before it is reduced."""
        if self.memory_encoder != "plain":
            return sum(MEMORY_ENCODERS[self.memory_encoder])
        return sum(LEVEL_CHANNELS[level] for level in self.memory_levels)

    @property
    def for_training(self) -> STLMConfig:
        """What is trained: the memory and the scales of the maps come afterwards and change no loss."""
        anomaly_map = self.anomaly_map if self.anomaly_map == "cosine" else "aggregation"
        return self.replace(
            memory_entries=0, memory_encoder="plain", memory_channels=128, anomaly_map=anomaly_map, combined_maps=()
        )

    @property
    def aggregation_in_channels(self) -> int:
        """Channels that enter the aggregation module: those of all levels, two streams' or one cosine a level."""
        if self.aggregation_input == "cosine":
            return len(self.feature_levels)
        channels = sum(LEVEL_CHANNELS[level] for level in self.feature_levels)
        return channels if self.aggregation_input == "product" else 2 * channels

    def replace(self, **changes: Any) -> STLMConfig:
        """A copy with some fields changed, validated again."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        data = dataclasses.asdict(self)
        for name in ("feature_levels", "aggregation_dilations", "combined_maps"):
            data[name] = list(data[name])
        return data

    @classmethod
    def from_dict(cls, data: Any) -> STLMConfig:
        """Builds a config from parsed JSON. Unknown fields are refused: they would change a prediction silently.

        Raises:
            ConfigError: a field is unknown, of the wrong type or out of range.
        """
        if not isinstance(data, dict):
            raise ConfigError("config.json must hold a JSON object; use the file that save_pretrained wrote.")
        version = data.get("format_version", FORMAT_VERSION)
        if isinstance(version, int) and version > FORMAT_VERSION:
            cls(format_version=version)  # raises the sentence about upgrading before unknown fields are looked at
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(str(key)[:40] for key in set(data) - known)
        if unknown:
            raise ConfigError(f"config.json has unknown fields {unknown[:5]}; use the file that save_pretrained wrote.")
        values = dict(data)
        calibration = values.get("calibration")
        if calibration is not None:
            names = {f.name for f in dataclasses.fields(Calibration)}
            if not isinstance(calibration, dict) or set(calibration) != names:
                raise ConfigError(f"calibration in config.json must have exactly the fields {sorted(names)}.")
            values["calibration"] = Calibration(**calibration)
        scales = values.get("combined_maps")
        if isinstance(scales, (list, tuple)):
            names = {f.name for f in dataclasses.fields(MapScale)}
            if not all(isinstance(scale, dict) and set(scale) == names for scale in scales):
                raise ConfigError(
                    f"combined_maps in config.json must be objects with exactly the fields {sorted(names)}."
                )
            values["combined_maps"] = tuple(MapScale(**scale) for scale in scales)
        checked = cls(**values)
        if checked.format_version == FORMAT_VERSION:
            return checked
        if checked.format_version < 3 and checked.anomaly_map == "cosine" and checked.calibration:
            raise ConfigError(
                "This model judges by the map without aggregation, whose values had another scale in its format. Make "
                "it again from the model that it was made of: stlm calibrate PHOTOS --model MODEL --map cosine; or, "
                "where it was trained to judge by that map, train it again."
            )
        scales = checked.combined_maps if checked.format_version > 1 else ()
        return checked.replace(format_version=FORMAT_VERSION, combined_maps=scales)

    @classmethod
    def load(cls, path: Path) -> STLMConfig:
        """Reads and checks `config.json`.

        Raises:
            ConfigError: the file is too large, is not JSON or does not hold a valid configuration.
        """
        try:
            if path.stat().st_size > MAX_CONFIG_BYTES:
                raise ConfigError(f"{path} is larger than {MAX_CONFIG_BYTES} bytes and is not an stlm_hub config.json.")
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"{path} is missing; a model folder holds config.json and model.safetensors.") from None
        except OSError as error:
            raise ConfigError(f"{path} cannot be read ({error.strerror}); check the path.") from None
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path} is not valid JSON ({error}); use the file that save_pretrained wrote.") from None
        return cls.from_dict(data)


def _integer(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} must be a whole number from {low} to {high}, not {value!r:.60}.")


def _number(name: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ConfigError(f"{name} must be a number from {low} to {high}, not {value!r:.60}.")


def _text(name: str, value: Any, longest: int) -> None:
    if not isinstance(value, str) or len(value) > longest:
        raise ConfigError(f"{name} must be a text of at most {longest} characters.")
