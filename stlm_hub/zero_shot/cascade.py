"""Cascaded prompts for SAM, CPS: three passes of the mask decoder, each told more than the one before.

Hou et al., arXiv 2510.11028: points; points and the logits of the pass before; points, logits and the box around them.
The encoder runs once, so the passes cost 0.1 s on a processor's core.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .point_prompts import PointPrompts
from .segment import Decoded


class Decoder(Protocol):
    """A photograph that takes prompts: `segment.Embedded`."""

    def decode(
        self,
        points: np.ndarray,
        labels: np.ndarray,
        *,
        low_res: np.ndarray | None = None,
        box: np.ndarray | None = None,
        proposals: bool = False,
    ) -> Decoded:
        """See `segment.Embedded.decode`."""


@dataclass(frozen=True, eq=False)
class Cascade:
    """What the three passes found.

    Args:
        logits: three times HxW float32, above 0 inside; the last is the answer.
        predicted_iou: of the last pass, as SAM sees it.
    """

    logits: tuple[np.ndarray, ...]
    predicted_iou: float

    @property
    def mask(self) -> np.ndarray:
        """HxW bool of the last pass."""
        return self.logits[-1] > 0


def cascade(embedded: Decoder, prompts: PointPrompts, region: np.ndarray) -> Cascade:
    """Segments one region.

    Args:
        embedded: the photograph.
        prompts: at least one positive point, in pixels of it.
        region: HxW bool in its frame, the coarse mask. Of SAM's three proposals, a detail, a part or the whole, each
            pass keeps the one that overlaps it most: SAM's own favourite is nearly always the whole part.
    """
    points, labels = prompts.points, prompts.labels
    logits: list[np.ndarray] = []
    low_res = box = None
    for _ in range(3):
        found = embedded.decode(points, labels, low_res=low_res, box=box, proposals=True)
        best = max(range(len(found.logits)), key=lambda i: (overlap(found.logits[i] > 0, region), -i))
        logits.append(found.logits[best])
        quality = float(found.predicted_iou[best])
        if low_res is not None:
            box = box_around(logits[-1] > 0)
        low_res = found.low_res[best : best + 1]
    return Cascade(tuple(logits), quality)


def box_around(mask: np.ndarray) -> np.ndarray | None:
    """(left, top, right, bottom) in pixels of what is True in HxW; None where nothing is."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)


def overlap(mask: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two HxW bool masks; 0 where both are empty."""
    union = int((mask | other).sum())
    return int((mask & other).sum()) / union if union else 0.0
