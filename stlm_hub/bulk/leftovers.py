"""Half-written files that a kill leaves in an output folder of this machine, and when they may be removed.

Each process that writes into a folder, a command or one of its workers, holds the folder's plan with a lock that others
may share. The system lets go of it however the process ends. Who gets the plan alone knows that nobody is writing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

HALF_WRITTEN = re.compile(r"\.(_plan\.json|part-\d{7,}\.parquet|\d{7,}\.json)\.[0-9a-f]{32}")
"""Names of files that `Output.write` has begun and not renamed yet."""


@contextmanager
def swept(plan: Path, folders: Sequence[Path]) -> Iterator[None]:
    """Around a run: half-written files are removed before and after it, if no other process writes there.

    Args:
        plan: file that all who write hold; where it cannot be held, nothing is removed.
        folders: to remove files from; they need not be there.
    """
    handle = hold(plan)
    if handle is None:
        yield
        return
    try:
        _sweep_if_alone(handle, folders)
        yield
    finally:
        _sweep_if_alone(handle, folders)
        os.close(handle)


def hold(plan: Path) -> int | None:
    """Keeps others from removing half-written files, until the handle is closed or this process ends.

    Returns:
        The handle; None: there is no such file, it may not be written, or the system has no such locks (Windows, some
        network shares).
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        handle = os.open(plan, os.O_RDWR)  # for a lock of one alone NFS wants a file that is open for writing
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
    except OSError:
        os.close(handle)
        return None
    return handle


def _sweep_if_alone(handle: int, folders: Sequence[Path]) -> None:
    """Removes what is half-written, if no other process holds the plan. `handle` holds it afterwards, too."""
    import fcntl

    with suppress(OSError):  # another process holds it
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for folder in folders:
            _sweep(folder)
    with suppress(OSError):  # where the first call fails, its lock is lost
        fcntl.flock(handle, fcntl.LOCK_SH)


def _sweep(folder: Path) -> None:
    """Removes the half-written files of one folder; what has another name, or is no file, stays."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if HALF_WRITTEN.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    Path(entry.path).unlink()
