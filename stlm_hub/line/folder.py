"""A folder that a camera writes to -> its photographs, each once it is complete."""

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
"""Seconds for which a file that cannot be decoded may still be on its way."""
RESCAN = 10.0
"""Seconds between two looks at the whole folder: network shares report no changes."""


class FolderSource:
    """Photographs that are in a folder, or come into it.

    Args:
        folder: with its sub-folders.
        done: ids that are judged already.
        once: end when nothing is left instead of waiting.
        bits: that photographs of 16 bits use, see `read_picture`.
        say: is told when the folder cannot be read, and when it can again.

    Raises:
        DataError: it is no folder, or watchdog is not installed.
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
        """Complete photographs, until `stopped`; each is yielded once.

        Raises:
            ImageError: the folder cannot be read, and `once` is set. Else it is waited for.
        """
        observer = self._observer()
        looks: dict[Path, tuple[int, int]] = {}  # size and time of change at the look before
        try:
            while not stopped():
                waiting = False
                listed = self._listed(stopped)
                for gone in looks.keys() - set(listed):
                    del looks[gone]
                for path in listed:
                    if stopped():
                        return
                    try:
                        status = path.stat()
                    except OSError:
                        continue  # moved away meanwhile
                    state = (status.st_size, status.st_mtime_ns)
                    name = photograph_id(path.relative_to(self.folder).as_posix(), *state)
                    if name in self.done:
                        looks.pop(path, None)
                        continue
                    # A copy may have the old time of change from its first byte on; the system knows better.
                    age = time.time() - max(status.st_mtime, status.st_ctime)
                    if looks.get(path) != state and age <= SETTLE:
                        looks[path], waiting = state, True
                        continue
                    frame = self._read(path, name)
                    if frame.error and 0 <= age < PATIENCE:
                        waiting = True
                        continue
                    if _state(path) != state:  # written to while it was read
                        waiting = True
                        continue
                    looks.pop(path, None)
                    yield frame
                if self.once and not waiting:
                    return
                self._wait(SETTLE if waiting else RESCAN, stopped)
        finally:
            if observer is not None:
                observer.stop()
                observer.join()

    def _listed(self, stopped: Callable[[], bool]) -> list[Path]:
        """The photographs that are there, once the folder can be read: a share may be away, a subfolder just moved."""
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
        """Until something happens in the folder, or so long."""
        until = time.monotonic() + seconds
        while not stopped() and time.monotonic() < until:
            try:
                self._events.get(timeout=0.2)
            except queue.Empty:
                continue
            time.sleep(0.05)  # a burst of events is one look
            while not self._events.empty():
                self._events.get_nowait()
            return


def photograph_id(name: str, *facts: int) -> str:
    """16 hex digits for a name with its size and time of change, or with its number."""
    return hashlib.sha256("\0".join([name, *map(str, facts)]).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _state(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
