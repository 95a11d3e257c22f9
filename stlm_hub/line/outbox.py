"""Rows of the journal -> a receiver that may be away: each at least once, in order, from where it was before."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ..errors import DataError
from .journal import JOURNAL_NAME, read_rows
from .row import Row

FIRST_RETRY, LAST_RETRY = 1.0, 60.0
"""Seconds between two tries: doubled each time."""


class Sender(Protocol):
    """Gives rows to a receiver."""

    name: str

    def send(self, row: Row) -> None:
        """Returns once the receiver has the row; raises OSError where it has not."""

    def close(self) -> None:
        """Lets go of the connection."""


class Outbox:
    """A thread that delivers. How far it came is kept in a file that is replaced after each row.

    A kill between the receiver's answer and that file repeats one row, so receivers drop ids that they have seen.

    Args:
        folder: of the journal.
        sender: where rows go.
        say: is told when the receiver is lost and found.
    """

    def __init__(self, folder: Path, sender: Sender, say: Callable[[str], None]) -> None:
        self.journal, self.sender, self.say = folder / JOURNAL_NAME, sender, say
        self.place = folder / f"{sender.name}.delivered"
        self.offset = _offset(self.place, self.journal)
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=sender.name, daemon=True)

    def start(self) -> None:
        """Delivers what waits since the last time, then what comes."""
        self._thread.start()

    def wake(self) -> None:
        """The journal has a new row."""
        self._wake.set()

    def stop(self, seconds: float = 5.0) -> bool:
        """Gives what waits this long to be delivered, then ends; the rest is delivered at the next start. All done?"""
        self._stop.set()
        self._wake.set()
        self._thread.join(seconds)
        self.sender.close()
        return not self._thread.is_alive() and self.offset == self.journal.stat().st_size

    def _run(self) -> None:
        while True:
            self._wake.clear()  # first: a stop that comes after it wakes again
            last = self._stop.is_set()
            for offset, row in read_rows(self.journal, self.offset):
                if not self._deliver(row):
                    return
                self.offset = offset
                with contextlib.suppress(OSError):  # a full disk, which the journal tells of; the row comes twice
                    _keep(self.place, offset)
            if last:
                return
            self._wake.wait()

    def _deliver(self, row: Row) -> bool:
        pause, lost = FIRST_RETRY, False
        while True:
            try:
                self.sender.send(row)
            except OSError as error:
                if not lost:
                    self.say(f"{self.sender.name} does not take rows ({error}); they wait and are sent again.")
                    lost = True
                if self._stop.wait(pause):
                    return False
                pause = min(LAST_RETRY, 2 * pause)
                continue
            if lost:
                self.say(f"{self.sender.name} takes rows again.")
            return True


def _offset(place: Path, journal: Path) -> int:
    """How far the receiver is: 0 at first, and where no row of the journal ends there, as it was begun anew.

    Raises:
        DataError: the file that says so is damaged.
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
    new = place.with_suffix(".new")
    new.write_text(str(offset))
    new.replace(place)
