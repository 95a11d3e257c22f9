"""The one thread that networks are loaded and run in.

One network at a time has all cores: two at once take longer than one after the other. And it is always the same thread:
for each thread that computes, PyTorch starts a pool of threads, and two pools on the same cores slow each other down (a
photograph then takes 1.4 times as long on two cores).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

ON_ZERO_GPU = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "true")
"""Whether this is a Space that gets its graphics card in slices of seconds."""

_NAME = "network"
_WORKER = ThreadPoolExecutor(1, thread_name_prefix=_NAME)


def in_turn(work: Callable[[], T]) -> T:
    """Does work in that thread, first come, first served, and returns or raises what it does.

    ZeroGPU has a queue of its own and must know whose request it is: there the work is done at once.
    """
    if ON_ZERO_GPU or threading.current_thread().name.startswith(_NAME):
        return work()
    return _WORKER.submit(work).result()
