"""A folder of photographs for training or calibration: checked before the work starts, then read one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from ..errors import DataError, ImageError
from ..validate import expanded
from .good_ones import good_folder
from .images import list_images, load_image

MIN_TRAINING_PHOTOGRAPHS = 8
USUAL_SIZE_RATIO = 4.0  # longest side of the largest photograph / longest side of the smallest
USUAL_ASPECT_RATIO_SPREAD = 1.5  # aspect ratio of the widest photograph / aspect ratio of the narrowest
_THUMBNAIL = 64  # px, side of the thumbnail that shows whether a photograph is blank, or a copy of another one
NEAR_COPY = 1.2
"""Grey levels, root mean square over thumbnails: photographs of two parts differ by 2 and more, the same frame with
other noise by less than 1."""


@dataclass(frozen=True)
class Photographs:
    """Usable photographs of a folder.

    Args:
        paths: different photographs, in natural order.
        duplicates: (duplicate, original) for photographs of the same frame; the duplicates are not in `paths`.
        shape: median height and width in pixels.
        notes: a sentence for what is unusual of them.
    """

    paths: list[Path]
    duplicates: list[tuple[Path, Path]]
    shape: tuple[int, int]
    notes: list[str] = field(default_factory=list)


def check_photographs(
    folder: Path, *, at_least: int = MIN_TRAINING_PHOTOGRAPHS, work: str = "training", near_copies: bool = True
) -> Photographs:
    """Reads every photograph of a folder of good parts once and checks whether they can be used together.

    Args:
        folder: holds PNG, JPEG, WebP, BMP or TIFF files; of a whole data set, its train/good counts. Other files and
            subfolders are ignored.
        at_least: lowest number of different photographs.
        work: what the photographs are needed for, in the words of error messages.
        near_copies: whether the same frame with other noise counts. For a threshold it must not: it hides how much
            parts differ.

    Raises:
        DataError: the folder is missing; a file cannot be read; fewer than `at_least` different photographs; a
            photograph has one single colour. The first five files are named.
    """
    folder = expanded(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; pass the folder with the photographs of good parts.")
    folder, note = good_folder(folder)
    paths = list_images(folder)
    if len(paths) < at_least:
        raise DataError(
            f"{folder} holds {len(paths)} photographs; {work} needs at least {at_least} different ones "
            "of good parts (50 or more are better)."
        )
    broken: list[str] = []
    blank: list[str] = []
    sizes: dict[Path, tuple[int, int]] = {}
    first_with: dict[str, Path] = {}
    kept: list[Path] = []
    thumbnails: list[np.ndarray] = []
    duplicates: list[tuple[Path, Path]] = []
    for path in paths:
        try:
            image = load_image(path)
        except ImageError as error:
            broken.append(str(error))
            continue
        thumbnail = cv2.resize(image, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
        if np.ptp(thumbnail) == 0:
            blank.append(path.name)
            continue
        digest = hashlib.sha256(image.tobytes() + repr(image.shape).encode()).hexdigest()
        grey = cv2.cvtColor(thumbnail, cv2.COLOR_RGB2GRAY).astype(np.float32).ravel()
        original = first_with.get(digest)
        if original is None and not near_copies:
            original = _near_copy(grey, thumbnails, kept)
        if original is not None:
            duplicates.append((path, original))
            continue
        first_with[digest] = path
        kept.append(path)
        thumbnails.append(grey)
        sizes[path] = (image.shape[1], image.shape[0])
    if broken:
        raise DataError(
            f"{len(broken)} of {len(paths)} files cannot be used: {' '.join(broken[:5])} Repair or remove them."
        )
    if blank:
        raise DataError(f"{', '.join(blank[:5])} show one single colour; remove blank photographs and start again.")
    if len(sizes) < at_least:
        raise DataError(
            f"{folder} holds {len(paths)} photographs, but only {len(sizes)} different ones ({duplicates[0][0].name} "
            f"is the same frame as {duplicates[0][1].name}); {work} needs at least {at_least}, each of another part."
        )
    width, height = np.median(np.array(list(sizes.values())), axis=0).round().astype(int).tolist()
    notes = [*filter(None, [note, _left_out(folder)]), *_size_notes(sizes)]
    return Photographs(list(sizes), duplicates, (height, width), notes)


def load_each(
    paths: Sequence[Path],
    on_image: Callable[[int, int], None] | None = None,
    *,
    before: int = 0,
    total: int | None = None,
) -> Iterator[np.ndarray]:
    """Yields photographs as HxWx3 uint8 RGB, in order.

    Args:
        paths: photographs to read.
        on_image: called with (done, total) after each photograph.
        before: number of photographs that were done before these; added to `done`.
        total: number of photographs of the whole work; by default that of `paths`.

    Raises:
        ImageError: a photograph cannot be used.
    """
    for done, path in enumerate(paths, start=before + 1):
        yield load_image(path)
        if on_image:
            on_image(done, len(paths) if total is None else total)


def _left_out(folder: Path) -> str:
    """A sentence where subfolders, or folders that links lead to, hold photographs, too."""
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not (named := [path.name for path in inside if list_images(path, recursive=True)]):
        return ""
    return f"Photographs in folders inside {folder} are left out: {', '.join(named[:5])}."


def _near_copy(thumbnail: np.ndarray, others: Sequence[np.ndarray], paths: Sequence[Path]) -> Path | None:
    """The photograph with the nearest thumbnail, where that is nearer than `NEAR_COPY`."""
    if not others:
        return None
    differences = np.sqrt(np.square(np.stack(others) - thumbnail).mean(1))
    return paths[int(differences.argmin())] if differences.min() < NEAR_COPY else None


def _size_notes(sizes: dict[Path, tuple[int, int]]) -> list[str]:
    """What is unusual of the sizes: all photographs are squeezed to one frame, in which parts then look different."""
    notes = []
    by_area = sorted(sizes, key=lambda path: sizes[path][0] * sizes[path][1])
    small, large = by_area[0], by_area[-1]
    if max(sizes[large]) > USUAL_SIZE_RATIO * max(sizes[small]):
        notes.append(
            f"{small.name} is {_pixels(sizes[small])} and {large.name} {_pixels(sizes[large])} px. Photographs of one "
            "part from one camera setting give a sharper model."
        )
    by_aspect = sorted(sizes, key=lambda path: sizes[path][0] / sizes[path][1])
    narrow, wide = by_aspect[0], by_aspect[-1]
    spread = (sizes[wide][0] / sizes[wide][1]) / (sizes[narrow][0] / sizes[narrow][1])
    if spread > USUAL_ASPECT_RATIO_SPREAD:
        notes.append(
            f"{narrow.name} is {_pixels(sizes[narrow])} and {wide.name} {_pixels(sizes[wide])} px. All are squeezed to "
            "one frame; photographs of one shape give a sharper model."
        )
    return notes


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
