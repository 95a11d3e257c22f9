"""The journal: a file with one JSON row a line. No row is lost, none is written twice.

A row counts once its line, with the newline, is on the disk. Everything else follows from the journal: which
photographs are done, what drift was detected, what a sink must still get. So no second state can disagree with it after
a kill.
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
    """A journal that is open for appending. Opening it cuts off a half-written last line.

    A journal that was made here is removed if an exception ends it before its first row, with the folders that were
    made for it: a start that is refused leaves nothing behind.

    Attributes:
        ids: of all photographs that have a row.

    Args:
        folder: is made if it is missing.

    Raises:
        DataError: the folder cannot be written, another process writes to it, or the file is no journal.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL_NAME
        try:
            self._made = [path for path in (self.path, folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = self.path.open("a+b")
        except OSError as error:
            raise DataError(f"{folder} cannot be written ({error.strerror}); name another --output.") from None
        try:
            _lock(self._file, self.path)
        except OSError:
            self._file.close()
            raise DataError(f"Another stlm watch writes to {folder}; stop it, or name another --output.") from None
        self.ids: set[str] = set()
        self._repair()

    def _repair(self) -> None:
        """Cuts off what follows the last newline, and collects the ids of all rows."""
        self._file.seek(0)
        end = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            self.ids.add(Row.from_json(line).id)
            end += len(line)
        self._file.truncate(end)
        self._file.seek(0, os.SEEK_END)

    def append(self, row: Row) -> None:
        """Writes a row, and waits until it is on the disk.

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
        if kind is not None and not self.ids:
            self._remove()
        with contextlib.suppress(OSError):  # half a row is left; `append` has raised for it
            self._file.close()

    def _remove(self) -> None:
        """Removes the file and the folders that were made for it, as long as nothing else is in them."""
        with contextlib.suppress(OSError):
            for path in self._made:
                path.unlink() if path == self.path else path.rmdir()


def read_rows(path: Path, after: int = 0) -> Iterator[tuple[int, Row]]:
    """Yields the whole rows of a journal, each with the offset in bytes of its end.

    Args:
        path: of a journal; another thread may append to it.
        after: end of the last row that is not wanted, as it was yielded; 0: all rows.
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


def _lock(file: IO[bytes], path: Path) -> None:
    """Locks the file for this process. The system unlocks it however the process ends.

    Raises:
        OSError: another process holds it, or has just removed it from this path.
    """
    try:
        import fcntl
    except ImportError:  # Windows: the file is not locked, docs/deploy.md says so
        return
    fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
        raise FileNotFoundError(path)
