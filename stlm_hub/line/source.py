"""What folders, cameras and video files have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Frame:
    """One photograph before it is judged.

    Args:
        id: stable name, see `Row`.
        path: what people call it.
        image: HxWx3 uint8 RGB; None where it cannot be used.
        error: the sentence that says why.
        seconds: that reading took.
        notes: on what may make it other than it was meant, see `read_picture`.
    """

    id: str
    path: str
    image: np.ndarray | None
    error: str | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
