"""Training checkpoints without pickle: tensors as safetensors, the rest as JSON, a marker written last.

A folder without the marker is incomplete and is ignored.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import StorageError, TrainingError

MARKER = "complete"
KEEP = 2


def save(
    folder: Path, step: int, model: nn.Module, optimizers: dict[str, torch.optim.Optimizer], meta: dict[str, Any]
) -> None:
    """Writes `folder/step-<step>`, then deletes all checkpoints but the last two.

    Args:
        folder: of all checkpoints of a run.
        step: number of finished steps.
        model: whose state is saved.
        optimizers: by name.
        meta: further data, ready for JSON.

    Raises:
        StorageError: the folder cannot be written, e.g. because the disk is full.
    """
    try:
        _save(folder, step, model, optimizers, meta)
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"The checkpoint of step {step} cannot be written to {folder} ({error!s:.200}); make room there, it takes "
            "some 500 MB, and give the same command again."
        ) from error


def _save(
    folder: Path, step: int, model: nn.Module, optimizers: dict[str, torch.optim.Optimizer], meta: dict[str, Any]
) -> None:
    target = folder / f"step-{step:07d}"
    temporary = folder / f".step-{step:07d}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file(
        {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}, temporary / "model.safetensors"
    )
    tensors: dict[str, Tensor] = {}
    rest: dict[str, Any] = {}
    for name, optimizer in optimizers.items():
        state = optimizer.state_dict()
        groups = [{k: v for k, v in group.items() if k != "params"} for group in state["param_groups"]]
        rest[name] = {"params": [group["params"] for group in state["param_groups"]], "groups": groups, "scalars": {}}
        for index, values in state["state"].items():
            for key, value in values.items():
                if isinstance(value, Tensor):
                    tensors[f"{name}.{index}.{key}"] = value.detach().cpu().contiguous()
                else:
                    rest[name]["scalars"][f"{index}.{key}"] = value
    save_file(tensors, temporary / "optimizers.safetensors")
    (temporary / "state.json").write_text(json.dumps({"step": step, "optimizers": rest, **meta}, indent=1))
    for path in temporary.iterdir():
        _sync(path)
    shutil.rmtree(target, ignore_errors=True)
    temporary.replace(target)
    (target / MARKER).touch()
    _sync(target)
    _sync(folder)
    kept = _complete(folder)[-KEEP:]
    for path in folder.iterdir():  # one run at a time writes here, so a kill left what is incomplete
        if path not in kept and re.fullmatch(r"\.?step-\d{7}(\.tmp)?", path.name):
            shutil.rmtree(path, ignore_errors=True)


def latest(folder: Path) -> Path | None:
    """The newest complete checkpoint in a run's folder, or None."""
    complete = _complete(folder)
    return complete[-1] if complete else None


def read_state(path: Path) -> dict[str, Any]:
    """The JSON part of a checkpoint: "step", the optimisers' groups and the run's `meta`.

    Raises:
        TrainingError: it cannot be read.
    """
    try:
        return dict(json.loads((path / "state.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise _misfit(path, error) from error


def load(path: Path, model: nn.Module, optimizers: dict[str, torch.optim.Optimizer]) -> dict[str, Any]:
    """Restores model and optimisers in place and returns the JSON part ("step" and the run's `meta`).

    Raises:
        TrainingError: the checkpoint does not fit this model or these optimisers.
    """
    try:
        data = read_state(path)
        model.load_state_dict(load_file(path / "model.safetensors"), strict=True)
        tensors = load_file(path / "optimizers.safetensors")
        for name, optimizer in optimizers.items():
            saved = data["optimizers"][name]
            state: dict[int, dict[str, Any]] = {}
            for full, value in tensors.items():
                owner, index, key = full.split(".", 2)
                if owner == name:
                    state.setdefault(int(index), {})[key] = value
            for full, value in saved["scalars"].items():
                index, key = full.split(".", 1)
                state.setdefault(int(index), {})[key] = value
            groups = [{**g, "params": p} for g, p in zip(saved["groups"], saved["params"], strict=True)]
            optimizer.load_state_dict({"state": state, "param_groups": groups})
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, SafetensorError) as error:
        raise _misfit(path, error) from error
    return data


def _misfit(path: Path, error: Exception) -> TrainingError:
    return TrainingError(f"{path} does not fit this training ({error!s:.300}); start anew with another output folder.")


def _complete(folder: Path) -> list[Path]:
    """Complete checkpoints, the oldest first."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if re.fullmatch(r"step-\d{7}", p.name) and (p / MARKER).exists())


def _sync(path: Path) -> None:
    """Waits until a file, or the entries of a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
