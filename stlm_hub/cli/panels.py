"""Panels of `stlm predict`: each has a name of its own, no panel is judged, and none takes a photograph's place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from ..drawing.mark import is_panel
from ..errors import DataError
from ..predict.images import list_images
from ..validate import expanded

LONGEST = 180
"""Bytes of a name before its suffixes; most disks take 255."""
PANEL = "_panel.png"
"""End of each name."""


class PanelNames:
    """Calls the panel of `test/crack/000.png` `crack_000_panel.png`, and that of the next one so something else.

    A panel of an earlier run is written over; any other file, a photograph that is judged above all, never is.

    Args:
        folder: that the panels are written to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._taken: set[str] = set()

    def place(self, path: Path) -> Path:
        """Where the panel of a photograph goes."""
        wanted = f"{path.parent.name}_{path.stem}" if path.parent.name else path.stem
        raw = os.fsencode(wanted)
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
        if len(raw) > LONGEST:
            wanted = f"{raw[:LONGEST].decode('utf-8', 'ignore')}_{digest}"
        name, number = f"{wanted}{PANEL}", 1
        while not self._is_free(name):
            name = f"{wanted}_{digest}{PANEL}" if number == 1 else f"{wanted}_{digest}_{number}{PANEL}"
            number += 1
        self._taken.add(name.casefold())
        return self._folder / name

    def _is_free(self, name: str) -> bool:
        place = self._folder / name
        if name.casefold() in self._taken:  # some disks take A and a for one
            return False
        return is_panel(place) or not os.path.lexists(place)


def photographs_of(given: Sequence[Path]) -> list[Path]:
    """Photographs that are named, and those in folders that are named; panels in these are no photographs.

    Raises:
        ImageError: a folder cannot be read.
    """
    return [
        path
        for place in given
        for path in (list_images(place, recursive=True) if place.is_dir() else [place])
        if path == place or not is_panel(path)
    ]


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
