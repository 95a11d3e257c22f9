"""Whether a training may go on from a checkpoint: what decides its losses, then and now."""

from __future__ import annotations

from typing import Any

from ..models.stlm.config import NetworkConfig
from .config import CHANGES_NO_LOSS, TrainingConfig

_SAY_NOTHING = {*CHANGES_NO_LOSS}


def differences(known: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs, in words. Settings that a checkpoint does not know yet had their defaults.

    Args:
        known: identity that a checkpoint was written with. Older ones know neither textures nor the teacher's file;
            which those had cannot be told.
        now: identity of this training.

    Returns:
        "photographs", "plain_stream frozen, now trained" and the like; empty where it may go on.
    """
    defaults = {"config": TrainingConfig().to_dict(), "model": NetworkConfig().to_dict()}
    found = []
    for name, value in known.items():
        if isinstance(value, dict):
            before, after = (_with_defaults(given, defaults.get(name, {})) for given in (value, now.get(name) or {}))
            found += _changed(before, after)
        elif value != now.get(name):
            found.append(name)
    return found


def _changed(before: dict[str, Any], after: dict[str, Any], inside: str = "") -> list[str]:
    found = []
    for key in sorted(before.keys() - _SAY_NOTHING):
        old, new = before[key], after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += _changed(old, new, f"{inside}{key}.")
        elif old != new and not (key == "total" and before.get("steps") != after.get("steps")):  # said by "steps"
            found.append(f"{inside}{key} {old}, now {new}")
    return found


def _with_defaults(settings: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Settings, and those inside them, with the default of each that they do not name."""
    nested = {
        key: _with_defaults(value, defaults[key])
        for key, value in settings.items()
        if isinstance(value, dict) and isinstance(defaults.get(key), dict)
    }
    return {**defaults, **settings, **nested}
