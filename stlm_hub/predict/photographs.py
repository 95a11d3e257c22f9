"""Photographs for training or calibration: a folder is checked before the work starts, then read one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from ..errors import ConfigError, DataError, ImageError
from ..validate import expanded
from ..wording import number_of
from .depth import depth_of
from .good_ones import good_folder
from .images import list_images, note_left_out, read_picture

MIN_TRAINING_PHOTOGRAPHS = 8
USUAL_SIZE_RATIO = 4.0  # longest side of the largest photograph / longest side of the smallest
USUAL_ASPECT_RATIO_SPREAD = 1.5  # aspect ratio of the widest photograph / aspect ratio of the narrowest
_THUMBNAIL = 64  # px, side of the thumbnail by which blank photographs and copies are recognised
MOST_NOTES = 5
"""Most sentences on single photographs; a folder can have one for each."""
NEAR_COPY = 1.2
"""Root mean square difference of thumbnails, in grey levels. Photographs of two parts differ by 2 and more, the same
frame with other noise by less than 1."""


@dataclass(frozen=True)
class Photographs:
    """Usable photographs of a folder.

    Args:
        paths: different photographs, in natural order.
        duplicates: (duplicate, original) for photographs of the same frame; the duplicates are not in `paths`.
        shape: median height and width in pixels.
        bits: depth of those with 16 bits, see `depth`; None: there are none.
        notes: a sentence on each unusual thing.
    """

    paths: list[Path]
    duplicates: list[tuple[Path, Path]]
    shape: tuple[int, int]
    bits: int | None = None
    notes: list[str] = field(default_factory=list)


def check_photographs(
    folder: Path,
    *,
    at_least: int = MIN_TRAINING_PHOTOGRAPHS,
    work: str = "training",
    near_copies: bool = True,
    bits: int | None = None,
) -> Photographs:
    """Reads every photograph of a folder of good parts once and checks whether they can be used together.

    Args:
        folder: with PNG, JPEG, WebP, BMP or TIFF files. Of a whole data set, train/good is used. Other files and
            subfolders are ignored.
        at_least: lowest number of different photographs.
        work: what they are needed for, a word for error messages.
        near_copies: whether the same frame with other noise counts as different. For a threshold it must not: it hides
            how much parts differ.
        bits: depth of those with 16 bits; None: found on all of them together.

    Raises:
        DataError: the folder is missing, a file cannot be read, a photograph has one single colour, or fewer than
            `at_least` are different. The first five files are named.
    """
    folder = expanded(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; pass the folder with the photographs of good parts.")
    folder, note = good_folder(folder)
    paths, unread = list_images(folder), note_left_out(folder)
    if len(paths) < at_least:
        raise DataError(
            f"{folder} holds {number_of(len(paths), 'photograph')}; {work} needs at least {at_least} different ones "
            f"of good parts (50 or more are better). {unread}".rstrip()
        )
    contents = _read_all(paths, bits, near_copies)
    depth = bits or depth_of(contents.tops.values())
    if bits is None and depth not in (None, 16):
        contents = _read_all(paths, depth, near_copies)  # read as 16 bits they were too dark to compare
    if contents.broken:
        raise DataError(
            f"{len(contents.broken)} of {number_of(len(paths), 'file')} cannot be used: "
            f"{' '.join(contents.broken[:5])} Repair or remove them."
        )
    if contents.blank:
        names = ", ".join(contents.blank[:5])
        raise DataError(f"{names} show one single colour; remove blank photographs and start again.")
    sizes, duplicates = contents.sizes, contents.duplicates
    if len(sizes) < at_least:
        raise DataError(
            f"{folder} holds {len(paths)} photographs, but only {number_of(len(sizes), 'different one')} "
            f"({duplicates[0][0].name} is the same frame as {duplicates[0][1].name}); {work} needs at least "
            f"{at_least}, each of another part."
        )
    width, height = np.median(np.array(list(sizes.values())), axis=0).round().astype(int).tolist()
    notes = [
        note,
        _left_out(folder),
        unread,
        _depth_note(contents.tops, depth),
        *few(contents.notes),
        *_size_notes(sizes),
    ]
    return Photographs(list(sizes), duplicates, (height, width), depth, [text for text in notes if text])


def remaining(paths: Sequence[Path], leave_out: Sequence[str], folder: Path) -> list[Path]:
    """The photographs of a folder but for those to leave out, by their names.

    Raises:
        ConfigError: a photograph to leave out does not exist.
        DataError: too few are left.
    """
    names = {path.name for path in paths}
    if unknown := [name for name in leave_out if name not in names]:
        raise ConfigError(f"There is no photograph {unknown[0]} in {folder} that could be left out.")
    left = [path for path in paths if path.name not in leave_out]
    if len(left) < MIN_TRAINING_PHOTOGRAPHS:
        are = number_of(len(left), "photograph is", "photographs are")
        raise DataError(f"{are} left; training needs at least {MIN_TRAINING_PHOTOGRAPHS}.")
    return left


@dataclass
class _Contents:
    """The photographs of a folder after each was read once.

    broken: an error for each file that cannot be used. blank: names of photographs of one colour. sizes: (width,
    height) of each different photograph. duplicates: (duplicate, original). tops: highest value of each 16-bit
    photograph. notes: on single photographs.
    """

    broken: list[str] = field(default_factory=list)
    blank: list[str] = field(default_factory=list)
    sizes: dict[Path, tuple[int, int]] = field(default_factory=dict)
    duplicates: list[tuple[Path, Path]] = field(default_factory=list)
    tops: dict[Path, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _read_all(paths: Sequence[Path], bits: int | None, near_copies: bool) -> _Contents:
    """Reads every photograph once; arguments as of `check_photographs`."""
    contents = _Contents()
    first_with: dict[str, Path] = {}
    thumbnails: list[np.ndarray] = []
    for path in paths:
        try:
            picture = read_picture(path, bits=bits or 16)
        except ImageError as error:
            contents.broken.append(str(error))
            continue
        image = picture.image
        if picture.top is not None:
            contents.tops[path] = picture.top
        thumbnail = cv2.resize(image, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
        if np.ptp(thumbnail) == 0:
            contents.blank.append(path.name)
            continue
        digest = pixels_sha256(image)
        grey = cv2.cvtColor(thumbnail, cv2.COLOR_RGB2GRAY).astype(np.float32).ravel()
        original = first_with.get(digest)
        if original is None and not near_copies:
            original = _near_copy(grey, thumbnails, list(contents.sizes))
        if original is not None:
            contents.duplicates.append((path, original))
            continue
        first_with[digest] = path
        thumbnails.append(grey)
        contents.sizes[path] = (image.shape[1], image.shape[0])
        contents.notes += picture.notes
    return contents


def pixels_sha256(image: np.ndarray) -> str:
    """SHA-256 of the pixels and shape of an image, HxWx3 uint8: the same for the same frame in another file."""
    return hashlib.sha256(image.tobytes() + repr(image.shape).encode()).hexdigest()


def _depth_note(tops: Mapping[Path, int], bits: int | None) -> str:
    """A sentence if 16-bit photographs are read with another depth than 16; "": they are not."""
    if bits in (None, 16):
        return ""
    have = number_of(len(tops), "photograph has", "photographs have")
    return (
        f"{have} 16 bits and values up to {max(tops.values())}, read as those of a "
        f"camera of {bits} bits, here and by the model. If it has others, say so with --bits."
    )


def few(notes: Sequence[str]) -> list[str]:
    """The first `MOST_NOTES` sentences, and one that says how many more there are."""
    more = len(notes) - MOST_NOTES
    further = [f"{number_of(more, 'more note is', 'more notes are')} not shown."] if more > 0 else []
    return [*notes[:MOST_NOTES], *further]


def load_each(
    paths: Sequence[Path],
    on_image: Callable[[int, int], None] | None = None,
    *,
    before: int = 0,
    total: int | None = None,
    bits: int | None = None,
) -> Iterator[np.ndarray]:
    """Yields photographs as HxWx3 uint8 RGB, in order.

    Args:
        paths: photographs to read.
        on_image: called with (done, total) after each photograph.
        before: number of photographs that were done before these; added to `done`.
        total: number of photographs in the whole work; None: that of `paths`.
        bits: depth of those with 16 bits, see `read_picture`.

    Raises:
        ImageError: a photograph cannot be used.
    """
    for done, path in enumerate(paths, start=before + 1):
        yield read_picture(path, bits=bits).image
        if on_image:
            on_image(done, len(paths) if total is None else total)


def _left_out(folder: Path) -> str:
    """A sentence if subfolders, or links to folders, hold photographs too; "": none does."""
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not (named := [path.name for path in inside if list_images(path, recursive=True)]):
        return ""
    return f"Photographs in folders inside {folder} are left out: {', '.join(named[:5])}."


def _near_copy(thumbnail: np.ndarray, others: Sequence[np.ndarray], paths: Sequence[Path]) -> Path | None:
    """The photograph of which another one is a near copy; None: there is none.

    Args:
        thumbnail: N float32, of the other one.
        others: thumbnails of `paths`.
        paths: different photographs.
    """
    if not others:
        return None
    differences = np.sqrt(np.square(np.stack(others) - thumbnail).mean(1))
    return paths[int(differences.argmin())] if differences.min() < NEAR_COPY else None


def _size_notes(sizes: dict[Path, tuple[int, int]]) -> list[str]:
    """Sentences on unusual sizes: all photographs are squeezed to one frame, in which parts then look different."""
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
