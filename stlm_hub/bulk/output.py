"""The folder that rows go to: a plan, whole parts, and notes of what a worker is at.

    _plan.json                what is judged, by which model
    part-0000012.parquet      rows of the photographs 12 x part ... 13 x part - 1
    _maps/                    their maps, where they are wanted
    _attempts/                parts that a worker has begun

A part appears whole: it is written under another name and renamed. What begins with "_" or "." is passed over by Arrow,
DuckDB and Spark, so the folder reads as one table.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..validate import expanded
from .places import filesystem, is_remote, local

PLAN = "_plan.json"
MAPS = "_maps"
ATTEMPTS = "_attempts"
_PART = re.compile(r"part-(\d{7,})\.parquet")


@dataclass(frozen=True)
class Plan:
    """What an output folder is of. Two runs with one plan write the same rows.

    Args:
        input: as it was given.
        photographs: how many there are.
        paths: SHA-256 of their paths.
        model: as it was given.
        weights: SHA-256 of the files that decide its predictions.
        maps: whether maps are kept.
        part: photographs of one part.
        threshold, bits: as they were given; None: the model's.
    """

    input: str
    photographs: int
    paths: str
    model: str
    weights: str
    maps: bool
    part: int
    threshold: float | None = None
    bits: int | None = None

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return -(-self.photographs // self.part)

    def to_json(self) -> bytes:
        """What `Output.plan` reads."""
        return json.dumps(dataclasses.asdict(self), indent=1).encode()


@dataclass(frozen=True)
class Attempt:
    """What a worker wrote down before it began.

    Args:
        run: of which command; that an earlier one was ended says nothing of its photographs.
        process: id of the worker.
        at: number in its part of the photograph that it judges alone; None: it judges all in batches.
        ended: numbers of photographs that ended a worker which judged them alone.
    """

    run: str
    process: int
    at: int | None = None
    ended: tuple[int, ...] = field(default=())


class Output:
    """A folder here or behind an address.

    Args:
        place: path or address; it is made with the first file.

    Raises:
        DataError: nobody knows the protocol, or its package is missing.
    """

    def __init__(self, place: str) -> None:
        place = local(place)
        self.place = place if is_remote(place) else str(expanded(place).absolute())
        self._system, self._root = filesystem(self.place)

    def plan(self) -> Plan | None:
        """The plan of what is there; None: the folder is new or empty.

        Raises:
            DataError: it is a file, holds something else, or cannot be read.
        """
        try:
            if self._system.isfile(self._root):
                raise DataError(f"{self.place} is a file; name a folder for --output.")
            if not self._system.exists(self._root):
                return None
            text = self.read(PLAN)
            if text is None:
                # Hidden ones are of the system, or what a kill left while the plan was written.
                names = [name.rpartition("/")[2] for name in self._system.ls(self._root, detail=False)]
                if all(name.startswith(".") for name in names):
                    return None
                raise DataError(f"{self.place} holds something else; name a new folder for --output.")
            return Plan(**json.loads(text))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{self.place} cannot be read ({error}); name another --output.") from None

    def done(self) -> set[int]:
        """Numbers of the parts that are whole."""
        self._system.invalidate_cache()  # workers wrote them
        names = [name.rpartition("/")[2] for name in self._system.ls(self._root, detail=False)]
        return {int(found[1]) for name in names if (found := _PART.fullmatch(name))}

    def read(self, name: str) -> bytes | None:
        """Contents of a file; None where there is none."""
        try:
            return bytes(self._system.cat_file(self._path(name)))
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Writes a file whole or not at all.

        Raises:
            DataError: it cannot be written.
        """
        folder, _, last = self._path(name).rpartition("/")
        part = f"{folder}/.{last}.{uuid.uuid4().hex}"
        try:
            self._system.makedirs(folder, exist_ok=True)
            if is_remote(self.place):
                self._system.pipe_file(part, data)
                self._system.mv(part, f"{folder}/{last}")
            else:
                _write_through(Path(part), data)
                Path(part).replace(f"{folder}/{last}")
        except OSError as error:
            with contextlib.suppress(OSError):
                self._system.rm_file(part)
            reason = error.strerror or error
            raise DataError(f"{self.place} cannot be written ({reason}); make room there or name another.") from None

    def remove(self, name: str) -> None:
        """Removes a file or folder that may be gone already."""
        with contextlib.suppress(FileNotFoundError):
            self._system.rm(self._path(name), recursive=True)

    def forget(self) -> None:
        """Takes everything back, before any part is whole: the folder is as it was."""
        for name in (PLAN, MAPS, ATTEMPTS):
            self.remove(name)
        with contextlib.suppress(OSError):
            self._system.rmdir(self._root)

    def attempt(self, number: int) -> Attempt | None:
        """What the last worker wrote down that began a part and did not end it."""
        text = self.read(_attempt_name(number))
        if text is None:
            return None
        data: dict[str, Any] = json.loads(text)
        return Attempt(data["run"], data["process"], data["at"], tuple(data["ended"]))

    def note(self, number: int, attempt: Attempt) -> None:
        """Writes down what is about to be tried."""
        self.write(_attempt_name(number), json.dumps(dataclasses.asdict(attempt)).encode())

    def ended(self, number: int) -> None:
        """The part is whole; its notes go."""
        self.remove(_attempt_name(number))

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"


def part_name(number: int) -> str:
    """File name of a part; of its maps in `MAPS`."""
    return f"part-{number:07d}.parquet"


def _attempt_name(number: int) -> str:
    return f"{ATTEMPTS}/{number:07d}.json"


def _write_through(path: Path, data: bytes) -> None:
    """To the disk, so that a power cut after the renaming leaves no empty part."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
