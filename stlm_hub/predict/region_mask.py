"""A picture of where to look -> the region of a model's frame that counts."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ..errors import DataError
from ..validate import expanded
from .images import ImageInput, load_image

SMALLEST_SHARE = 0.01
"""Of the frame that a region covers at least; less is a slip of the pen."""
SHAPE_TOLERANCE = 0.02
"""How much the aspect of a mask may differ from that of the photographs."""


def read_region(mask: ImageInput, shape: tuple[int, int], *, ignore: bool = False) -> np.ndarray:
    """A mask picture -> where to look.

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


def _alike(one: int, other: int) -> bool:
    return abs(other / one - 1) <= SHAPE_TOLERANCE


def looked_at(region: str | Path | None, ignore: str | Path | None, shape: tuple[int, int]) -> np.ndarray | None:
    """HxW bool, white of one mask without white of another, see `read_region`; None: there is neither.

    Raises:
        ImageError, DataError: see `read_region`.
    """
    if not region and not ignore:
        return None
    wanted = read_region(expanded(region), shape) if region else None
    left = read_region(expanded(ignore), shape, ignore=True) if ignore else None
    if wanted is None or left is None:
        return left if wanted is None else wanted
    left = cv2.resize(left.astype(np.uint8), wanted.shape[::-1], interpolation=cv2.INTER_NEAREST).astype(bool)
    both: np.ndarray = wanted & left
    if both.mean() < SMALLEST_SHARE:
        raise DataError("The two masks leave less than 1 % of the photograph to look at; paint other ones.")
    return both


def on_frame(region: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """HxW bool -> hxw bool for `size` (h, w): True where at least half of what is below is."""
    covered = cv2.resize(region.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    return covered >= 0.5


def area_on_frame(area: float, shape: tuple[int, int], size: tuple[int, int]) -> int:
    """Pixels of photographs of this `shape` -> pixels of a frame of this `size`, height and width.

    Raises:
        DataError: it is not a number from 0 to a hundredth of the photograph.
    """
    pixels = shape[0] * shape[1]
    if not 0 <= area <= pixels * SMALLEST_SHARE:
        raise DataError(
            f"The minimum area must be 0 to {pixels * SMALLEST_SHARE:.0f} px, 1 % of a photograph, not {area:g}; "
            "larger things would be missed."
        )
    return round(area * size[0] * size[1] / pixels)
