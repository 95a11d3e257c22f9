"""How many photographs are decoded, judged and drawn at once, whatever asked for it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Slots:
    """A number of slots, given out first come, first served: a batch that wants one again lines up again.

    Args:
        count: how many there are.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[threading.Event] = deque()
        self._lock = threading.Lock()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Waits for a slot, which is the block's until it ends. A block within the block would wait for itself."""
        with self._lock:
            turn = None if self._free else threading.Event()
            if turn is None:
                self._free -= 1
            else:
                self._waiting.append(turn)
        if turn is not None:
            turn.wait()
        try:
            yield
        finally:
            with self._lock:
                if self._waiting:
                    self._waiting.popleft().set()  # handed on; it was never free
                else:
                    self._free += 1


PHOTOGRAPHS = Slots(2)
"""One photograph is decoded or drawn while the network has the other. One of 40 megapixels takes 1 GB meanwhile."""
