"""Photographs of a folder that a camera writes to, each as soon as its file is complete."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError, ImageError
from ..predict.images import in_order, is_listed, list_images, read_picture
from .changes import Changes
from .source import Frame

SETTLE = 0.5
"""Seconds during which a file must not change before it is read."""
PATIENCE = 10.0
"""Seconds after its last change during which a file that cannot be decoded may be half-written."""
RESCAN = 10.0
"""Seconds after which the whole folder is listed again: network shares report no changes, and systems lose some."""

State = tuple[int, int]
"""Size in bytes and time of modification in ns of a file."""


@dataclass(frozen=True)
class Unfinished:
    """A file that may still be written.

    Args:
        state: when it was last looked at.
        since: first look at this state, in seconds of `time.monotonic`.
        again: next look, likewise.
    """

    state: State
    since: float
    again: float


class FolderSource:
    """Photographs that are in a folder or come into it.

    The whole folder is listed at the start and every `RESCAN` seconds. Between, only files are looked at that the
    system reports as changed, or that are unfinished: a look at 20,000 files takes most of a second.

    Args:
        folder: to watch, with its sub-folders.
        done: ids of photographs that have a row already. The caller adds each that it has finished.
        once: end when nothing is left instead of waiting.
        bits: that photographs of 16 bits use, see `read_picture`.
        say: called with a sentence when the folder cannot be read and when it can be read again.

    Raises:
        DataError: it is no folder.
    """

    def __init__(
        self,
        folder: Path,
        done: Collection[str],
        *,
        once: bool = False,
        bits: int | None = None,
        say: Callable[[str], None] = lambda message: None,
    ) -> None:
        if not folder.is_dir():
            raise DataError(
                f"{folder} is not a folder; pass a folder, a video file, a camera's number or an rtsp:// URL."
            )
        self.folder, self.done, self.once, self.bits, self.say = folder, done, once, bits, say
        self._changes = Changes(folder)
        self._unfinished: dict[Path, Unfinished] = {}
        self._listing_due = 0.0

    def frames(self, stopped: Callable[[], bool]) -> Iterator[Frame]:
        """Yields each photograph once, when it is complete, until `stopped` returns True.

        Raises:
            ImageError: the folder cannot be read, and `once` is set. Without `once` it is waited for.
            DataError: watchdog is not installed.
        """
        if not self.once:
            self._start()
        try:
            while not stopped():
                for path in self._next(stopped):
                    if stopped():
                        return
                    frame = self._complete(path)
                    if frame is not None:
                        yield frame
                if self.once and not self._unfinished:
                    return
                self._wait(stopped)
        finally:
            self._changes.stop()

    def _start(self) -> None:
        """Has the system report changes: before the first listing, so that none falls between the two."""
        try:
            self._changes.start()
        except OSError as error:
            self.say(f"{self.folder} reports no changes ({error.strerror}); it is looked at every {RESCAN:.0f} s.")

    def _next(self, stopped: Callable[[], bool]) -> list[Path]:
        """The photographs to look at now, in natural order: all of the folder where that is due, or what may be new."""
        now = time.monotonic()
        changed = self._changes.take()
        if self.once or now >= self._listing_due:
            listed = self._listed(stopped)
            self._listing_due = time.monotonic() + RESCAN
            for gone in self._unfinished.keys() - set(listed):
                del self._unfinished[gone]
            return listed
        found = {path for each in changed for path in _files(each) if is_listed(path, self.folder)}
        found.update(path for path, unfinished in self._unfinished.items() if unfinished.again <= now)
        return in_order(found, self.folder)

    def _complete(self, path: Path) -> Frame | None:
        """A photograph if it is new and complete. One that may not be complete is unfinished and looked at again."""
        before = self._unfinished.pop(path, None)
        try:
            status = path.stat()
        except OSError:
            return None  # moved away meanwhile
        if not stat.S_ISREG(status.st_mode):
            return None
        state = (status.st_size, status.st_mtime_ns)
        name = photograph_id(path.relative_to(self.folder).as_posix(), *state)
        if name in self.done:
            return None
        now = time.monotonic()
        since = before.since if before is not None and before.state == state else now
        # A copy may carry the original's time of modification from its first byte on; st_ctime is its own.
        age = time.time() - max(status.st_mtime, status.st_ctime)
        if age > SETTLE or now - since >= SETTLE:  # the clock of a network share may be ahead
            frame = self._read(path, name)
            half_written = frame.error is not None and 0 <= age < PATIENCE
            if not half_written and _state(path) == state:
                return frame
        self._unfinished[path] = Unfinished(state, since, time.monotonic() + SETTLE)
        return None

    def _listed(self, stopped: Callable[[], bool]) -> list[Path]:
        """The photographs of the folder. Waits while it cannot be read: a share may be away, a subfolder just moved."""
        lost = False
        while not stopped():
            try:
                found = list_images(self.folder, recursive=True)
            except ImageError as error:
                if self.once:
                    raise
                if not lost:
                    self.say(f"{error} It is looked at again until it can be.")
                    lost = True
                _pause(SETTLE, stopped)
                continue
            if lost:
                self.say(f"The folder {self.folder} can be read again.")
            return found
        return []

    def _read(self, path: Path, name: str) -> Frame:
        started = time.perf_counter()
        try:
            picture = read_picture(path, bits=self.bits)
        except ImageError as caught:
            return Frame(name, str(path), None, str(caught), time.perf_counter() - started)
        return Frame(name, str(path), picture.image, None, time.perf_counter() - started, picture.notes)

    def _wait(self, stopped: Callable[[], bool]) -> None:
        """Waits until something changes in the folder, an unfinished file is due or the whole folder is."""
        until = min([self._listing_due, *(unfinished.again for unfinished in self._unfinished.values())])
        while not stopped() and (left := until - time.monotonic()) > 0:
            if self._changes.wait(min(left, 0.2)):
                time.sleep(0.05)  # takes a burst of events together
                return


def _files(path: Path) -> Iterator[Path]:
    """A file itself; all files of a folder, which came with what it holds.

    Links to folders are not followed: a photograph that is listed already would get a second name.
    """
    try:
        came_as_folder = stat.S_ISDIR(path.lstat().st_mode)
    except OSError:  # gone, or a share that does not answer
        return
    if not came_as_folder:
        yield path
        return
    for folder, _, names in os.walk(path):
        yield from (Path(folder, name) for name in names)


def _pause(seconds: float, stopped: Callable[[], bool]) -> None:
    """Sleeps for so many seconds, or until `stopped` returns True."""
    until = time.monotonic() + seconds
    while not stopped() and time.monotonic() < until:
        time.sleep(0.1)


def photograph_id(name: str, *facts: int) -> str:
    """The stable id of a photograph: 16 hex digits.

    Args:
        name: of the file or camera.
        facts: size and time of modification of a file; number of a frame, with what tells its source apart.
    """
    return hashlib.sha256("\0".join([name, *map(str, facts)]).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _state(path: Path) -> State | None:
    """The state of a file now; None: it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
