"""Predictions that a visitor may judge again at another threshold, without running the model again."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass

from stlm_hub.predict.prediction import Prediction

MAX_BYTES = 512 * 2**20
"""Of photographs and maps in memory; the oldest are dropped. A photograph of one megapixel takes 7 MB."""


@dataclass(frozen=True)
class Kept:
    """A prediction with the model that made it, the photograph's name without ending, and the seconds it took."""

    prediction: Prediction
    model: str
    title: str
    seconds: float

    @property
    def bytes(self) -> int:
        return self.prediction.image.nbytes + self.prediction.anomaly_map.nbytes


class KeptPredictions:
    """Predictions by a token that nobody can guess.

    Args:
        max_bytes: of all of them together; the newest stays in any case.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, kept: Kept, replaces: str | None = None) -> str:
        """Keeps a prediction and returns its token. `replaces`: the visitor's one before, dropped at once."""
        token = secrets.token_urlsafe(12)
        with self._lock:
            self._kept.pop(replaces or "", None)
            self._kept[token] = kept
            while len(self._kept) > 1 and sum(each.bytes for each in self._kept.values()) > self.max_bytes:
                self._kept.popitem(last=False)
        return token

    def drop(self, token: str) -> None:
        """Forgets a prediction."""
        with self._lock:
            self._kept.pop(token, None)

    def get(self, token: str | None) -> Kept | None:
        """None where it was dropped, or never was."""
        with self._lock:
            if token is None or token not in self._kept:
                return None
            self._kept.move_to_end(token)
            return self._kept[token]
