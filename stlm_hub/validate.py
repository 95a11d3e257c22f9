"""Checks of single configuration values. Each raises a ConfigError that names the field and what it may be."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .errors import ConfigError

MAX_JSON_BYTES = 1_000_000


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with the home folder in place of `~`. What only looks like one, as the file `~part.png`, stays."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # nobody has this name
        return Path(path)


def check_integer(name: str, value: Any, low: int, high: int) -> None:
    """A whole number in [low, high]; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} must be a whole number from {low} to {high}, not {value!r:.60}.")


def check_number(name: str, value: Any, low: float, high: float) -> None:
    """A finite number in [low, high]. YAML reads 5e-4 as a text; it wants 5.0e-4."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ConfigError(f"{name} must be a number from {low} to {high}, not {value!r:.60}.")


def check_text(name: str, value: Any, longest: int = 200) -> None:
    """A text of at most `longest` characters that can be written as UTF-8."""
    if not isinstance(value, str) or len(value) > longest or re.search("[\ud800-\udfff]", value):
        raise ConfigError(f"{name} must be a text of at most {longest} characters.")


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """One of a few values."""
    known = list(choices)
    if value not in known:
        raise ConfigError(f"{name} must be one of {known}, not {value!r:.60}.")


def check_flag(name: str, value: Any) -> None:
    """True or False."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be true or false, not {value!r:.60}.")


def check_fields(name: str, value: Any, known: Iterable[str], *, required: Iterable[str] = ()) -> Mapping[str, Any]:
    """A JSON object with no unknown field and every required one. Returns it.

    Args:
        name: what messages call the object, e.g. "config.json" or "network in config.json".
        value: parsed JSON.
        known: names that may occur.
        required: names that must occur.
    """
    if not isinstance(value, dict):
        raise ConfigError(f"{name} must be a JSON object, not {value!r:.60}.")
    unknown = sorted(str(key)[:40] for key in value.keys() - set(known))
    if unknown:
        raise ConfigError(f"{name} has no field {unknown[0]!r}; it has {sorted(known)}.")
    missing = sorted(set(required) - value.keys())
    if missing:
        raise ConfigError(f"{name} lacks the field {missing[0]!r}; use the file that stlm_hub wrote.")
    return value


def read_json(path: Path, largest: int = MAX_JSON_BYTES) -> Any:
    """Parsed JSON of a small file; ConfigError as of `read_bytes` and `parse_json`."""
    return parse_json(read_bytes(path, largest), path)


def parse_json(data: bytes, path: Path) -> Any:
    """JSON of a file's contents.

    Raises:
        ConfigError: they are not JSON.
    """
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid JSON ({error}); use the file that stlm_hub wrote.") from None


def read_bytes(path: Path, largest: int = MAX_JSON_BYTES) -> bytes:
    """The contents of a small file.

    Args:
        path: an ordinary file.
        largest: most bytes that it may have.

    Raises:
        ConfigError: the file is missing, is not an ordinary one, is too large or cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError(f"{path} is not an ordinary file; get the model's folder anew.")
        with path.open("rb") as file:
            data = file.read(largest + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing; get the model's folder anew, or save it with save_pretrained.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); check the path.") from None
    if len(data) > largest:
        raise ConfigError(f"{path} is larger than {largest} bytes and is none of stlm_hub's files.")
    return data
