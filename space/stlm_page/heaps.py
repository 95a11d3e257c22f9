"""Keeps the memory of a page flat that serves from many threads."""

from __future__ import annotations

import contextlib
import ctypes

M_ARENA_MAX = -8  # of glibc's mallopt


def share_heaps(count: int = 2) -> None:
    """Has all threads share so many of glibc's heaps; with another C library nothing happens.

    Else each thread has one of its own, which keeps what the thread once needed for a large photograph. To be called
    before there are threads.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, count)
