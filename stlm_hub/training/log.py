"""The log of a training, `log.jsonl`: one line of JSON for each step, written so that a kill loses none."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from ..errors import StorageError

Record = dict[str, float]
"""One step: its number "step", its losses by name, "learning_rate" and "seconds"."""


def read_log(path: Path) -> list[Record]:
    """The complete records of a log; none if there is no file."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:  # a kill cut this line off; its step is repeated
            break
    return records


class LogFile:
    """Context that appends records to a log. On entering, the file is rewritten with the records of finished steps.

    Args:
        path: of the file.
        records: of the steps that are done.
        active: False writes nothing, for the further processes of a distributed training.

    Raises:
        StorageError: the file cannot be written.
    """

    def __init__(self, path: Path, records: list[Record], active: bool = True) -> None:
        self.path, self.records, self.active = path, list(records), active

    def __enter__(self) -> Callable[[Record], None]:
        if not self.active:
            return lambda record: None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part = self.path.with_name(f".{self.path.name}.part")  # a kill must not leave less than there was
            part.write_text("".join(json.dumps(record) + "\n" for record in self.records))
            part.replace(self.path)
            self.file = self.path.open("a")
        except OSError as error:
            raise self._unwritable(error) from error
        return self._write

    def _write(self, record: Record) -> None:
        try:
            self.file.write(json.dumps(record) + "\n")
            self.file.flush()
            os.fsync(self.file.fileno())  # a checkpoint must never be ahead of its log
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> StorageError:
        reason = error.strerror or error
        return StorageError(
            f"{self.path} cannot be written ({reason}); make room there and give the same command again."
        )

    def __exit__(self, *_: object) -> None:
        if self.active:
            self.file.close()
