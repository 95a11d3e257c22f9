"""A lock on the working folder of a run: a second run with the same output is refused before it does any work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import ConfigError

LOCK = ".lock"


@contextmanager
def one_at_a_time(work: Path) -> Iterator[None]:
    """Locks the working folder of a run. The system unlocks it however the process ends.

    Args:
        work: folder of checkpoints, which exists.

    Raises:
        ConfigError: another run holds it, or no lock can be written there.
    """
    lock = FileLock(work / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(
            f"Another run is at work in {work}; wait until it is finished, or name another folder for the model."
        ) from None
    except OSError as error:
        raise ConfigError(f"{work} cannot be written ({error.strerror or error}); make it writable.") from None
    try:
        yield
    finally:
        lock.release()
