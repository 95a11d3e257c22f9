"""The identity of a training: what decides its losses. A checkpoint is resumed only by a training with the same one."""

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
    """What decides the losses of a training, as plain data.

    Args:
        model: configuration of the network.
        processes: number of processes that share each step.
        total: number of steps.
        photographs, config, objective, weights, textures, region, teacher_checkpoint: see `loop.train`.
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
        known: identity in a checkpoint. A setting that an older checkpoint lacks had its default. Textures or a
            teacher's file that it lacks are not compared.
        now: identity of this training.

    Returns:
        "photographs", "plain_stream frozen, now trained" and the like; empty: the training may go on.
    """
    defaults = {"config": TrainingConfig().to_dict() | {"objective": PAPER.name}, "model": NetworkConfig().to_dict()}
    differing = []
    for name, value in known.items():
        if isinstance(value, dict):
            before, after = (_with_defaults(given, defaults.get(name, {})) for given in (value, now.get(name) or {}))
            differing += _changed(before, after)
        elif value != now.get(name):
            differing.append(name)
    return differing


def _changed(before: dict[str, Any], after: dict[str, Any], prefix: str = "") -> list[str]:
    """Settings of `before` that differ in `after`, in words; `prefix` names the settings that they are inside."""
    differing = []
    for key in sorted(before.keys() - set(CHANGES_NO_LOSS)):
        old, new = before[key], after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            differing += _changed(old, new, f"{prefix}{key}.")
        elif old != new and not (key == "total" and before.get("steps") != after.get("steps")):  # "steps" says it
            differing.append(f"{prefix}{key} {old}, now {new}")
    return differing


def _with_defaults(settings: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Settings, completed with defaults, also inside nested settings."""
    nested = {
        key: _with_defaults(value, defaults[key])
        for key, value in settings.items()
        if isinstance(value, dict) and isinstance(defaults.get(key), dict)
    }
    return {**defaults, **settings, **nested}
