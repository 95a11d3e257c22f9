"""Checks of single configuration values. Each raises a ConfigError that names the field and what it may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .errors import ConfigError


def check_integer(name: str, value: Any, low: int, high: int) -> None:
    """A whole number in [low, high]; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} must be a whole number from {low} to {high}, not {value!r:.60}.")


def check_number(name: str, value: Any, low: float, high: float) -> None:
    """A finite number in [low, high]. YAML reads 5e-4 as a text; it wants 5.0e-4."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ConfigError(f"{name} must be a number from {low} to {high}, not {value!r:.60}.")


def check_text(name: str, value: Any, longest: int = 200) -> None:
    """A text of at most `longest` characters."""
    if not isinstance(value, str) or len(value) > longest:
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
