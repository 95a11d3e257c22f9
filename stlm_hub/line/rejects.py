"""Pictures of rejects, in a folder of limited size: the oldest are deleted first."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import DataError
from ..predict.prediction import Prediction
from ..validate import expanded

_OWN = re.compile(r"reject_[0-9a-f]{16}\.jpg")
"""File names of kept rejects. Other pictures in the folder are neither counted nor deleted."""


class Rejects:
    """The folder of kept rejects, which `open` makes.

    Args:
        folder: what else it holds is left alone.
        most_bytes: limit of all kept pictures together. The newest one stays even if it is larger.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder, self.most_bytes = expanded(folder), most_bytes
        self._sizes: dict[Path, int] = {}

    def open(self) -> None:
        """Makes the folder if it is missing, and deletes what is above the limit.

        Raises:
            DataError: it cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{self.folder} cannot be written ({error.strerror}); name another folder.") from None
        own = [path for path in self.folder.iterdir() if _OWN.fullmatch(path.name) and path.is_file()]
        self._sizes = {path: path.stat().st_size for path in sorted(own, key=_age)}
        self._trim()

    def keep(self, name: str, prediction: Prediction) -> Path:
        """Writes the panel of a reject, over an earlier one with the same id.

        Args:
            name: id of the photograph, 16 hex digits.
            prediction: to draw.

        Returns:
            Path of the picture.

        Raises:
            ImageError: it cannot be written.
        """
        path = self.folder / f"reject_{name}.jpg"
        prediction.save(path)
        self._sizes.pop(path, None)
        self._sizes[path] = path.stat().st_size
        self._trim()
        return path

    def _trim(self) -> None:
        """Deletes the oldest pictures until the others are within the limit."""
        total = sum(self._sizes.values())
        while total > self.most_bytes and len(self._sizes) > 1:
            oldest = next(iter(self._sizes))
            total -= self._sizes.pop(oldest)
            oldest.unlink(missing_ok=True)


def _age(path: Path) -> int:
    return path.stat().st_mtime_ns
