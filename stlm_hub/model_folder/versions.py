"""Changes of a model folder that are made whole or not at all, and the versions before them.

A change is prepared beside the folder. The rename that moves it into the folder as `.next` is the moment at which it
counts; whoever opens the folder afterwards first moves its files into place. The files that it replaced are kept in
`<folder>.history`.
"""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import ConfigError

NEXT = ".next"


def history_of(folder: Path) -> Path:
    """Where a folder's earlier versions are."""
    return folder.with_name(f"{folder.name}.history")


def settle(folder: Path) -> None:
    """Finishes a change that was cut off after it counted.

    Raises:
        ConfigError: the folder cannot be written.
    """
    following = folder / NEXT
    if not following.is_dir():
        return
    try:
        for file in sorted(following.iterdir()):
            file.replace(folder / file.name)
        following.rmdir()
    except OSError as error:
        raise ConfigError(
            f"A change of {folder} was cut off and cannot be finished ({error.strerror}); make the folder writable."
        ) from error


def change(folder: Path, write: Callable[[Path], None]) -> None:
    """Replaces some files of a model folder; the earlier ones are kept.

    Args:
        folder: of a model.
        write: writes the new files into an empty folder. What it raises leaves everything as it was.

    Raises:
        ConfigError: the folder or its history cannot be written.
    """
    settle(folder)
    try:
        with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as name:
            new = Path(name) / NEXT
            new.mkdir()
            write(new)
            _keep(folder, [file.name for file in new.iterdir()])
            new.rename(folder / NEXT)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be changed ({error.strerror}); make it and its folder writable.") from error
    settle(folder)


def undo(folder: Path) -> None:
    """Brings the newest earlier version back.

    Raises:
        ConfigError: there is none, or the folder cannot be written.
    """
    settle(folder)
    versions = _versions(folder)
    while versions and _is_current(folder, versions[-1]):  # a change that was cut off before it counted
        shutil.rmtree(versions.pop())
    if not versions:
        raise ConfigError(f"{folder} has no earlier version; nothing was changed.")
    newest = versions[-1]
    with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as name:
        shutil.copytree(newest, Path(name) / NEXT)
        (Path(name) / NEXT).rename(folder / NEXT)
    settle(folder)
    shutil.rmtree(newest)


def _versions(folder: Path) -> list[Path]:
    history = history_of(folder)
    found = [path for path in history.iterdir() if path.name.isdigit()] if history.is_dir() else []
    return sorted(found, key=lambda path: int(path.name))


def _keep(folder: Path, names: list[str]) -> None:
    """Copies what is about to be replaced, under the next number; a copy that is cut off has no number."""
    history = history_of(folder)
    history.mkdir(exist_ok=True)
    versions = _versions(folder)
    with TemporaryDirectory(prefix="part-", dir=history) as part:
        kept = Path(part) / "kept"
        kept.mkdir()
        for name in names:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, kept / name)
        kept.rename(history / f"{int(versions[-1].name) + 1 if versions else 1:04d}")


def _is_current(folder: Path, version: Path) -> bool:
    names = [file.name for file in version.iterdir()]
    same, _, _ = filecmp.cmpfiles(folder, version, names, shallow=False)
    return len(same) == len(names)
