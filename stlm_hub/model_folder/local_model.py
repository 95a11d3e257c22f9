"""A model whose files are on this machine: where they are, which it must have, what they must hash to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import WeightsError
from ..models.stlm.config import STLMConfig
from .names import ALWAYS, DECIDING, MEMORY_NAME, REGION_NAME, WEIGHTS_NAME
from .versions import settle
from .zoo import ZooEntry

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")


@dataclass(frozen=True)
class LocalModel:
    """Where the files of a model are, and what is known about them before they are read.

    Args:
        folder: holds them all, of one commit.
        source: the folder or repository that they come from.
        revision: 40-hex commit; None for a folder.
        sha256: what files must hash to, by name; files that nobody vouches for are left out.
        alias: set where zoo.json vouches for every file that decides a prediction.
    """

    folder: Path
    source: str
    revision: str | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)
    alias: str | None = None


def in_folder(folder: Path, entry: ZooEntry | None) -> LocalModel:
    """The model of a folder; of a zoo entry where it must be that one."""
    settle(folder)
    names = [path.name for path in folder.iterdir()]
    if {"model.onnx", "model.xml"} & set(names):
        raise WeightsError(f"{folder} is an export, which only judges; name the model that it was made from.")
    if not {WEIGHTS_NAME, MEMORY_NAME} & set(names):
        raise WeightsError(no_weights(str(folder), names))
    if entry is None:
        return LocalModel(folder, str(folder))
    return LocalModel(folder, str(folder), None, entry.sha256, entry.alias)


def needed_files(config: STLMConfig) -> list[str]:
    """Names of the files that decide a prediction of a model with this config."""
    absent = {MEMORY_NAME} if config.patch_memory is None else set()
    absent |= set() if config.streams else {WEIGHTS_NAME}
    absent |= set() if config.region else {REGION_NAME}
    return [name for name in DECIDING if name not in absent]


def no_weights(place: str, names: Iterable[str]) -> str:
    """The sentence for a folder or repository of these files, which has no weights that are read."""
    pickles = sorted(name for name in names if name.endswith(PICKLE_SUFFIXES))
    if pickles:
        return (
            f"{place} has its weights only as a pickle ({pickles[0]}), which can run any code when it is read. "
            f"stlm_hub reads only {WEIGHTS_NAME}: ask whoever made the model to save it with STLM.save_pretrained."
        )
    return f"{place} has no {WEIGHTS_NAME}; a model has {', '.join(ALWAYS)}, as STLM.save_pretrained writes."
