"""calibration.json: read back as written, and refused with a sentence where a value is out of range."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from stlm_hub.errors import ConfigError
from stlm_hub.models.stlm.config import NetworkConfig, PatchMemoryConfig, STLMConfig
from stlm_hub.models.stlm.judging import DEFAULT_THRESHOLD, MAX_SCORES, Calibration, Judging, check_judging
from stlm_hub.models.stlm.scales import MapScale

CALIBRATION = Calibration(
    threshold=0.25,
    review_threshold=0.125,
    false_alarm_rate=0.01,
    n=31,
    highest_rate=0.1,
    miss_rate=0.2,
    method="order statistic",
    date="2026-01-31",
)
SCALE = {"anomaly_map": "cosine", "typical": -2.5, "limit": 1.0}
NO_NUMBERS: tuple[Any, ...] = (True, None, "1", float("nan"), float("inf"), -1, 10**10, 10**400, [1], {})


def calibration(**changes: Any) -> dict[str, Any]:
    return {"calibration": {**dataclasses.asdict(CALIBRATION), **changes}}


def test_defaults_are_the_papers() -> None:
    judging = Judging()
    assert (judging.judge_by, judging.score_top_k, judging.scales) == ("aggregation", 100, ())
    assert judging.calibration is None and judging.threshold == judging.review_threshold == DEFAULT_THRESHOLD == 0.5
    assert (judging.drawn, judging.draw_gain, judging.familiarity_limits) == ("aggregation", 1.0, ())
    calibrated = Judging(calibration=CALIBRATION)
    assert (calibrated.threshold, calibrated.review_threshold) == (0.25, 0.125)


def test_the_map_that_judges_is_drawn_unless_another_is_named() -> None:
    assert Judging("cosine").drawn == "cosine"
    assert Judging("combined", "memory", (MapScale("memory", 0.0, 1.0),)).drawn == "memory"


@pytest.mark.parametrize(
    "judging",
    [
        Judging(),
        Judging("cosine", score_top_k=2048**2, calibration=CALIBRATION),
        Judging(
            "combined",
            "memory",
            (MapScale("memory", -0.5, 4), MapScale("cosine", -30.25, -12.0, 0.75, -31.5, -28.0)),
            1.75,
            1,
            dataclasses.replace(CALIBRATION, miss_rate=None),
            (2.5, 3),
            (0.0, 0.1 + 0.2, 1.0, 5e-324),
            (0.5,),
            (0.25, 1),
        ),
    ],
)
def test_json_round_trip(judging: Judging, tmp_path: Path) -> None:
    data = judging.to_dict()
    assert Judging.from_dict(data) == judging
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    loaded = Judging.load(path)
    assert loaded == judging and loaded.to_dict() == data == json.loads(json.dumps(data))
    assert isinstance(loaded.scales, tuple) and isinstance(loaded.probe_scores, tuple)
    assert all(isinstance(scale, MapScale) for scale in loaded.scales)
    assert loaded.calibration is None or isinstance(loaded.calibration, Calibration)
    assert set(data) | LATER == {field.name for field in dataclasses.fields(Judging)}


LATER = {"bits", "careful", "refine", "refine_gain", "normal_unfamiliarity"}


def test_what_earlier_versions_do_not_know_is_written_where_it_is_not_the_default() -> None:
    told = Judging(bits=12, careful=True, refine=False, normal_unfamiliarity=(0.5, 1.25))
    assert [told.to_dict()[name] for name in ("bits", "careful", "refine")] == [12, True, False]
    assert told.to_dict()["normal_unfamiliarity"] == [0.5, 1.25]
    assert Judging.from_dict(told.to_dict()) == told
    assert not LATER & set(Judging().to_dict())
    with pytest.raises(ConfigError, match="normal_unfamiliarity must be a number"):
        Judging(normal_unfamiliarity=(-0.5,))
    with pytest.raises(ConfigError, match="careful must be true or false"):
        Judging.from_dict({"careful": "yes"})


def test_missing_fields_are_the_defaults() -> None:
    assert Judging.from_dict({}) == Judging()
    assert Judging.from_dict({"judge_by": "cosine"}) == Judging("cosine")
    assert Judging.from_dict({"calibration": None}).calibration is None  # of a training that was cut off


def test_a_copy_is_checked_too() -> None:
    judging = Judging("cosine")
    assert judging.replace(calibration=CALIBRATION).calibration == CALIBRATION
    assert judging.replace(score_top_k=1).judge_by == "cosine" and judging.score_top_k == 100
    with pytest.raises(ConfigError, match="score_top_k"):
        judging.replace(score_top_k=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        judging.score_top_k = 1  # type: ignore[misc]


@pytest.mark.parametrize("value", [*NO_NUMBERS, 0, 2.0], ids=lambda value: str(value)[:8])
def test_a_top_k_that_is_no_whole_number_in_range_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="score_top_k must be a whole number"):
        Judging.from_dict({"score_top_k": value})
    with pytest.raises(ConfigError, match="score_top_k must be a whole number"):
        Judging(score_top_k=value)


@pytest.mark.parametrize(
    "data, message",
    [
        ({"judge_by": "Cosine"}, "judge_by must be one of"),
        ({"judge_by": ["cosine"]}, "judge_by must be one of"),
        ({"judge_by": None}, "judge_by must be one of"),
        ({"anomaly_map": "cosine"}, "calibration.json has no field 'anomaly_map'"),  # of an older version
        ({"draw_by": "heat"}, "draw_by must be one of"),
        ({"draw_by": None}, "draw_by must be one of"),
        ({"draw_gain": 0}, "draw_gain must be a number"),
        ({"draw_gain": float("inf")}, "draw_gain must be a number"),
        ({"familiarity_limits": [-1, 2]}, "familiarity_limits must be a number"),
        ({"familiarity_limits": [1, 0]}, "familiarity_limits must be a number"),
        ({"familiarity_limits": [1, "far"]}, "familiarity_limits must be a number"),
        ({"familiarity_limits": [1]}, "familiarity_limits must be two numbers or none"),
        ({"familiarity_limits": 2.5}, "familiarity_limits in calibration.json must be a list"),
        ({"scales": None}, "scales in calibration.json must be a list"),
        ({"scales": {"0": SCALE}}, "scales in calibration.json must be a list"),
        ({"scales": [SCALE, SCALE]}, "name each map once"),
        ({"scales": [SCALE] * 1000}, "name each map once"),
        ({"scales": [["cosine", 0, 1]]}, "scales in calibration.json must be a JSON object"),
        ({"scales": [{**SCALE, "weight": 1}]}, "scales in calibration.json has no field 'weight'"),
        ({"scales": [{"anomaly_map": "cosine", "typical": 1.0}]}, "lacks the field 'limit'"),
        ({"scales": [{**SCALE, "anomaly_map": "combined"}]}, "scales anomaly_map must be one of"),
        ({"scales": [{**SCALE, "anomaly_map": ["cosine"]}]}, "scales anomaly_map must be one of"),
        ({"scales": [{**SCALE, "limit": -3.0}]}, "limit must be above"),
        ({"scales": [{"anomaly_map": "cosine", "typical": 0.0, "limit": 5e-324}]}, "limit must be above"),
        ({"scales": [{**SCALE, "limit": float("nan")}]}, "scales limit must be a number"),
        ({"scales": [{**SCALE, "lift": -0.1}]}, "scales lift must be a number"),
        ({"scales": [{**SCALE, "median": 2.0, "lifted": 1.0}]}, "scales lifted must be a number from 2.0"),
        ({"scales": [{**SCALE, "lifted": float("inf")}]}, "scales lifted must be a number"),
        ({"scales": [{**SCALE, "typical": -1e300}]}, "scales typical must be a number"),
        ({"normal_scores": None}, "normal_scores in calibration.json must be a list"),
        ({"normal_scores": {}}, "normal_scores in calibration.json must be a list"),
        ({"normal_scores": "0.5"}, "normal_scores in calibration.json must be a list"),
        ({"normal_scores": [0.5, 1.5]}, "normal_scores must be a number from 0.0 to 1.0, not 1.5"),
        ({"normal_scores": [float("nan")]}, "normal_scores must be a number"),
        ({"normal_scores": [True]}, "normal_scores must be a number"),
        ({"normal_scores": [[0.5]]}, "normal_scores must be a number"),
        ({"disturbed_scores": [-0.5]}, "disturbed_scores must be a number"),
        ({"probe_scores": 1}, "probe_scores in calibration.json must be a list"),
        ({"normal_scores": [0.5] * (MAX_SCORES + 1)}, f"more than {MAX_SCORES} values"),
        ({"threshold": 0.5}, "calibration.json has no field 'threshold'"),
        ({"_target_": "os.system"}, "calibration.json has no field '_target_'"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_bad_value_is_refused_by_name(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Judging.from_dict(data)


@pytest.mark.parametrize(
    "data",
    [
        {"calibration": 0.5},
        {"calibration": []},
        {"calibration": {}},
        {"calibration": {"threshold": 0.5}},
        calibration(more=1),
        calibration(threshold=1.5),
        calibration(threshold=-0.1),
        calibration(threshold="0.5"),
        calibration(threshold=None),
        calibration(threshold=True),
        calibration(threshold=float("nan")),
        calibration(threshold=float("inf")),
        calibration(threshold=10**400),
        calibration(false_alarm_rate=1.1),
        calibration(false_alarm_rate=float("nan")),
        calibration(review_threshold=0.26),
        calibration(review_threshold=-0.1),
        calibration(review_threshold=None),
        calibration(highest_rate=1.1),
        calibration(highest_rate=None),
        calibration(miss_rate=-0.1),
        calibration(miss_rate="0.5"),
        {"calibration": {"threshold": 0.5, "false_alarm_rate": 0.1, "n": 9, "method": "", "date": ""}},
        calibration(n=0),
        calibration(n=31.0),
        calibration(method=3),
        calibration(date="2" * 201),
        calibration(date=None),
    ],
    ids=lambda data: str(data)[15:70],
)
def test_a_malformed_calibration_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="calibration"):
        Judging.from_dict(data)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"calibration": {"threshold": 0.5}}, "calibration must be"),
        ({"scales": (SCALE,)}, "scales must be"),
        ({"scales": None}, "scales must be"),
        ({"normal_scores": 0.5}, "normal_scores must be"),
    ],
)
def test_dictionaries_and_single_values_are_refused_in_python(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Judging(**fields)


@pytest.mark.parametrize("data", [None, [], "judging", 5, [["judge_by", "cosine"]]])
def test_what_is_no_object_is_refused(data: Any) -> None:
    with pytest.raises(ConfigError, match=r"calibration\.json must be a JSON object"):
        Judging.from_dict(data)


def test_messages_do_not_repeat_a_hostile_value_at_length() -> None:
    long = "x" * 100_000
    for data in (
        {"judge_by": long},
        {"draw_by": long},
        {long: 1},
        {"scales": [long]},
        {"scales": [{**SCALE, "anomaly_map": long}]},
        {"normal_scores": [long]},
        calibration(threshold=long),
        calibration(**{long: 1}),
    ):
        with pytest.raises(ConfigError) as error:
            Judging.from_dict(data)
        assert len(str(error.value)) < 500


def test_a_model_judges_only_by_what_it_has() -> None:
    plain = STLMConfig(NetworkConfig(input_size=(64, 64)))
    remembers = plain.replace(patch_memory=PatchMemoryConfig())
    combined = Judging("combined", scales=(MapScale("memory", 0.0, 1.0),))
    for judging in (Judging("memory"), combined, Judging(draw_by="memory")):
        check_judging(remembers, judging)
        with pytest.raises(ConfigError, match="no memory of normal patches"):
            check_judging(plain, judging)
    alone = remembers.replace(streams=False)
    check_judging(alone, Judging("memory"))
    for judging in (Judging("cosine"), Judging("memory", "aggregation")):
        with pytest.raises(ConfigError, match="no streams, so it cannot judge by their maps; train it with steps"):
            check_judging(alone, judging)
    check_judging(plain, Judging("combined", scales=(MapScale("cosine", 0.0, 1.0),), score_top_k=64 * 64))
    with pytest.raises(ConfigError, match=r"score_top_k must be at most the 64 x 64 values"):
        check_judging(plain, Judging(score_top_k=64 * 64 + 1))
