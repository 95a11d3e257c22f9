"""How a model judges: `calibration.json`, field for field. Held-out photographs of good parts decide all of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from ...validate import check_choice, check_fields, check_integer, check_number, check_text, read_json

CALIBRATION_NAME = "calibration.json"

ANOMALY_MAPS = ("aggregation", "cosine", "memory", "combined")
"""Maps that a model can judge by, see `anomaly_maps`."""

DEFAULT_THRESHOLD = 0.5
"""Threshold of a model that was never calibrated: map values are probabilities."""

SMALLEST_HEIGHT = 1e-6
"""Least height of a map's normal peaks above its typical value; a map below it does not vary."""

MAX_SCORES = 10_000  # the page draws them all at each verdict


@dataclass(frozen=True)
class Calibration:
    """How the threshold was chosen: from scores of held-out normal photographs only.

    Args:
        threshold: anomaly score at or above which a photograph is judged anomalous, in [0, 1].
        false_alarm_rate: share of normal parts that is expected to be judged anomalous, in [0, 1].
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
        check_number("calibration threshold", self.threshold, 0.0, 1.0)
        check_number("calibration false_alarm_rate", self.false_alarm_rate, 0.0, 1.0)
        check_integer("calibration n", self.n, 1, 10_000_000)
        for name in ("method", "date"):
            check_text(f"calibration {name}", getattr(self, name))


@dataclass(frozen=True)
class MapScale:
    """How high a map lies on held-out normal photographs, so that maps of different kinds can be compared.

    Args:
        anomaly_map: name of the map; its raw values are measured, see `AnomalyMaps.raw`.
        typical: mean of all values.
        peak: mean over the photographs of each one's highest value; above `typical`.
    """

    anomaly_map: str
    typical: float
    peak: float

    def __post_init__(self) -> None:
        check_choice("scales anomaly_map", self.anomaly_map, ANOMALY_MAPS[:-1])
        check_number("scales typical", self.typical, -1e6, 1e6)
        check_number("scales peak", self.peak, -1e6, 1e6)
        if not self.peak - self.typical >= SMALLEST_HEIGHT:
            raise ConfigError("scales: peak must be above typical; calibrate the model again.")


@dataclass(frozen=True)
class Judging:
    """Which map judges, on which scales, and at which threshold.

    Args:
        anomaly_map: name of the map that is scored, thresholded and shown.
        scales: of the maps that "combined" compares; (): not measured yet.
        score_top_k: the anomaly score is the mean of this many highest map values at the network's size.
        calibration: the threshold and where it comes from; None: not calibrated.
        held_out_scores: anomaly scores in [0, 1] of the photographs behind the threshold.
    """

    anomaly_map: str = "aggregation"
    scales: tuple[MapScale, ...] = ()
    score_top_k: int = 100
    calibration: Calibration | None = None
    held_out_scores: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_choice("anomaly_map", self.anomaly_map, ANOMALY_MAPS)
        for name in ("scales", "held_out_scores"):
            if not isinstance(getattr(self, name), (list, tuple)):
                raise ConfigError(f"{name} must be a list, not {getattr(self, name)!r:.60}.")
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not all(isinstance(scale, MapScale) for scale in self.scales):
            raise ConfigError("scales must be a list of MapScale.")
        if self.calibration is not None and not isinstance(self.calibration, Calibration):
            raise ConfigError(f"calibration must be a Calibration or None, not {self.calibration!r:.60}.")
        measured = [scale.anomaly_map for scale in self.scales]
        if len(set(measured)) != len(measured):
            raise ConfigError(f"scales must name each map once, not {measured}.")
        check_integer("score_top_k", self.score_top_k, 1, 2**22)
        if len(self.held_out_scores) > MAX_SCORES:
            raise ConfigError(f"held_out_scores holds more than {MAX_SCORES} scores; calibrate the model again.")
        for score in self.held_out_scores:
            check_number("held_out_scores", score, 0.0, 1.0)

    @property
    def threshold(self) -> float:
        """The calibrated threshold in [0, 1], or `DEFAULT_THRESHOLD`."""
        return self.calibration.threshold if self.calibration else DEFAULT_THRESHOLD

    def replace(self, **changes: Any) -> Judging:
        """A copy with some fields changed, validated again."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        data = dataclasses.asdict(self)
        return data | {"scales": list(data["scales"]), "held_out_scores": list(data["held_out_scores"])}

    @classmethod
    def from_dict(cls, data: Any) -> Judging:
        """Builds it from parsed JSON; unknown fields are refused.

        Raises:
            ConfigError: a field is unknown, of the wrong type or out of range.
        """
        values = dict(check_fields(CALIBRATION_NAME, data, [f.name for f in dataclasses.fields(cls)]))
        if values.get("calibration") is not None:
            values["calibration"] = _part(Calibration, "calibration", values["calibration"])
        for name in ("scales", "held_out_scores"):
            if not isinstance(values.setdefault(name, []), (list, tuple)):
                raise ConfigError(f"{name} in {CALIBRATION_NAME} must be a list; calibrate the model again.")
        values["scales"] = tuple(_part(MapScale, "scales", scale) for scale in values["scales"][: len(ANOMALY_MAPS)])
        return cls(**values)

    @classmethod
    def load(cls, path: Path) -> Judging:
        """Reads and checks `calibration.json`.

        Raises:
            ConfigError: the file is missing, too large, not JSON or not valid.
        """
        return cls.from_dict(read_json(path))


def _part(cls: type, name: str, data: Any) -> Any:
    fields = [f.name for f in dataclasses.fields(cls)]
    return cls(**check_fields(f"{name} in {CALIBRATION_NAME}", data, fields, required=fields))
