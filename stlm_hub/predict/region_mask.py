"""Mask pictures of a user -> the region of interest in a model's frame."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ..errors import DataError
from ..validate import expanded
from .images import ImageInput, load_image

SMALLEST_SHARE = 0.01
"""Smallest share of the frame that a region may cover; a smaller one is a mistake."""
SHAPE_TOLERANCE = 0.02
"""Largest relative difference between the aspect of a mask and that of the photographs."""


def read_region(mask: ImageInput, shape: tuple[int, int], *, ignore: bool = False) -> np.ndarray:
    """Reads a mask picture.

    Args:
        mask: a picture of the photographs' shape, at any size: white where to look, black where not.
        shape: height and width of the photographs.
        ignore: white is where not to look instead.

    Returns:
        HxW bool, True where to look.

    Raises:
        ImageError: it is no picture.
        DataError: it has another shape than the photographs, or covers nothing or everything.
    """
    image = load_image(mask)
    named = f"The mask {mask.name}" if isinstance(mask, Path) else "The mask"
    height, width = image.shape[:2]
    if not _alike(height * shape[1], width * shape[0]):
        turned = ", as they are shown: EXIF may turn them" if _alike(height * shape[0], width * shape[1]) else ""
        raise DataError(
            f"{named} is {width}x{height} px and the photographs are {shape[1]}x{shape[0]}{turned}; draw it on one of "
            "them."
        )
    white: np.ndarray = image.max(axis=2) >= 128
    region = ~white if ignore else white
    if region.mean() < SMALLEST_SHARE:
        raise DataError(f"{named} leaves less than 1 % of the photograph to look at; paint more of it.")
    if region.all():
        raise DataError(f"{named} leaves nothing out; paint the part to look at white and the rest black.")
    return region


def _alike(a: int, b: int) -> bool:
    """Whether two products of sides differ by no more than `SHAPE_TOLERANCE`."""
    return abs(b / a - 1) <= SHAPE_TOLERANCE


def looked_at(region: str | Path | None, ignore: str | Path | None, shape: tuple[int, int]) -> np.ndarray | None:
    """The region of one or two mask pictures.

    Args:
        region: path of a mask, white where to look; None or "": there is none.
        ignore: path of a mask, white where not to look; None or "": there is none.
        shape: height and width of the photographs.

    Returns:
        HxW bool in the size of a mask, True where to look; None: there is no mask.

    Raises:
        ImageError: a mask is no picture.
        DataError: see `read_region`; or both together leave less than `SMALLEST_SHARE`.
    """
    inside = read_region(expanded(region), shape) if region else None
    not_ignored = read_region(expanded(ignore), shape, ignore=True) if ignore else None
    if inside is None or not_ignored is None:
        return not_ignored if inside is None else inside
    resized = cv2.resize(not_ignored.astype(np.uint8), inside.shape[::-1], interpolation=cv2.INTER_NEAREST)
    both: np.ndarray = inside & resized.astype(bool)
    if both.mean() < SMALLEST_SHARE:
        raise DataError("The two masks leave less than 1 % of the photograph to look at; paint other ones.")
    return both


def on_frame(region: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """HxW bool -> hxw bool for `size` (h, w): True where at least half of a cell is True."""
    covered = cv2.resize(region.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    return covered >= 0.5


def area_on_frame(area: float, shape: tuple[int, int], size: tuple[int, int]) -> int:
    """A minimum area in pixels of a photograph -> in pixels of the frame.

    Args:
        area: pixels of a photograph, from 0 to a hundredth of it.
        shape: height and width of photographs.
        size: height and width of the frame.

    Raises:
        DataError: the area is out of range.
    """
    pixels = shape[0] * shape[1]
    if not 0 <= area <= pixels * SMALLEST_SHARE:
        raise DataError(
            f"The minimum area must be 0 to {pixels * SMALLEST_SHARE:.0f} px, 1 % of a photograph, not {area:g}; "
            "larger things would be missed."
        )
    return round(area * size[0] * size[1] / pixels)
