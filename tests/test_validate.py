"""Files of JSON: whatever stands in the place of one ends in a sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stlm_hub.errors import ConfigError
from stlm_hub.models.stlm.config import STLMConfig
from stlm_hub.models.stlm.judging import Judging
from stlm_hub.validate import MAX_JSON_BYTES, check_choice, check_fields, check_flag, check_number, read_json

Load = Callable[[Path], Any]


@pytest.fixture(params=[STLMConfig.load, Judging.load], ids=["config.json", "calibration.json"])
def load(request: pytest.FixtureRequest) -> Load:
    function: Load = request.param
    return function


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe{}",
        b"\x00",
        b'{"network": {},}',
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"network": {"input_size": ' + b"9" * 5000 + b"}}",
        b'{"score_top_k": ' + b"9" * 5000 + b"}",
        b'{"calibration": {"threshold": 1'
        + b"0" * 400
        + b', "false_alarm_rate": 0.1, "n": 4, "method": "", "date": ""}}',
        b'{"network": {"input_size": NaN}, "score_top_k": NaN}',
        b'{"network": {"input_size": [1, 1]e999}, "score_top_k": 1e999}',
        b'"text"',
        b"null",
    ],
    ids=[
        "empty",
        "cut",
        "encoding",
        "zero byte",
        "comma",
        "deep list",
        "deep object",
        "digits",
        "more digits",
        "huge",
        "nan",
        "infinity",
        "text",
        "null",
    ],
)
def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path, load: Load, content: bytes) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        load(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500 + len(str(path))


def test_a_large_file_is_not_read_to_its_end(tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.json"
    path.write_text(json.dumps(STLMConfig().to_dict()) + " " * MAX_JSON_BYTES)
    monkeypatch.setattr(json, "loads", lambda *_: pytest.fail("it was parsed"))
    with pytest.raises(ConfigError, match="larger than"):
        load(path)
    with path.open("r+b") as file:
        file.truncate(1 << 40)  # a sparse terabyte: reading it whole would end the process
    with pytest.raises(ConfigError, match="larger than"):
        load(path)


def test_what_is_no_file_is_named(tmp_path: Path, load: Load) -> None:
    path = tmp_path / "file.json"
    with pytest.raises(ConfigError, match=r"file\.json is missing"):
        load(path)
    path.mkdir()
    with pytest.raises(ConfigError, match=r"file\.json is not an ordinary file"):
        load(path)
    path.rmdir()
    os.mkfifo(path)  # opening it would wait for ever
    with pytest.raises(ConfigError, match=r"file\.json is not an ordinary file"):
        load(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / ("x" * 300))


def test_a_mark_at_the_beginning_of_a_text_file_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text('{"anomaly_map": "cosine"}', encoding="utf-8-sig")  # as Windows' editors write
    assert read_json(tmp_path / "file.json") == {"anomaly_map": "cosine"}


def test_each_check_takes_what_it_names_and_nothing_else() -> None:
    check_number("x", 1, 0, 1)
    check_number("x", 0.0, 0, 1)
    check_choice("x", "a", ("a", "b"))
    check_flag("x", False)
    assert check_fields("x", {"a": 1}, ("a", "b"), required=("a",)) == {"a": 1}
    for check in (
        lambda: check_number("x", True, 0, 1),
        lambda: check_number("x", "5e-4", 0, 1),
        lambda: check_number("x", float("nan"), 0, 1),
        lambda: check_choice("x", {}, ("a", "b")),
        lambda: check_flag("x", 0),
        lambda: check_flag("x", None),
        lambda: check_fields("x", {"c": 1}, ("a", "b")),
        lambda: check_fields("x", {5: 1}, ("a", "b")),
        lambda: check_fields("x", {"b": 1}, ("a", "b"), required=("a",)),
        lambda: check_fields("x", [("a", 1)], ("a", "b")),
    ):
        with pytest.raises(ConfigError, match=r"^x "):
            check()
