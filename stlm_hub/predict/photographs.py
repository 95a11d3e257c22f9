"""Is a folder of photographs good enough to train on? Refusals in sentences, before any hour is spent.

And its photographs one after the other, for what takes a while.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..errors import DataError, ImageError
from .images import list_images, load_image

MIN_PHOTOGRAPHS = 8
MAX_SIZE_RATIO = 4.0  # between the largest and the smallest photograph's sides
MAX_ASPECT_RATIO_SPREAD = 1.5
_THUMBNAIL = 64


@dataclass(frozen=True)
class Photographs:
    """Usable photographs, and what was left out: exact duplicates as (duplicate, original)."""

    paths: list[Path]
    duplicates: list[tuple[Path, Path]]


def check_photographs(folder: Path, *, at_least: int = MIN_PHOTOGRAPHS, work: str = "training") -> Photographs:
    """Reads every photograph of a folder of good parts once.

    Args:
        folder: PNG, JPEG, WEBP, BMP or TIFF files; other files and sub-folders are ignored.
        at_least: different photographs that are needed.
        work: what they are needed for, as messages call it.

    Raises:
        DataError: the folder is missing; files cannot be read (all are named); fewer than `at_least` remain without
            duplicates; sizes or aspect ratios differ beyond reason; a photograph shows nothing.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; pass the folder with the photographs of good parts.")
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
    duplicates: list[tuple[Path, Path]] = []
    for path in paths:
        try:
            image = load_image(path)
        except ImageError as error:
            broken.append(str(error))
            continue
        if np.ptp(cv2.resize(image, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)) == 0:
            blank.append(path.name)
            continue
        digest = hashlib.sha256(image.tobytes() + repr(image.shape).encode()).hexdigest()
        if digest in first_with:
            duplicates.append((path, first_with[digest]))
            continue
        first_with[digest] = path
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
            f"is the same as {duplicates[0][1].name}); {work} needs at least {at_least}."
        )
    _check_sizes(sizes)
    return Photographs(list(sizes), duplicates)


def load_each(
    paths: Sequence[Path],
    on_image: Callable[[int, int], None] | None = None,
    *,
    before: int = 0,
    total: int | None = None,
) -> Iterator[np.ndarray]:
    """Photographs as HxWx3 uint8 RGB, in order.

    Args:
        on_image: told (done, total) after each of them.
        before: how many were done before these.
        total: by default as many as there are paths.
    """
    for done, path in enumerate(paths, start=before + 1):
        yield load_image(path)
        if on_image:
            on_image(done, len(paths) if total is None else total)


def _check_sizes(sizes: dict[Path, tuple[int, int]]) -> None:
    by_area = sorted(sizes, key=lambda path: sizes[path][0] * sizes[path][1])
    small, large = by_area[0], by_area[-1]
    if max(sizes[large]) > MAX_SIZE_RATIO * max(sizes[small]):
        raise DataError(
            f"{small.name} is {_text(sizes[small])} and {large.name} {_text(sizes[large])} px; all photographs "
            "of one part should come from one camera setting. Sort them into folders of like size."
        )
    by_aspect = sorted(sizes, key=lambda path: sizes[path][0] / sizes[path][1])
    narrow, wide = by_aspect[0], by_aspect[-1]
    spread = (sizes[wide][0] / sizes[wide][1]) / (sizes[narrow][0] / sizes[narrow][1])
    if spread > MAX_ASPECT_RATIO_SPREAD:
        raise DataError(
            f"{narrow.name} is {_text(sizes[narrow])} and {wide.name} {_text(sizes[wide])} px; "
            "photographs of one part should have one shape. Crop them alike or sort them into folders."
        )


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
