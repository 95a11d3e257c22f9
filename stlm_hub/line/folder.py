"""Photographs of a folder that a camera writes to, each as soon as its file is complete."""

from __future__ import annotations

import hashlib
import queue
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from ..errors import DataError, ImageError
from ..predict.images import list_images, read_picture
from .source import Frame

SETTLE = 0.5
"""Seconds during which a file must not change before it is read."""
PATIENCE = 10.0
"""Seconds after its last change during which a file that cannot be decoded may be half-written."""
RESCAN = 10.0
"""Seconds after which the folder is listed again without a report of changes: network shares send none."""


State = tuple[int, int]
"""Size in bytes and time of modification in ns of a file."""


class FolderSource:
    """Photographs that are in a folder or come into it.

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
        self._events: queue.Queue[None] = queue.Queue()

    def frames(self, stopped: Callable[[], bool]) -> Iterator[Frame]:
        """Yields each photograph once, when it is complete, until `stopped` returns True.

        Raises:
            ImageError: the folder cannot be read, and `once` is set. Without `once` it is waited for.
            DataError: watchdog is not installed.
        """
        observer = self._observer()
        unsettled: dict[Path, State] = {}
        try:
            while not stopped():
                waiting = False
                listed = self._listed(stopped)
                for gone in unsettled.keys() - set(listed):
                    del unsettled[gone]
                for path in listed:
                    if stopped():
                        return
                    frame, incomplete = self._complete(path, unsettled)
                    waiting |= incomplete
                    if frame is not None:
                        yield frame
                if self.once and not waiting:
                    return
                self._wait(SETTLE if waiting else RESCAN, stopped)
        finally:
            if observer is not None:
                observer.stop()
                observer.join()

    def _complete(self, path: Path, unsettled: dict[Path, State]) -> tuple[Frame | None, bool]:
        """A photograph if it is new and complete, and whether it must be looked at again.

        Args:
            path: of the file.
            unsettled: state of each incomplete file when it was last looked at; it is brought up to date.
        """
        try:
            status = path.stat()
        except OSError:
            return None, False  # moved away meanwhile
        state = (status.st_size, status.st_mtime_ns)
        name = photograph_id(path.relative_to(self.folder).as_posix(), *state)
        if name in self.done:
            unsettled.pop(path, None)
            return None, False
        # A copy may carry the original's time of modification from its first byte on; st_ctime is its own.
        age = time.time() - max(status.st_mtime, status.st_ctime)
        if unsettled.get(path) != state and age <= SETTLE:
            unsettled[path] = state
            return None, True
        frame = self._read(path, name)
        half_written = frame.error is not None and 0 <= age < PATIENCE
        if half_written or _state(path) != state:
            return None, True
        unsettled.pop(path, None)
        return frame, False

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
                self._wait(SETTLE, stopped)
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

    def _observer(self) -> Any:  # watchdog's type depends on the system
        if self.once:
            return None
        try:
            from watchdog.events import FileSystemEventHandler
            from watchdog.observers import Observer
        except ImportError as error:
            raise DataError(f'Watching a folder needs {error.name}: pip install "stlm_hub[line]"') from None
        handler = FileSystemEventHandler()
        handler.on_any_event = lambda event: self._events.put(None)  # type: ignore[method-assign]
        observer = Observer()
        observer.schedule(handler, str(self.folder), recursive=True)
        try:
            observer.start()
        except OSError as error:  # a system watches only so many folders at once
            self.say(f"{self.folder} reports no changes ({error.strerror}); it is looked at every {RESCAN:.0f} s.")
            return None
        return observer

    def _wait(self, seconds: float, stopped: Callable[[], bool]) -> None:
        """Waits until something changes in the folder, at most so many seconds."""
        until = time.monotonic() + seconds
        while not stopped() and time.monotonic() < until:
            try:
                self._events.get(timeout=0.2)
            except queue.Empty:
                continue
            time.sleep(0.05)  # takes a burst of events together
            while not self._events.empty():
                self._events.get_nowait()
            return


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
