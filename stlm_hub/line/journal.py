"""The journal: a file of one JSON row a line, of which nothing is lost and nothing is written twice.

A row counts once its line, with its end, is on the disk. Everything else is derived from it: which photographs
are done, what drift was seen, what a sink must still get. So there is no second state that could disagree after a kill.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

from ..errors import DataError
from .row import Row

JOURNAL_NAME = "verdicts.jsonl"


class Journal:
    """Opens a journal for appending; a half-written last line is cut off.

    Args:
        folder: is made where it is missing.

    Raises:
        DataError: the folder cannot be written, another process watches into it, or the file is no journal.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL_NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = self.path.open("a+b")
        except OSError as error:
            raise DataError(f"{folder} cannot be written ({error.strerror}); name another --output.") from None
        try:
            _lock(self._file)
        except OSError:
            self._file.close()
            raise DataError(f"Another stlm watch writes to {folder}; stop it, or name another --output.") from None
        self.ids: set[str] = set()
        self.last_path: str | None = None
        self._repair()

    def _repair(self) -> None:
        """Cuts off what follows the last line's end, and learns which photographs are done."""
        self._file.seek(0)
        end = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            row = Row.from_json(line)
            self.ids.add(row.id)
            self.last_path = row.path
            end += len(line)
        self._file.truncate(end)
        self._file.seek(0, os.SEEK_END)

    def append(self, row: Row) -> None:
        """Writes a row through to the disk.

        Raises:
            DataError: the disk is full or gone.
        """
        try:
            self._file.write(row.to_json().encode("ascii") + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise DataError(
                f"{self.path} cannot be written ({error.strerror}); free the disk and start again."
            ) from None
        self.ids.add(row.id)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # half a row, of which `append` told already
            self._file.close()


def read_rows(path: Path, after: int = 0) -> Iterator[tuple[int, Row]]:
    """Whole rows of a journal, each with the offset in bytes behind it.

    Args:
        path: of a journal, to which another thread may append.
        after: offset at which to begin, as it was yielded.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(after)
        for line in file:
            if not line.endswith(b"\n"):
                return
            after += len(line)
            yield after, Row.from_json(line)


def _lock(file: IO[bytes]) -> None:
    """Takes the file for this process; the system lets go of it however the process ends. OSError: it is taken."""
    try:
        import fcntl
    except ImportError:  # Windows: the file is not locked, the guide says so
        return
    fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
