"""Changes of a model folder that are made whole or not at all, and the versions before them.

A change is prepared apart from the folder's files. The rename that makes it the folder's `.next` is the moment at which
it counts; whoever opens the folder afterwards first moves its files into place. So a folder never loads as a mixture of
two models, wherever a process is killed. What `change` replaced and what `add` kept are the numbered steps of
`<folder>.history`; `undo` takes the newest back.
"""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from ..errors import ConfigError, STLMError
from ..files.whole import held
from .names import DECIDING, FILES, PLOTS

T = TypeVar("T")
Stamp = list[tuple[str, int, int]]

NEXT = ".next"
PART = ".next.part"
"""A replacement that does not count yet. The name is fixed, so that the next one clears what a kill left."""

READINGS = 10
"""Times that a folder is read while it changes. A change takes longer to prepare than a folder to read."""

_REMOVED = ".removed"  # in `.next` and in earlier versions: names of the files that go, one a line
_ADDED = "added"  # in a step of the history: the files that `add` kept, where it replaced none
_STEP = "part"  # a step of the history that does not count yet, or no longer


def history_of(folder: Path) -> Path:
    """Where the steps are that led to a folder as it is."""
    return folder.with_name(f"{folder.name}.history")


def settle(folder: Path) -> None:
    """Finishes a change that was cut off after it counted.

    Raises:
        ConfigError: the folder cannot be written.
    """
    if (folder / NEXT).is_dir():
        with _alone(folder):
            _settle(folder)


def read_one_version(folder: Path, read: Callable[[], T]) -> T:
    """What `read` finds in a folder that another process may be changing: files of one version.

    Raises:
        ConfigError: the folder changes each time that it is read.
    """
    for _ in range(READINGS):
        settle(folder)
        before = stamp(folder)
        try:
            found = read()
        except STLMError:
            if stamp(folder) == before:
                raise
        else:
            if stamp(folder) == before:
                return found
    raise ConfigError(f"{folder} is being changed all the time; wait until that ends, then load it again.")


def stamp(folder: Path) -> Stamp:
    """What differs between two states of the files that decide; a change that counts already is one, too."""
    found = []
    for name in (NEXT, *DECIDING):
        with suppress(OSError):
            status = (folder / name).stat()
            found.append((name, status.st_ino, status.st_mtime_ns))
    return found


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Only one process at a time changes a folder.

    Raises:
        ConfigError: another one does not let go of it.
    """
    try:
        with held(folder):
            yield
    except TimeoutError:
        raise ConfigError(f"Another process is changing {folder}; wait until it is finished.") from None


def _settle(folder: Path) -> None:
    following = folder / NEXT
    if not following.is_dir():
        return
    removed = following / _REMOVED
    try:
        for name in _removed_by(following):
            (folder / name).unlink(missing_ok=True)
        for file in sorted(following.iterdir()):
            if file.name != _REMOVED:
                with suppress(FileNotFoundError):  # another process finishes the same change
                    file.replace(folder / file.name)
        removed.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            following.rmdir()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"A change of {folder} was cut off and cannot be finished ({reason}); make the folder writable."
        ) from error


def replace(folder: Path, write: Callable[[Path], None], *, whole: bool) -> None:
    """Writes files of a model folder, all of them or none; nothing earlier is kept, and nothing can be taken back.

    What `add` kept stays: a known defect is one of the next model, too.

    Args:
        folder: it is made where needed.
        write: writes the new files into an empty folder. What it raises leaves everything as it was.
        whole: whether files of an earlier model that are not among the new ones go.

    Raises:
        ConfigError: the folder cannot be written, or the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            _settle(folder)
            with _prepared(folder / PART) as part:
                write(part)
                if whole:
                    new = {file.name for file in part.iterdir()}
                    gone = sorted({*FILES, *PLOTS} - new)
                    _note_removed(part, gone)
                for step in _steps(folder):
                    if not (step / _ADDED).is_dir():  # files of the earlier model: beside new ones they are no model
                        _drop(step)
                part.rename(folder / NEXT)
            _settle(folder)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"{folder} cannot be written ({reason}); free space, or name another folder.") from error


def change(folder: Path, write: Callable[[Path], None], *, since: Stamp | None = None) -> None:
    """Replaces some files of a model folder; the earlier ones are kept.

    Args:
        folder: of a model.
        write: writes the new files into an empty folder. What it raises leaves everything as it was.
        since: `stamp` of the folder that the new files follow from; None: of no earlier ones.

    Raises:
        ConfigError: the folder or its history cannot be written, or it was changed since.
    """
    try:
        with _alone(folder):
            _settle(folder)
            if since not in (None, stamp(folder)):
                raise ConfigError(f"Another process has changed {folder} meanwhile; give the command again.")
            with _prepared(folder / PART) as part:
                write(part)
                _keep(folder, [file.name for file in part.iterdir()])
                part.rename(folder / NEXT)
            _settle(folder)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be changed ({error.strerror}); make it and its folder writable.") from error


