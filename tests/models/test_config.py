"""config.json: read back as written, and refused with a sentence where a value is out of range."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from stlm_hub.errors import ConfigError
from stlm_hub.models.backbones import BACKBONES
from stlm_hub.models.stlm.config import (
    FORMAT_VERSION,
    LEVEL_CHANNELS,
    NetworkConfig,
    PatchMemoryConfig,
    STLMConfig,
)

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


def config_json(network: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"network": network or {}, **fields}


def test_defaults_are_the_papers() -> None:
    config = STLMConfig()
    assert config.network == NetworkConfig() and config.patch_memory is None and config.streams
    network = config.network
    assert (network.input_size, network.feature_levels) == ((1024, 1024), ("embedding", "decoder"))
    assert (network.aggregation_channels, network.aggregation_dilations) == (128, (3,))
    assert (network.decoders, network.aggregation_input, network.shared_stages) == ("shared", "product", 0)
    assert network.aggregation_in_channels == 512


@pytest.mark.parametrize(
    "config",
    [
        STLMConfig(),
        STLMConfig(NetworkConfig(input_size=(2048, 2048)), PatchMemoryConfig()),
        STLMConfig(
            NetworkConfig(
                input_size=(64, 64),
                feature_levels=("decoder", "stage1", "embedding", "stage2"),
                shared_stages=2,
                decoders="separate",
                aggregation_input="concat",
                aggregation_channels=8,
                aggregation_dilations=(6, 12, 18),
            ),
            PatchMemoryConfig(entries=65536, channels=288, backbone="mobile_sam"),
            streams=False,
            category="Flasche Größe 3",
            dataset="MVTec AD",
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
    assert isinstance(loaded.network.feature_levels, tuple) and isinstance(loaded.network.aggregation_dilations, tuple)
    assert set(data) == {"format_version", *(field.name for field in dataclasses.fields(STLMConfig))}
    assert data["format_version"] == FORMAT_VERSION
    assert set(data["network"]) == {field.name for field in dataclasses.fields(NetworkConfig)}


def test_missing_fields_are_the_defaults() -> None:
    assert STLMConfig.from_dict({"network": {}}) == STLMConfig()
    assert STLMConfig.from_dict({"network": {"input_size": [256, 256]}}) == STLMConfig(
        NetworkConfig(input_size=(256, 256))
    )
    assert STLMConfig.from_dict({"network": {}, "patch_memory": {}}).patch_memory == PatchMemoryConfig()


def test_channels_that_enter_the_aggregation_module() -> None:
    assert NetworkConfig(feature_levels=tuple(LEVEL_CHANNELS)).aggregation_in_channels == 800
    assert NetworkConfig(feature_levels=("stage1",)).aggregation_in_channels == 128
    channels = {
        how: NetworkConfig(aggregation_input=how).aggregation_in_channels
        for how in ("product", "cosine", "subtraction", "concat")
    }
    assert channels == {"product": 512, "cosine": 2, "subtraction": 1024, "concat": 1024}


def test_a_copy_is_checked_too() -> None:
    config = STLMConfig(category="bottle")
    assert config.replace(patch_memory=PatchMemoryConfig(9, 7)).patch_memory == PatchMemoryConfig(9, 7)
    assert config.replace(dataset="own").category == "bottle" and config.dataset == ""
    with pytest.raises(ConfigError, match="category"):
        config.replace(category="x" * 201)
    with pytest.raises(ConfigError, match="input_size"):
        dataclasses.replace(config.network, input_size=(100, 100))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.category = "screw"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.network.input_size = (128, 128)  # type: ignore[misc]


@pytest.mark.parametrize("field", ["input_size", "tiles", "aggregation_channels", "shared_stages"])
@pytest.mark.parametrize("value", BAD_INTEGERS, ids=lambda value: str(value)[:8])
def test_what_is_no_whole_number_in_range_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{field} must be"):
        STLMConfig.from_dict(config_json({field: value}))
    with pytest.raises(ConfigError, match=f"{field} must be"):
        NetworkConfig(**{field: value})


@pytest.mark.parametrize("field", ["entries", "channels"])
@pytest.mark.parametrize("value", [*BAD_INTEGERS, 0], ids=lambda value: str(value)[:8])
def test_a_memory_of_no_whole_number_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"patch_memory {field} must be a whole number"):
        STLMConfig.from_dict(config_json(patch_memory={field: value}))


@pytest.mark.parametrize("value", BAD_INTEGERS, ids=lambda value: str(value)[:8])
def test_a_format_that_is_no_whole_number_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"format_version must be|saved in format"):
        STLMConfig.from_dict(config_json(format_version=value))


@pytest.mark.parametrize(
    "network, message",
    [
        ({"input_size": [100, 100]}, "multiples of 64, not .100, 100"),
        ({"input_size": [96, 96]}, "multiples of 64, not .96, 96"),
        ({"input_size": [0, 0]}, "input_size must be a whole number from 64 to 2048"),
        ({"input_size": [2112, 2112]}, "input_size must be"),
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
        ({"decoders": "two"}, r"decoders must be one of \['shared', 'separate'\]"),
        ({"decoders": ["shared"]}, "decoders must be one of"),
        ({"aggregation_input": "sum"}, "aggregation_input must be one of"),
        ({"aggregation_dilations": []}, "a list of 1 to 8 whole numbers"),
        ({"aggregation_dilations": [1] * 9}, "a list of 1 to 8 whole numbers"),
        ({"aggregation_dilations": [3, 0.5]}, "aggregation_dilations must be a whole number from 1 to 64"),
        ({"aggregation_dilations": 3}, "a list of 1 to 8 whole numbers"),
        ({"shared_stages": 4}, "shared_stages must be a whole number from 0 to 3"),
        ({"feature_levels": ["stage1", "embedding"], "shared_stages": 3}, "With shared_stages 3 the levels"),
        ({"teacher": "vit_h"}, "network has no field 'teacher'"),
        ([["input_size", 256]], "network must be a JSON object"),
    ],
)
def test_a_bad_network_is_refused_by_name(network: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        STLMConfig.from_dict({"network": network})


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"patch_memory": {"backbone": "vit_h"}}, "backbone must be one of"),
        ({"patch_memory": {"backbone": ["mobile_sam"]}}, "backbone must be one of"),
        ({"patch_memory": {"entries": 65537}}, "entries must be a whole number from 1 to 65536"),
        ({"patch_memory": {"levels": 2}}, "patch_memory has no field 'levels'"),
        ({"patch_memory": []}, "patch_memory must be a JSON object"),
        ({"patch_memory": False}, "patch_memory must be a JSON object"),
        ({"streams": 1}, "streams"),
        ({"streams": None}, "streams"),
        ({"streams": False}, "needs streams or a patch_memory; this config has neither"),
        ({"category": 5}, "category"),
        ({"category": "x" * 201}, "category"),
        ({"dataset": None}, "dataset"),
        ({"dataset": ["MVTec AD"]}, "dataset"),
        ({"teacher": "vit_h"}, r"config.json has no field 'teacher'"),
        ({"_target_": "os.system"}, r"config.json has no field '_target_'"),
        ({"input_size": [256, 256]}, r"config.json has no field 'input_size'"),
    ],
)
def test_a_bad_value_is_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        STLMConfig.from_dict(config_json(**fields))


@pytest.mark.parametrize("backbone, channels", [(name, sum(known.channels)) for name, known in BACKBONES.items()])
def test_a_memory_has_at_most_the_channels_of_its_backbone(backbone: str, channels: int) -> None:
    assert PatchMemoryConfig(channels=channels, backbone=backbone).channels == channels
    with pytest.raises(ConfigError, match=f"channels must be a whole number from 1 to {channels}, not {channels + 1}"):
        PatchMemoryConfig(channels=channels + 1, backbone=backbone)


def test_levels_before_the_shared_stages_cannot_be_read() -> None:
    assert NetworkConfig(feature_levels=("stage1",), shared_stages=2).shared_stages == 2
    with pytest.raises(ConfigError, match="With shared_stages 3 the levels"):
        NetworkConfig(feature_levels=("stage1", "embedding"), shared_stages=3)


def test_a_dictionary_is_no_part_of_a_config_in_python() -> None:
    with pytest.raises(ConfigError, match="network must be a NetworkConfig"):
        STLMConfig(network={"input_size": [64, 64]})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="patch_memory must be a PatchMemoryConfig"):
        STLMConfig(patch_memory={"entries": 64})  # type: ignore[arg-type]


def test_a_newer_format_asks_for_an_upgrade_whatever_else_it_holds() -> None:
    newer = {"format_version": FORMAT_VERSION + 1, "attention": "new", "network": "large"}
    with pytest.raises(ConfigError, match=r"format 4.*reads up to 3.*pip install --upgrade stlm_hub"):
        STLMConfig.from_dict(newer)


def test_an_older_format_asks_for_the_command_that_made_the_model() -> None:
    older: dict[str, Any] = {"format_version": FORMAT_VERSION - 1, "network": {}}
    with pytest.raises(ConfigError, match=r"format 2 by an older stlm_hub.*reads format 3\. Make it again"):
        STLMConfig.from_dict(older)


@pytest.mark.parametrize("data", [None, [], "config", 5, [["network", {}]]])
def test_what_is_no_object_is_refused(data: Any) -> None:
    with pytest.raises(ConfigError, match="JSON object"):
        STLMConfig.from_dict(data)
    with pytest.raises(ConfigError, match="lacks the field 'network'"):
        STLMConfig.from_dict({})


def test_messages_do_not_repeat_a_hostile_value_at_length() -> None:
    long = "x" * 100_000
    for data in (
        config_json({"feature_levels": [long]}),
        config_json({"decoders": long}),
        config_json({long: 1}),
        config_json({"input_size": [long, 64]}),
        config_json(**{long: 1}),
        {"network": long},
    ):
        with pytest.raises(ConfigError) as error:
            STLMConfig.from_dict(data)
        assert len(str(error.value)) < 500
