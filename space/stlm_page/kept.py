"""What is kept in memory for a visitor for a while: predictions to judge again, photographs to click on."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np

from stlm_hub.predict.prediction import Prediction

MAX_BYTES = 512 * 2**20
"""Of photographs and maps in memory; the oldest are dropped. A photograph of one megapixel takes 7 MB."""


class Sized(Protocol):
    """What knows how much memory it takes."""

    @property
    def bytes(self) -> int: ...


T = TypeVar("T", bound=Sized)


@dataclass(eq=False)
class Kept:
    """A prediction with the model that made it, the photograph's name without ending, and the seconds it took.

    `sharp_map` is its map with Segment Anything's edges, HxW float32, once a visitor has wanted them.
    """

    prediction: Prediction
    model: str
    title: str
    seconds: float
    sharp_map: np.ndarray | None = None
    sharpening: threading.Lock = field(default_factory=threading.Lock)  # several events may want it at once

    @property
    def bytes(self) -> int:
        sharp = 0 if self.sharp_map is None else self.sharp_map.nbytes
        return self.prediction.image.nbytes + self.prediction.anomaly_map.nbytes + sharp


class ByToken(Generic[T]):
    """Things by a token that nobody can guess.

    Args:
        max_bytes: of all of them together; the newest stays in any case.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self._kept: OrderedDict[str, T] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, kept: T, replaces: str | None = None) -> str:
        """Keeps it and returns its token. `replaces`: the visitor's one before, dropped at once."""
        token = secrets.token_urlsafe(12)
        with self._lock:
            self._kept.pop(replaces or "", None)
            self._kept[token] = kept
            while len(self._kept) > 1 and sum(each.bytes for each in self._kept.values()) > self.max_bytes:
                self._kept.popitem(last=False)
        return token

    def drop(self, token: str) -> None:
        """Forgets it."""
        with self._lock:
            self._kept.pop(token, None)

    def get(self, token: str | None) -> T | None:
        """None where it was dropped, or never was."""
        with self._lock:
            if token is None or token not in self._kept:
                return None
            self._kept.move_to_end(token)
            return self._kept[token]


KeptPredictions = ByToken[Kept]
"""Predictions that a visitor may judge again at another threshold, without running the model again."""
