"""What folders, cameras and video files yield."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Frame:
    """One photograph before it is judged.

    Args:
        id: stable name, see `Row`.
        path: file, or camera or video with the number of the frame.
        image: HxWx3 uint8 RGB; None: the photograph cannot be used.
        error: a sentence that says why; None: it can be used.
        seconds: that reading took.
        notes: why it may not be what was meant, see `read_picture`.
    """

    id: str
    path: str
    image: np.ndarray | None
    error: str | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
