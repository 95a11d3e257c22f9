"""Files and folders that appear whole or not at all, and what a kill leaves of them."""

from __future__ import annotations

import os
import shutil
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

PATIENCE = 60.0
"""Seconds to wait for another process that is changing the same folder; a change takes a fraction of one."""


def replace_file(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all. OSError: it cannot be written; nothing of it is left then."""
    name = path.name if len(path.name) <= 40 else f"{path.name[:40]}-{zlib.crc32(os.fsencode(path.name)):08x}"
    part = path.with_name(f".{name}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink()
        raise


@contextmanager
def made_beside(output: Path) -> Iterator[Path]:
    """An empty folder beside `output` to make it in; it goes afterwards.

    A killed process leaves its folder. The next one with the same `output` removes it, but none of a live process.

    Raises:
        OSError: the folder cannot be made.
    """
    start = f".{output.name}.making-"
    if os.name == "posix":  # elsewhere nobody can tell whether its process lives
        for left in output.parent.glob(f"{_literal(start)}*"):
            _remove_unless_held(left)
    made, handle = _made_and_held(start, output.parent)
    try:
        inner = made / "new"  # what is made in it may be held by whoever writes it
        inner.mkdir()
        yield inner
    finally:
        shutil.rmtree(made, ignore_errors=True)
        if handle is not None:
            os.close(handle)


@contextmanager
def held(folder: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Holds a folder against other processes and threads that hold it; the system lets go of it when one is killed.

    No file is made for it. Where the system cannot hold a folder (Windows, some network shares), nothing is held.

    Raises:
        TimeoutError: another one holds it for longer than `patience` in seconds.
    """
    handle = _hold(folder, patience)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _hold(folder: Path, patience: float) -> int | None:
    """A handle that holds the folder until it is closed; None: the system cannot."""
    try:
        import fcntl
    except ImportError:
        return None
    handle = os.open(folder, os.O_RDONLY)
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except BlockingIOError:
            if time.monotonic() >= until:
                os.close(handle)
                raise TimeoutError(f"another process holds {folder}") from None
            time.sleep(0.02)
        except OSError:
            os.close(handle)
            return None


def _made_and_held(start: str, parent: Path) -> tuple[Path, int | None]:
    while True:
        made = Path(mkdtemp(prefix=start, dir=parent))
        with suppress(FileNotFoundError):  # another process took it for a killed one's before it was held
            handle = _hold(made, PATIENCE)
            if made.exists():
                return made, handle
            if handle is not None:
                os.close(handle)


def _remove_unless_held(folder: Path) -> None:
    with suppress(OSError), held(folder, 0):
        shutil.rmtree(folder, ignore_errors=True)


def _literal(text: str) -> str:
    """A text for `glob` that stands for itself."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in text)
