"""Names of panels: different for every photograph, short enough for every disk; and where they may be written."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ..errors import DataError
from ..validate import expanded

LONGEST = 180
"""Bytes of a name; most disks take 255, and a suffix comes on top."""


class PanelNames:
    """Gives `test/crack/000.png` the name `crack_000.png`, and another one to the next that would have it."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name(self, path: Path) -> str:
        """File name of the panel of a photograph."""
        wanted = f"{path.parent.name}_{path.stem}" if path.parent.name else path.stem
        raw = os.fsencode(wanted)
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
        if len(raw) > LONGEST:
            wanted = f"{raw[:LONGEST].decode('utf-8', 'ignore')}_{digest}"
        name, number = wanted, 1
        while name.casefold() in self._taken:  # some disks take A and a for one
            name = f"{wanted}_{digest}" if number == 1 else f"{wanted}_{digest}_{number}"
            number += 1
        self._taken.add(name.casefold())
        return f"{name}.png"


def check_output(folder: Path) -> Path:
    """The folder, made and writable, before any work is done.

    Raises:
        DataError: it is a file, or cannot be written.
    """
    folder = expanded(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "is a file" if folder.is_file() else f"cannot be made ({error.strerror})"
        raise DataError(f"{folder} {reason}, so panels cannot be written; name another folder.") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DataError(f"{folder} cannot be written; name another folder.")
    return folder
