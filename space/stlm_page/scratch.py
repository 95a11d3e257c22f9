"""Folders for files that are made for one visitor. They disappear after some hours, whatever became of the visitor."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from pathlib import Path

MAX_AGE = 6 * 3600.0  # seconds; the longest training takes two hours


class Scratch:
    """Makes folders below one temporary folder and removes those that are too old whenever a new one is made.

    Args:
        max_age: seconds.
    """

    def __init__(self, max_age: float = MAX_AGE) -> None:
        self.max_age = max_age
        self._root = tempfile.TemporaryDirectory(prefix="stlm-space-", ignore_cleanup_errors=True)
        self._lock = threading.Lock()

    def folder(self) -> Path:
        """A new, empty folder."""
        root = Path(self._root.name)
        with self._lock:
            for old in root.iterdir():
                if time.time() - old.stat().st_mtime > self.max_age:
                    shutil.rmtree(old, ignore_errors=True)
        return Path(tempfile.mkdtemp(dir=root))


SCRATCH = Scratch()
