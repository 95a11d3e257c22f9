"""The good photographs in a folder or archive of a whole data set.

People easily pass a whole data set where only good photographs are meant. Training on its defects and masks would teach
a model that they are normal.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath

from ..errors import DataError
from ..wording import number_of
from .images import list_images

GOOD_NAMES = ("good", "ok", "normal")
"""Names of folders with good photographs, in upper or lower case."""
_NOT_FOR_TRAINING = ("test", "ground_truth")


def is_good(name: str) -> bool:
    """Whether a folder of this name holds good photographs."""
    return name.casefold() in GOOD_NAMES


def good_folder(folder: Path) -> tuple[Path, str]:
    """The folder with the good photographs: `folder` itself, or a folder such as train/good inside it.

    Returns:
        The folder, and a sentence if it is not `folder` itself, else "".

    Raises:
        DataError: only subfolders hold photographs, and no name says which are good.
    """
    if not folder.is_dir() or list_images(folder):
        return folder, ""
    for parent in (folder / "train", folder):
        for inner in sorted(parent.iterdir()) if parent.is_dir() else []:
            if inner.is_dir() and is_good(inner.name):
                return inner, f"{folder} holds a whole data set; the good photographs in {inner} are used."
    inside = [path.name for path in sorted(folder.iterdir()) if path.is_dir() and list_images(path, recursive=True)]
    if inside:
        raise DataError(f"{folder} itself holds no photographs; pass the one of good parts: {', '.join(inside[:5])}.")
    return folder, ""


def good_members(names: Sequence[str]) -> tuple[list[int], str]:
    """The good photographs of an archive, by their paths: those in train/good, or else in a folder such as good.

    Args:
        names: paths with "/" between folders.

    Returns:
        Their indices, and a sentence if files are left out, else "".

    Raises:
        DataError: some are test photographs or masks, and none is in train/good.
    """
    folders = [[part.casefold() for part in PurePosixPath(name).parts[:-1]] for name in names]
    good = [i for i, parts in enumerate(folders) if any(a == "train" and is_good(b) for a, b in pairwise(parts))]
    if good:
        return good, _left_out(len(names) - len(good), "train/good")
    wrong = [name for name, parts in zip(names, folders, strict=True) if set(_NOT_FOR_TRAINING) & set(parts)]
    if wrong:
        raise DataError(
            f"{wrong[0]} looks like a test photograph or a mask, and there is no train/good; pack the "
            "good photographs alone."
        )
    good = [i for i, parts in enumerate(folders) if any(is_good(part) for part in parts)]
    if good:
        return good, _left_out(len(names) - len(good), "the folder of good ones")
    return list(range(len(names))), ""


def _left_out(count: int, where: str) -> str:
    said = number_of(count, f"file outside {where} is", f"files outside {where} are")
    return f"{said} left out." if count else ""
