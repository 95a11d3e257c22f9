"""The output folder of `stlm score`: a plan, whole parts, and a note of each part that a worker has begun.

    _plan.json                what is judged, by which model
    part-0000012.parquet      rows of the photographs 12 x part ... 13 x part - 1
    _maps/                    their maps, if they are kept
    _attempts/                parts that a worker has begun
    .part-0000012.parquet.*   half-written, or left by a kill

A part appears whole: it is written under another name and renamed. Arrow, DuckDB and Spark pass over names that begin
with "_" or ".", so they read the folder as one table.
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
from .leftovers import hold, swept
from .places import filesystem, is_remote, local

PLAN = "_plan.json"
MAPS = "_maps"
ATTEMPTS = "_attempts"
_PART = re.compile(r"part-(\d{7,})\.parquet")


@dataclass(frozen=True)
class Plan:
    """What decides the rows of an output folder. Two runs with the same plan write the same rows.

    Args:
        input: as the user gave it.
        photographs: their number.
        paths: SHA-256 of their paths.
        model: name or folder that workers load.
        weights: SHA-256 of the files that decide its predictions.
        maps: whether maps are kept.
        part: number of photographs in one part.
        threshold, bits: as the user gave them; None: the model's own.
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
        """Number of parts; the last may be smaller."""
        return -(-self.photographs // self.part)

    def to_json(self) -> bytes:
        """What `Output.plan` reads."""
        return json.dumps(dataclasses.asdict(self), indent=1).encode()


@dataclass(frozen=True)
class Attempt:
    """What a worker notes before it begins a part, or one photograph of it.

    Args:
        run: `Job.run` of the command. A note of an earlier run proves nothing: the whole command may have been ended.
        process: id of the worker.
        at: index in the part of the photograph that is judged alone; None: the part is judged in batches.
        ended: indices of photographs that ended a worker while they were judged alone.
    """

    run: str
    process: int
    at: int | None = None
    ended: tuple[int, ...] = field(default=())


class Output:
    """An output folder on this machine or at an address.

    Args:
        place: path or address; the folder is made with the first file.

    Raises:
        DataError: the protocol is unknown, or its package is not installed.
    """

    def __init__(self, place: str) -> None:
        place = local(place)
        self.place = place if is_remote(place) else str(expanded(place).absolute())
        self._system, self._root = filesystem(self.place)
        self._made: list[str] = []  # folders that were not there before, the deepest first

    def plan(self) -> Plan | None:
        """The plan that the folder holds; None: the folder is new or empty.

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
                # Hidden files are the system's, or left by a kill while the plan was written.
                names = [name.rpartition("/")[2] for name in self._system.ls(self._root, detail=False)]
                if all(name.startswith(".") for name in names):
                    return None
                raise DataError(f"{self.place} holds something else; name a new folder for --output.")
            return Plan(**json.loads(text))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{self.place} cannot be read ({error}); name another --output.") from None

    def done(self) -> set[int]:
        """Numbers of the parts that are written."""
        self._system.invalidate_cache()  # workers wrote them
        names = [name.rpartition("/")[2] for name in self._system.ls(self._root, detail=False)]
        return {int(match[1]) for name in names if (match := _PART.fullmatch(name))}

    def read(self, name: str) -> bytes | None:
        """Contents of a file of the folder; None: there is no such file."""
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
        """Removes a file or folder of the folder, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._system.rm(self._path(name), recursive=True)

    def begin(self, plan: Plan) -> None:
        """Makes the folder of a new run and writes its plan.

        Raises:
            DataError: it cannot be written.
        """
        folder = self._root.rstrip("/")
        while "/" in folder and not self._system.exists(folder):  # a bucket has no "/": it is the user's
            self._made.append(folder)
            folder = folder.rpartition("/")[0]
        try:
            self.write(PLAN, plan.to_json())
        except DataError:
            self._remove_made()
            raise

    def used(self) -> contextlib.AbstractContextManager[None]:
        """Around a run: what killed ones have left half-written goes, see `leftovers`.

        Behind an address nobody can tell who else writes, so it stays there.
        """
        if is_remote(self.place):
            return contextlib.nullcontext()
        folder = Path(self.place)
        return swept(folder / PLAN, (folder, folder / MAPS, folder / ATTEMPTS))

    def hold(self) -> None:
        """Marks the folder as written into, until this process ends: for a worker, which may outlive its command."""
        if not is_remote(self.place):
            hold(Path(self.place) / PLAN)

    def forget(self) -> None:
        """Undoes a run that has written no part: removes all that it made, and no folder that was there before."""
        for name in (PLAN, MAPS, ATTEMPTS):
            self.remove(name)
        self._remove_made()

    def _remove_made(self) -> None:
        for folder in self._made:
            with contextlib.suppress(OSError):  # somebody has put something into it
                self._system.rmdir(folder)

    def attempt(self, number: int) -> Attempt | None:
        """The note of the last worker that began a part; None: no worker began it, or it is written."""
        text = self.read(_attempt_name(number))
        if text is None:
            return None
        data: dict[str, Any] = json.loads(text)
        return Attempt(data["run"], data["process"], data["at"], tuple(data["ended"]))

    def note(self, number: int, attempt: Attempt) -> None:
        """Notes what a worker is about to try."""
        self.write(_attempt_name(number), json.dumps(dataclasses.asdict(attempt)).encode())

    def ended(self, number: int) -> None:
        """Removes the note of a part that is written."""
        self.remove(_attempt_name(number))

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"


def part_name(number: int) -> str:
    """File name of a part, and of its maps in the folder `MAPS`."""
    return f"part-{number:07d}.parquet"


def _attempt_name(number: int) -> str:
    return f"{ATTEMPTS}/{number:07d}.json"


def _write_through(path: Path, data: bytes) -> None:
    """Writes a file and waits until it is on the disk: a power cut after the renaming leaves no empty part."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
