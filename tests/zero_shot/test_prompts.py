"""Prompt ensembles: the file of the library, and what is no prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from stlm_hub.errors import ConfigError
from stlm_hub.zero_shot.prompts import PROMPTS_FILE, Prompts, checked_part

SMALL = {
    "part": "thing",
    "normal": ["good {part}"],
    "anomalous": ["bad {part}"],
    "templates": ["a {state}", "the {state}"],
}


def written(folder: Path, data: Any) -> Path:
    path = folder / "words.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def test_every_state_is_said_in_every_template(tmp_path: Path) -> None:
    prompts = Prompts.load(written(tmp_path, SMALL))
    assert prompts.texts() == (["a good thing", "the good thing"], ["a bad thing", "the bad thing"])
    assert prompts.texts(" metal nut ")[1] == ["a bad metal nut", "the bad metal nut"]
    assert prompts.texts("{state} {0}")[0][0] == "a good {state} {0}"  # braces in a name are only braces


def test_the_library_has_prompts_of_its_own() -> None:
    own = yaml.safe_load(PROMPTS_FILE.read_text())
    normal, anomalous = Prompts.load().texts("bottle")
    assert len(normal) == len(own["normal"]) * len(own["templates"]) == len(set(normal))
    assert len(anomalous) == len(own["anomalous"]) * len(own["templates"]) == len(set(anomalous))
    assert not set(normal) & set(anomalous)
    assert all("bottle" in text and not set(text) & set("{}") for text in normal + anomalous)


@pytest.mark.parametrize("part", [5, None, b"nut", ["nut"], "", "  ", "a\nb", "nut <end_of_text>", "x" * 201])
def test_a_part_is_named_in_words(part: Any) -> None:
    with pytest.raises(ConfigError, match="must be named in"):
        checked_part(part)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"normal": [5]}, "must be texts that hold {part}, not 5"),
        ({"normal": ["perfect"]}, "must be texts that hold {part}"),
        ({"anomalous": []}, "must be a list of texts"),
        ({"anomalous": "bad {part}"}, "must be a list of texts"),
        ({"templates": ["a {part}"]}, "must be texts that hold {state}"),
        ({"templates": [f"{i} {{state}}" for i in range(1001)]}, "more than 1000 prompts"),
        ({"part": 7}, "must be named in words"),
        ({"more": 1}, "has no field 'more'"),
    ],
)
def test_what_is_no_prompt_is_refused(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told.replace("{", r"\{")):
        Prompts.load(written(tmp_path, SMALL | changes))


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read"):
        Prompts.load(tmp_path / "none.yaml")
    path = tmp_path / "words.yaml"
    for content, told in (
        (b"part: [", "not valid YAML"),
        (b"\xff\xfe\x00\x00\xd8", "not valid YAML"),
        (b"- a", "no prompts"),
    ):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=told):
            Prompts.load(path)