def add(folder: Path, write: Callable[[Path], None]) -> None:
    """Keeps files in the history of a model folder, all of them or none. The folder itself stays as it is.

    Args:
        folder: of a model.
        write: writes the files into an empty folder. What it raises leaves everything as it was.

    Raises:
        ConfigError: the history cannot be written.
    """
    try:
        with _alone(folder):
            _settle(folder)
            with _next_step(folder) as step:
                (step / _ADDED).mkdir()
                write(step / _ADDED)
    except OSError as error:
        raise ConfigError(f"{history_of(folder)} cannot be written ({error.strerror}); make it writable.") from error


def added(folder: Path) -> list[Path]:
    """What `add` kept of a model folder and nobody took back: a folder for each call, the earliest first."""
    return [step / _ADDED for step in _steps(folder) if (step / _ADDED).is_dir()]


def undo(folder: Path) -> list[str]:
    """Takes the newest step back: brings the version before a `change` back, or drops what `add` kept.

    Returns:
        Names of the files that were dropped; none: it was a change.

    Raises:
        ConfigError: there is nothing to take back, or the folder cannot be written.
    """
    try:
        with _alone(folder):
            _settle(folder)
            steps = _steps(folder)
            while steps and _is_current(folder, steps[-1]):  # a change that was cut off before it counted
                _drop(steps.pop())
            if not steps:
                raise ConfigError(f"{folder} has no earlier version; nothing was changed.")
            newest = steps[-1]
            if (newest / _ADDED).is_dir():
                dropped = sorted(file.name for file in (newest / _ADDED).iterdir())
            else:
                dropped = []
                with _prepared(folder / PART) as part:
                    shutil.copytree(newest, part, dirs_exist_ok=True)
                    part.rename(folder / NEXT)
                _settle(folder)
            _drop(newest)
            return dropped
    except OSError as error:
        raise ConfigError(f"{folder} cannot be changed ({error}); make it and its folder writable.") from error


@contextmanager
def _prepared(part: Path) -> Iterator[Path]:
    """An empty folder to prepare a change in, which is renamed or goes; what a kill left in its place goes first."""
    if part.exists():
        shutil.rmtree(part)
    part.mkdir()
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _steps(folder: Path) -> list[Path]:
    """Folders of the history, the earliest first: files that `change` replaced, or those that `add` kept."""
    history = history_of(folder)
    found = [path for path in history.iterdir() if path.name.isdigit()] if history.is_dir() else []
    return sorted(found, key=lambda path: int(path.name))


@contextmanager
def _next_step(folder: Path) -> Iterator[Path]:
    """An empty folder that becomes the newest step; one that is cut off has no number."""
    history = history_of(folder)
    history.mkdir(exist_ok=True)
    steps = _steps(folder)
    with _prepared(history / _STEP) as step:
        yield step
        step.rename(history / f"{int(steps[-1].name) + 1 if steps else 1:04d}")


def _drop(step: Path) -> None:
    """Removes a step. The rename is the moment at which it is gone: half of one would be another one."""
    unnumbered = step.with_name(_STEP)
    if unnumbered.exists():
        shutil.rmtree(unnumbered)
    step.rename(unnumbered)
    shutil.rmtree(unnumbered, ignore_errors=True)  # what stays, the next step clears


def _keep(folder: Path, names: list[str]) -> None:
    """Copies what is about to be replaced."""
    with _next_step(folder) as step:
        new = [name for name in names if not (folder / name).is_file()]
        for name in set(names) - set(new):
            shutil.copyfile(folder / name, step / name)
        _note_removed(step, new)  # taken back, the change leaves nothing behind


def _is_current(folder: Path, step: Path) -> bool:
    """Whether a step says what the folder says, so that taking it back would change nothing."""
    if (step / _ADDED).is_dir():
        return False
    names = [file.name for file in step.iterdir() if file.name != _REMOVED]
    same, _, _ = filecmp.cmpfiles(folder, step, names, shallow=False)
    return len(same) == len(names) and not any((folder / name).exists() for name in _removed_by(step))


def _note_removed(version: Path, names: Iterable[str]) -> None:
    (version / _REMOVED).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _removed_by(version: Path) -> set[str]:
    """Names of files of a model that go when this version comes."""
    noted = version / _REMOVED
    if not noted.is_file() or noted.is_symlink():
        return set()
    return {*FILES, *PLOTS} & set(noted.read_text(encoding="utf-8").splitlines())
