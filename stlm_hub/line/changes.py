"""Files and folders below a folder that have just come or changed, as the system reports them."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from ..errors import DataError

_KINDS = (
    "FileCreatedEvent",
    "FileModifiedEvent",
    "FileAttribEvent",  # a new time of modification; watchdog 6 calls it modified
    "FileMovedEvent",
    "FileClosedEvent",
    "DirCreatedEvent",
    "DirMovedEvent",
)
"""What is reported. Who reads a file opens and closes it, too: those events would cost a look at each reading."""


class Changes:
    """Paths that have changed since they were last taken. Until `start` nothing is reported.

    Args:
        folder: to watch, with its sub-folders but not those that links lead to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock, self._new = threading.Lock(), threading.Event()
        self._paths: set[Path] = set()
        self._observer: Any = None  # watchdog's type depends on the system

    def start(self) -> None:
        """Starts the report.

        Raises:
            DataError: watchdog is not installed.
            OSError: the system reports nothing: it watches only so many folders at once.
        """
        try:
            from watchdog import events
            from watchdog.observers import Observer
        except ImportError as error:
            raise DataError(f'Watching a folder needs {error.name}: pip install "stlm_hub[line]"') from None
        real = self.folder.resolve()  # macOS reports real paths, whatever was asked for
        handler = events.FileSystemEventHandler()
        handler.on_any_event = lambda event: self._note(event, real)  # type: ignore[method-assign]
        kinds = [getattr(events, kind) for kind in _KINDS if hasattr(events, kind)]
        observer = Observer()
        observer.schedule(handler, str(real), recursive=True, event_filter=kinds)
        observer.start()
        self._observer = observer

    def _note(self, event: Any, real: Path) -> None:
        path = Path(os.fsdecode(event.dest_path or event.src_path))  # a file that was moved is where it came to
        if not path.is_relative_to(real):
            return
        with self._lock:
            self._paths.add(self.folder / path.relative_to(real))
            self._new.set()

    def wait(self, seconds: float) -> bool:
        """Waits until something has changed, at most so many seconds. Returns whether something has."""
        return self._new.wait(seconds)

    def take(self) -> set[Path]:
        """The paths that have changed since the last call."""
        with self._lock:
            taken, self._paths = self._paths, set()
            self._new.clear()
        return taken

    def stop(self) -> None:
        """Ends the report."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
