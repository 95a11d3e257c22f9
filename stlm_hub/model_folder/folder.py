"""A model folder: reading and writing its small files, and where one may be written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from ..errors import ConfigError, WeightsError
from ..files.whole import made_beside, replace_file
from ..models.stlm.config import CONFIG_NAME, STLMConfig
from ..models.stlm.judging import CALIBRATION_NAME, Judging
from ..validate import parse_json, read_bytes
from . import versions
from .names import FILES, WEIGHTS_NAME, is_export

T = TypeVar("T")

_NOBODYS = {".DS_Store", "Thumbs.db", "desktop.ini"}  # systems put them anywhere


def read_folder(folder: Path, sha256: Mapping[str, str] | None = None) -> tuple[STLMConfig, Judging]:
    """What a model is and how it judges; each file is opened once.

    Args:
        folder: of a model.
        sha256: what files must hash to, by name.

    Raises:
        ConfigError: a file is missing or not valid.
        WeightsError: a file was altered.
    """

    def read(name: str, parse: Callable[[Any], T]) -> T:
        data = read_bytes(folder / name)
        expected = (sha256 or {}).get(name)
        if expected is not None and hashlib.sha256(data).hexdigest() != expected:
            raise WeightsError(
                f"{folder / name} is not the one of zoo.json: it was altered, or is of another version. Get the whole "
                "folder anew, or download it again with: stlm zoo pull NAME --force"
            )
        return parse(parse_json(data, folder / name))

    return read(CONFIG_NAME, STLMConfig.from_dict), read(CALIBRATION_NAME, Judging.from_dict)


def write_config(folder: Path, config: STLMConfig) -> None:
    """Writes config.json whole or not at all."""
    replace_file(folder / CONFIG_NAME, json.dumps(config.to_dict(), indent=2).encode() + b"\n")


def write_judging(folder: Path, judging: Judging) -> None:
    """Writes calibration.json whole or not at all."""
    replace_file(folder / CALIBRATION_NAME, json.dumps(judging.to_dict(), indent=1).encode() + b"\n")


def move_folder(made: Path, output: Path) -> None:
    """Moves the files of a finished folder over those of an earlier model, all or none; its other files go.

    Raises:
        ConfigError: `output` cannot be written.
    """

    def move(new: Path) -> None:
        for file in made.iterdir():
            file.replace(new / file.name)

    versions.replace(output, move, whole=True)


@contextmanager
def making(output: Path) -> Iterator[Path]:
    """An empty folder beside `output` to make it in, see `whole.made_beside`.

    Raises:
        ConfigError: it cannot be written, or the disk is full.
    """
    try:
        with made_beside(output) as folder:
            yield folder
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"{output} cannot be written ({reason}); free space, or name another folder.") from error


def make_parent(output: Path) -> None:
    """Makes the folder that a model's folder goes into, before any hour is spent on the model.

    Raises:
        ConfigError: it cannot be made or written.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent):
            pass
    except OSError as error:
        raise ConfigError(
            f"{output.parent} cannot be written ({error.strerror or error}); name another folder for the model."
        ) from None


def check_output(output: Path, also: Sequence[str] = ()) -> None:
    """Refuses a folder that holds something else than a model.

    Args:
        output: the folder to write; it need not exist.
        also: names of further files that may be written over.

    Raises:
        ConfigError: it is a file, or holds other files; or a change was cut off and cannot be finished.
    """
    versions.settle(output)
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{output} is a file; name a new folder for the model.")
    found = {path.name for path in output.iterdir()} if output.exists() else set()
    found -= _NOBODYS | {versions.PART, *(f".{name}.part" for name in FILES)}  # what an interruption left
    others = {name for name in found - {*FILES, *also} if not is_export(output / name)}  # an export is made again
    if found and not found & {CONFIG_NAME, WEIGHTS_NAME}:
        others = found  # a README, say, of something else
    if others:
        raise ConfigError(f"{output} already holds {min(others)}; name a new folder for the model.")
