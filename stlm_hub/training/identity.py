"""Whether a training may go on from a checkpoint: what decides its losses, then and now."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..files.fingerprint import file_sha256, fingerprint
from ..models.stlm.config import NetworkConfig
from ..pseudo_anomalies.textures import TextureSource
from ..starting_weights.starting_weights import StartingWeights
from .config import CHANGES_NO_LOSS, TrainingConfig
from .objective import PAPER, Objective
from .teacher import SAM_FILES

_SAY_NOTHING = {*CHANGES_NO_LOSS}


def identity_of(
    photographs: Sequence[Path],
    model: NetworkConfig,
    config: TrainingConfig,
    objective: Objective,
    weights: StartingWeights,
    *,
    textures: TextureSource | None,
    region: np.ndarray | None,
    teacher_checkpoint: Path | None,
    processes: int,
    total: int,
) -> dict[str, Any]:
    """What decides a training's losses, as plain data.

    Args:
        processes: that share each step.
        total: number of steps.
        For the others see `loop.train`; `model` is the network's configuration.
    """
    teacher = teacher_checkpoint if objective.teacher_name(config) in SAM_FILES else None
    return {
        "photographs": fingerprint(photographs),
        "config": config.to_dict() | {"objective": objective.name, "total": total},
        "model": model.to_dict(),
        "weights": weights.sha256,
        "processes": processes,
        "textures": fingerprint(textures.photographs) if textures else "",
        "region": hashlib.sha256(np.packbits(region).tobytes()).hexdigest() if region is not None else "",
        "teacher": file_sha256(teacher) if teacher else "",
    }


def differences(known: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs, in words.

    Args:
        known: identity that a checkpoint was written with. A setting that an older checkpoint lacks had its default;
            what textures or teacher's file it had, where it does not say, nobody knows.
        now: identity of this training.

    Returns:
        "photographs", "plain_stream frozen, now trained" and the like; empty where it may go on.
    """
    defaults = {"config": TrainingConfig().to_dict() | {"objective": PAPER.name}, "model": NetworkConfig().to_dict()}
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
