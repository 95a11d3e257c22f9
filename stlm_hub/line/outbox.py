"""Delivery of the journal's rows to a receiver that may be away: each row at least once, in order."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ..errors import DataError
from ..predict.printable import reason
from .journal import JOURNAL_NAME, read_rows
from .row import Row

FIRST_RETRY, LAST_RETRY = 1.0, 60.0
"""Seconds between two tries: doubled after each failure, up to the second number."""


class Sender(Protocol):
    """The connection to a receiver of rows."""

    name: str

    def send(self, row: Row) -> None:
        """Returns once the receiver has the row.

        Raises:
            OSError: it has not.
        """

    def close(self) -> None:
        """Ends the connection."""


class Outbox:
    """A thread that delivers rows. The offset of the last delivered row is kept in a file beside the journal.

    A kill after the receiver's answer and before that file is written repeats one row. Receivers therefore drop ids
    that they have already.

    Args:
        folder: of the journal.
        sender: that delivers rows.
        say: called with a sentence when rows do not reach the receiver, and when all have.

    Raises:
        DataError: the file with the offset is damaged.
    """

    def __init__(self, folder: Path, sender: Sender, say: Callable[[str], None]) -> None:
        self.journal, self.sender, self.say = folder / JOURNAL_NAME, sender, say
        self.place = folder / f"{sender.name}.delivered"
        self.offset = _offset(self.place, self.journal)
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=sender.name, daemon=True)

    def start(self) -> None:
        """Starts the thread: first it delivers rows that wait since the last run, then new ones."""
        self._thread.start()

    def wake(self) -> None:
        """Tells the thread that the journal has a new row."""
        self._wake.set()

    def stop(self, seconds: float = 5.0) -> bool:
        """Ends the thread. What is not delivered in time is delivered by the next run.

        Args:
            seconds: to wait for rows that are not delivered yet.

        Returns:
            Whether all rows are delivered.
        """
        self._stop.set()
        self._wake.set()
        self._thread.join(seconds)
        self.sender.close()
        return not self._thread.is_alive() and self.offset == self.journal.stat().st_size

    def _run(self) -> None:
        while True:
            self._wake.clear()  # first: a stop that comes after it wakes again
            last = self._stop.is_set()
            if not self._deliver() or last:
                return
            self._wake.wait()

    def _deliver(self) -> bool:
        """Sends all rows that wait, however often that must be tried. False: the outbox was stopped first."""
        pause, lost = FIRST_RETRY, False
        while True:
            try:
                for offset, row in read_rows(self.journal, self.offset):
                    self.sender.send(row)
                    self._delivered_to(offset)
                    pause = FIRST_RETRY
                if lost:
                    self.say(f"The rows that waited have reached {self.sender.name}.")
                return True
            except Exception as error:  # whatever it is: without this thread no row would be delivered any more
                if not lost:
                    self.say(f"Rows do not reach {self.sender.name} ({reason(error)}); they wait and are sent again.")
                    lost = True
            if self._stop.wait(pause):
                return False
            pause = min(LAST_RETRY, 2 * pause)

    def _delivered_to(self, offset: int) -> None:
        """Notes that the receiver has the rows up to this offset in bytes."""
        self.offset = offset
        with contextlib.suppress(OSError):  # the journal reports a full disk; the row may be sent twice
            _keep(self.place, offset)


def _offset(place: Path, journal: Path) -> int:
    """The offset in bytes of the journal up to which rows are delivered.

    0 without a file, and if no row ends at the offset: the journal is then another one.

    Raises:
        DataError: the file with the offset is damaged.
    """
    try:
        offset = int(place.read_text()) if place.exists() else 0
        if offset == 0:
            return 0
        with journal.open("rb") as file:
            file.seek(offset - 1)
            return offset if file.read(1) == b"\n" else 0
    except (OSError, ValueError):
        raise DataError(f"{place} is damaged; remove it, and all rows are delivered again.") from None


def _keep(place: Path, offset: int) -> None:
    """Replaces the file with the offset, whole or not at all."""
    new = place.with_suffix(".new")
    new.write_text(str(offset))
    new.replace(place)
