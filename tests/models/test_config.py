"""config.json: read back as written, and refused with a sentence where it is broken or hostile."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from stlm_hub.errors import ConfigError
from stlm_hub.models.stlm.config import (
    FORMAT_VERSION,
    LEVEL_CHANNELS,
    MAX_CONFIG_BYTES,
    Calibration,
    MapScale,
    STLMConfig,
)

CALIBRATION = Calibration(threshold=0.25, false_alarm_rate=0.01, n=31, method="conformal", date="2026-01-31")


def test_defaults_are_the_papers() -> None:
    config = STLMConfig()
    assert (config.image_size, config.feature_levels) == (1024, ("embedding", "decoder"))
    assert (config.aggregation_channels, config.score_top_k, config.anomaly_map) == (128, 100, "aggregation")
    assert config.aggregation_in_channels == 512
    assert config.calibration is None and config.format_version == FORMAT_VERSION


@pytest.mark.parametrize(
    "config",
    [
        STLMConfig(),
        STLMConfig(image_size=2048, anomaly_map="cosine", score_top_k=2048**2),
        STLMConfig(
            image_size=64,
            feature_levels=("decoder", "stage1", "embedding", "stage2"),
            aggregation_channels=8,
            score_top_k=1,
            category="Flasche Größe 3",
            dataset="MVTec AD",
            memory_entries=65536,
            memory_channels=288,
            anomaly_map="combined",
            combined_maps=(MapScale("memory", -0.5, 4), MapScale("cosine", -30.25, -12.0)),
            calibration=CALIBRATION,
        ),
    ],
)
def test_json_round_trip(config: STLMConfig, tmp_path: Path) -> None:
    data = config.to_dict()
    assert STLMConfig.from_dict(data) == config
    path = tmp_path / "config.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    loaded = STLMConfig.load(path)
    assert loaded == config and loaded.to_dict() == data == json.loads(json.dumps(data))
    assert isinstance(loaded.feature_levels, tuple)
    assert loaded.calibration is None or isinstance(loaded.calibration, Calibration)
    assert set(data) == {field.name for field in dataclasses.fields(STLMConfig)}


def test_missing_fields_are_the_defaults() -> None:
    assert STLMConfig.from_dict({}) == STLMConfig()
    assert STLMConfig.from_dict({"image_size": 256}) == STLMConfig(image_size=256)


def test_channels_that_enter_the_aggregation_module() -> None:
    assert STLMConfig(feature_levels=tuple(LEVEL_CHANNELS)).aggregation_in_channels == 800
    assert STLMConfig(feature_levels=("stage1",)).aggregation_in_channels == 128


def test_a_copy_is_checked_too() -> None:
    config = STLMConfig(category="bottle")
    assert config.replace(calibration=CALIBRATION).calibration == CALIBRATION
    assert config.replace(image_size=128).category == "bottle" and config.image_size == 1024
    with pytest.raises(ConfigError, match="image_size"):
        config.replace(image_size=100)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.image_size = 128  # type: ignore[misc]


BAD_INTEGERS: tuple[Any, ...] = (
    True,
    False,
    None,
    "256",
    256.0,
    float("nan"),
    float("inf"),
    -256,
    10**9,
    10**400,
    [256],
    {},
)


SCALE = {"anomaly_map": "cosine", "typical": -2.5, "peak": 1.0}


def test_what_comes_after_the_training_is_no_part_of_what_is_trained() -> None:
    scales = (MapScale("memory", 0.0, 1.0),)
    finished = STLMConfig(
        feature_levels=("stage2", "embedding", "stage1"), memory_entries=9, memory_channels=7, combined_maps=scales
    )
    assert finished.memory_levels == ("stage2", "stage1") and finished.memory_in_channels == 288
    assert finished.replace(memory_encoder="efficientnet_lite0").memory_in_channels == 152
    trained = STLMConfig(feature_levels=("stage2", "embedding", "stage1"))
    assert finished.replace(memory_encoder="efficientnet_lite0").for_training == trained
    for anomaly_map in ("aggregation", "memory", "combined"):
        assert finished.replace(anomaly_map=anomaly_map).for_training == trained
    assert finished.replace(anomaly_map="cosine").for_training == trained.replace(anomaly_map="cosine")


def test_scales_of_the_first_format_were_for_a_mean_and_are_forgotten() -> None:
    old = {"format_version": 1, "anomaly_map": "combined", "combined_maps": [SCALE], "image_size": 256}
    read = STLMConfig.from_dict(old)
    assert read == STLMConfig(image_size=256, anomaly_map="combined")
    assert read.to_dict()["format_version"] == FORMAT_VERSION  # so that an older library asks for an upgrade
    assert STLMConfig.from_dict({**old, "format_version": 2}).combined_maps == (MapScale("cosine", -2.5, 1.0),)
    with pytest.raises(ConfigError, match="combined_maps"):
        STLMConfig.from_dict({**old, "combined_maps": [{**SCALE, "peak": -9}]})


def test_a_list_is_no_scale_in_python() -> None:
    with pytest.raises(ConfigError, match="list of objects"):
        STLMConfig(combined_maps=(SCALE,))  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["image_size", "aggregation_channels", "score_top_k", "format_version"])
@pytest.mark.parametrize("value", BAD_INTEGERS, ids=lambda value: str(value)[:8])
def test_what_is_no_whole_number_in_range_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{field} must be|saved in format"):
        STLMConfig.from_dict({field: value})
    with pytest.raises(ConfigError):
        STLMConfig(**{field: value})


@pytest.mark.parametrize(
    "data, message",
    [
        ({"image_size": 100}, "multiple of 64, not 100"),
        ({"image_size": 96}, "multiple of 64, not 96"),
        ({"image_size": 0}, "image_size must be a whole number from 64 to 2048"),
        ({"image_size": 2112}, "image_size must be"),
        ({"image_size": 64, "score_top_k": 64 * 64 + 1}, "score_top_k must be a whole number from 1 to 4096"),
        ({"score_top_k": 0}, "score_top_k"),
        ({"aggregation_channels": 7}, "aggregation_channels"),
        ({"aggregation_channels": 513}, "aggregation_channels"),
        ({"feature_levels": []}, "each level once"),
        ({"feature_levels": ["embedding", "embedding"]}, "each level once"),
        ({"feature_levels": ["embedding", "stage3"]}, "each level once.*stage3"),
        ({"feature_levels": "embedding"}, "list of names"),
        ({"feature_levels": b"embedding"}, "list of names"),
        ({"feature_levels": None}, "list of names"),
        ({"feature_levels": {"embedding": 1}}, "list of names"),
        ({"feature_levels": ["embedding", 1]}, "list of names"),
        ({"feature_levels": [["embedding"]]}, "list of names"),
        ({"anomaly_map": "Cosine"}, "anomaly_map"),
        ({"anomaly_map": ["cosine"]}, "anomaly_map"),
        ({"anomaly_map": None}, "anomaly_map"),
        ({"anomaly_map": "memory"}, 'The map "memory" needs memory_entries'),
        ({"memory_entries": 10}, r"as many; \['embedding', 'decoder'\] have 0"),
        ({"memory_entries": 10, "feature_levels": ["stage1"], "memory_channels": 129}, r"\['stage1'\] have 128"),
        ({"combined_maps": None}, "combined_maps must be a list"),
        ({"combined_maps": [SCALE] * 4}, "combined_maps must be a list of maps"),
        ({"combined_maps": [SCALE, SCALE]}, "name each map once"),
        ({"combined_maps": [["cosine", 0, 1]]}, "objects with exactly the fields"),
        ({"combined_maps": [{**SCALE, "weight": 1}]}, "objects with exactly the fields"),
        ({"combined_maps": [{**SCALE, "anomaly_map": "memory"}]}, "needs memory_entries"),
        ({"combined_maps": [{**SCALE, "anomaly_map": "combined"}]}, "combined_maps must name maps out of"),
        ({"combined_maps": [{**SCALE, "anomaly_map": ["cosine"]}]}, "combined_maps must name maps out of"),
        ({"combined_maps": [{**SCALE, "peak": -3.0}]}, "peak must be above"),
        ({"combined_maps": [{"anomaly_map": "cosine", "typical": 0.0, "peak": 5e-324}]}, "peak must be above"),
        ({"combined_maps": [{**SCALE, "peak": float("nan")}]}, "combined_maps.peak must be a number"),
        ({"memory_encoder": "vit_h"}, "memory_encoder must be one of"),
        ({"memory_encoder": ["plain"]}, "memory_encoder must be one of"),
        (
            {"memory_entries": 9, "memory_encoder": "efficientnet_lite0", "memory_channels": 153},
            "at most 152 with the memory_encoder efficientnet_lite0",
        ),
        ({"category": 5}, "category"),
        ({"category": "x" * 201}, "category"),
        ({"dataset": None}, "dataset"),
        ({"dataset": ["MVTec AD"]}, "dataset"),
        ({"teacher": "vit_h"}, r"unknown fields \['teacher'\]"),
        ({"_target_": "os.system", "image_size": 256}, "unknown fields"),
    ],
)
def test_a_bad_value_is_refused_by_name(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        STLMConfig.from_dict(data)


def test_thresholds_of_the_second_format_on_the_product_of_levels_are_refused() -> None:
    old = {"format_version": 2, "anomaly_map": "cosine", **calibration()}
    with pytest.raises(ConfigError, match=r"stlm calibrate PHOTOS --model MODEL --map cosine"):
        STLMConfig.from_dict(old)
    assert STLMConfig.from_dict({**old, "format_version": 3}).calibration == CALIBRATION
    assert STLMConfig.from_dict({**old, "anomaly_map": "aggregation"}).calibration == CALIBRATION
    assert STLMConfig.from_dict({**old, "calibration": None}).calibration is None  # of a training that was cut off


def test_a_newer_format_asks_for_an_upgrade_whatever_else_it_holds() -> None:
    newer = {"format_version": FORMAT_VERSION + 1, "attention": "new", "image_size": "large"}
    with pytest.raises(ConfigError, match=r"format 4.*reads up to 3.*pip install --upgrade stlm_hub"):
        STLMConfig.from_dict(newer)
    with pytest.raises(ConfigError, match="upgrade"):
        STLMConfig(format_version=FORMAT_VERSION + 1)


def calibration(**changes: Any) -> dict[str, Any]:
    return {"calibration": {**dataclasses.asdict(CALIBRATION), **changes}}


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
        STLMConfig.from_dict(data)


def test_a_dictionary_is_no_calibration_in_python() -> None:
    with pytest.raises(ConfigError, match="calibration must be"):
        STLMConfig(calibration={"threshold": 0.5})  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [None, [], "config", 5, [["image_size", 256]]])
def test_what_is_no_object_is_refused(data: Any) -> None:
    with pytest.raises(ConfigError, match="JSON object"):
        STLMConfig.from_dict(data)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe{}",
        b'{"image_size": 256,}',
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"image_size": ' + b"9" * 5000 + b"}",
        b'{"calibration": {"threshold": 1'
        + b"0" * 400
        + b', "false_alarm_rate": 0.1, "n": 4, "method": "", "date": ""}}',
        b'{"image_size": NaN}',
        b'{"image_size": 1e999}',
    ],
    ids=["empty", "cut", "encoding", "comma", "deep list", "deep object", "digits", "huge", "nan", "infinity"],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        STLMConfig.load(path)
    assert len(str(error.value)) < 500 + len(str(path))


def test_a_large_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(STLMConfig().to_dict()) + " " * MAX_CONFIG_BYTES)

    def read_text(*_: object, **__: object) -> str:
        raise AssertionError("it was read")

    monkeypatch.setattr(Path, "read_text", read_text)
    with pytest.raises(ConfigError, match="larger than"):
        STLMConfig.load(path)


def test_a_missing_file_and_a_folder_in_its_place_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json is missing"):
        STLMConfig.load(tmp_path / "config.json")
    (tmp_path / "config.json").mkdir()
    with pytest.raises(ConfigError, match=r"config\.json cannot be read"):
        STLMConfig.load(tmp_path / "config.json")


def test_messages_do_not_repeat_a_hostile_value_at_length() -> None:
    long = "x" * 100_000
    for data in ({"feature_levels": [long]}, {"anomaly_map": long}, {long: 1}, {"image_size": long}):
        with pytest.raises(ConfigError) as error:
            STLMConfig.from_dict(data)
        assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    "field, value, sentence",
    [
        ("decoders", "two", 'decoders must be "shared" or "separate"'),
        ("aggregation_input", "sum", "aggregation_input must be one of"),
        ("aggregation_dilations", [], "a list of 1 to 8 whole numbers"),
        ("aggregation_dilations", [3, 0.5], "aggregation_dilations must be a whole number from 1 to 64"),
        ("aggregation_dilations", 3, "a list of 1 to 8 whole numbers"),
        ("shared_stages", 4, "shared_stages must be a whole number from 0 to 3"),
    ],
)
def test_settings_of_the_ablations_are_checked(field: str, value: object, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        STLMConfig.from_dict({field: value})


def test_levels_before_the_shared_stages_cannot_be_read() -> None:
    assert STLMConfig(feature_levels=("stage1",), shared_stages=2).shared_stages == 2
    with pytest.raises(ConfigError, match="With shared_stages 3 the levels"):
        STLMConfig(feature_levels=("stage1", "embedding"), shared_stages=3)


def test_channels_of_the_aggregation_follow_its_input() -> None:
    channels = {
        how: STLMConfig(aggregation_input=how).aggregation_in_channels
        for how in ("product", "cosine", "subtraction", "concat")
    }
    assert channels == {"product": 512, "cosine": 2, "subtraction": 1024, "concat": 1024}
