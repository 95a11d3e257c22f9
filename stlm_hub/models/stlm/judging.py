"""How a model judges: `calibration.json`, field for field. Only photographs of good parts decide it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from ...validate import check_choice, check_fields, check_flag, check_integer, check_number, check_text, read_json
from .config import STLMConfig
from .outline_gain import OutlineGain
from .scales import ANOMALY_MAPS, MapScale

CALIBRATION_NAME = "calibration.json"

DEFAULT_THRESHOLD = 0.5
"""Threshold of a model that was never calibrated: map values are probabilities."""

BITS = (10, 12, 14, 16)
"""Depths that a camera can have in 16-bit photographs, see `predict.depth`."""

MAX_SCORES = 10_000  # the page draws all of them with each verdict

_SCORES = ("normal_scores", "disturbed_scores", "probe_scores")
_LATER = {"bits": None, "careful": False, "refine": None, "refine_gain": None, "normal_unfamiliarity": ()}
"""Fields that earlier versions of stlm_hub refuse. They are left out if they have these values."""
_LISTS = ("scales", "familiarity_limits", *_SCORES, "normal_unfamiliarity")


@dataclass(frozen=True)
class Calibration:
    """How the thresholds were chosen: from normal photographs and pseudo anomalies on them only.

    Args:
        threshold: anomaly score at or above which a photograph is judged anomalous, in [0, 1].
        review_threshold: score at or above which a photograph below `threshold` is set aside, at most `threshold`.
        false_alarm_rate: share of normal parts that was allowed to be judged anomalous, in [0, 1].
        n: number of normal photographs that it was chosen on.
        highest_rate: upper confidence bound (95 %) of the false-alarm rate that n photographs carry, in [0, 1].
        miss_rate: share of pseudo anomalies that stay below the threshold, in [0, 1]; None: none were painted.
        method: name of the estimate, see `stlm_hub.calibration.threshold`.
        date: ISO date of the calibration.
    """

    threshold: float
    review_threshold: float
    false_alarm_rate: float
    n: int
    highest_rate: float
    miss_rate: float | None
    method: str
    date: str

    def __post_init__(self) -> None:
        check_number("calibration threshold", self.threshold, 0.0, 1.0)
        check_number("calibration review_threshold", self.review_threshold, 0.0, self.threshold)
        check_number("calibration false_alarm_rate", self.false_alarm_rate, 0.0, 1.0)
        check_integer("calibration n", self.n, 1, 10_000_000)
        check_number("calibration highest_rate", self.highest_rate, 0.0, 1.0)
        if self.miss_rate is not None:
            check_number("calibration miss_rate", self.miss_rate, 0.0, 1.0)
        for name in ("method", "date"):
            check_text(f"calibration {name}", getattr(self, name))


@dataclass(frozen=True)
class Judging:
    """Which map judges and which one is drawn, on which scales, and at which thresholds.

    Args:
        judge_by: name of the map that is scored and thresholded.
        draw_by: name of the map that is shown and outlined; "": the one that judges.
        scales: of the maps that "combined" is made of; (): not measured yet.
        draw_gain: factor on the odds of drawn values, so that the threshold of the judging map fits the drawn map.
        score_top_k: a map's score is the mean of this many highest values at the frame's size.
        calibration: the thresholds and where they come from; None: not calibrated.
        familiarity_limits: distances by content and by layout above which a whole photograph is unfamiliar; (): not
            measured.
        normal_scores: anomaly scores in [0, 1] of the normal photographs that the threshold was chosen on.
        disturbed_scores: of disturbed copies of them.
        probe_scores: of pseudo anomalies on them.
        minimum_area: pixels of the frame; a smaller connected region is no defect. 0: there is no limit.
        bits: depth of the part's 16-bit photographs: 10, 12, 14 or 16; None: they have 8 bits, or it is not known.
        careful: whether the threshold stays above all photographs, also when it is chosen anew.
        refine: whether Segment Anything outlines what is rejected; None: no, it was not asked for at the calibration.
        refine_gain: its gain on pseudo anomalies; None: not measured.
        normal_unfamiliarity: of the same normal photographs, as a model that does not know them has it: a distance in
            familiarity limits. (): not kept, as by earlier versions.
    """

    judge_by: str = "aggregation"
    draw_by: str = ""
    scales: tuple[MapScale, ...] = ()
    draw_gain: float = 1.0
    score_top_k: int = 100
    calibration: Calibration | None = None
    familiarity_limits: tuple[float, ...] = ()
    normal_scores: tuple[float, ...] = ()
    disturbed_scores: tuple[float, ...] = ()
    probe_scores: tuple[float, ...] = ()
    minimum_area: int = 0
    bits: int | None = None
    careful: bool = False
    refine: bool | None = None
    refine_gain: OutlineGain | None = None
    normal_unfamiliarity: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_choice("judge_by", self.judge_by, ANOMALY_MAPS)
        check_choice("draw_by", self.draw_by, ("", *ANOMALY_MAPS))
        for name in _LISTS:
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
        check_number("draw_gain", self.draw_gain, 1e-6, 1e6)
        check_integer("score_top_k", self.score_top_k, 1, 2**22)
        check_integer("minimum_area", self.minimum_area, 0, 2**26)
        if self.bits is not None:
            check_integer("bits", self.bits, BITS[0], BITS[-1])
            check_choice("bits", self.bits, BITS)
        check_flag("careful", self.careful)
        if self.refine is not None:
            check_flag("refine", self.refine)
        if self.refine_gain is not None and not isinstance(self.refine_gain, OutlineGain):
            raise ConfigError(f"refine_gain must be an OutlineGain or None, not {self.refine_gain!r:.60}.")
        if len(self.familiarity_limits) not in (0, 2):
            raise ConfigError("familiarity_limits must be two numbers or none; calibrate the model again.")
        for limit in self.familiarity_limits:
            check_number("familiarity_limits", limit, 1e-9, 1e9)
        for name, highest in (*((name, 1.0) for name in _SCORES), ("normal_unfamiliarity", 1e9)):
            values = getattr(self, name)
            if len(values) > MAX_SCORES:
                raise ConfigError(f"{name} holds more than {MAX_SCORES} values; calibrate the model again.")
            for value in values:
                check_number(name, value, 0.0, highest)

    @property
    def drawn(self) -> str:
        """Name of the map that is shown and outlined."""
        return self.draw_by or self.judge_by

    @property
    def shown(self) -> tuple[str, ...]:
        """Names of the maps that a prediction needs: the one that judges and the one that is drawn."""
        return tuple(dict.fromkeys((self.judge_by, self.drawn)))

    @property
    def compared(self) -> tuple[str, ...]:
        """Maps that "combined" is made of."""
        return tuple(scale.anomaly_map for scale in self.scales)

    @property
    def behind(self) -> tuple[str, ...]:
        """Names of the single maps that the shown ones are made of, in the order of `ANOMALY_MAPS`."""
        return self.single_maps(self.shown)

    def single_maps(self, which: Collection[str]) -> tuple[str, ...]:
        """These maps, "combined" replaced by the maps that it is made of, in the order of `ANOMALY_MAPS`."""
        compared = self.compared if "combined" in which else ()
        return tuple(name for name in ANOMALY_MAPS[:-1] if name in which or name in compared)

    def scale(self, anomaly_map: str) -> MapScale | None:
        """The scale of a map; None: not measured."""
        return next((scale for scale in self.scales if scale.anomaly_map == anomaly_map), None)

    @property
    def threshold(self) -> float:
        """The calibrated threshold in [0, 1], or `DEFAULT_THRESHOLD`."""
        return self.calibration.threshold if self.calibration else DEFAULT_THRESHOLD

    @property
    def review_threshold(self) -> float:
        """The calibrated lower threshold in [0, 1], or `DEFAULT_THRESHOLD`."""
        return self.calibration.review_threshold if self.calibration else DEFAULT_THRESHOLD

    def replace(self, **changes: Any) -> Judging:
        """A copy with some fields changed, validated again."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        data = dataclasses.asdict(self)
        for name, usual in _LATER.items():
            if data[name] == usual:
                del data[name]
        return data | {name: list(data[name]) for name in _LISTS if name in data}

    @classmethod
    def from_dict(cls, data: Any) -> Judging:
        """The judging of parsed JSON. Unknown fields are refused.

        Raises:
            ConfigError: a field is unknown, of the wrong type or out of range.
        """
        values = dict(check_fields(CALIBRATION_NAME, data, [f.name for f in dataclasses.fields(cls)]))
        if values.get("calibration") is not None:
            values["calibration"] = _part(Calibration, "calibration", values["calibration"])
        if values.get("refine_gain") is not None:
            values["refine_gain"] = _part(OutlineGain, "refine_gain", values["refine_gain"])
        for name in _LISTS:
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


def check_judging(config: STLMConfig, judging: Judging) -> None:
    """Refuses a judging that does not fit a model.

    Raises:
        ConfigError: a model of this `config` lacks a map that `judging` names, or its maps have fewer values than the
            top K or the minimum area.
    """
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


def _part(cls: type, name: str, data: Any) -> Any:
    """An instance of a dataclass from parsed JSON; `name` is for errors. Raises ConfigError for unknown fields."""
    fields = dataclasses.fields(cls)
    required = [f.name for f in fields if f.default is dataclasses.MISSING]
    return cls(**check_fields(f"{name} in {CALIBRATION_NAME}", data, [f.name for f in fields], required=required))
