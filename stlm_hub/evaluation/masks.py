"""Ground-truth masks as people have them -> where the defect is, and a sentence where a mask looks wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import DataError, ImageError
from ..predict.depth import deep_colours
from ..predict.orientation import as_shown, orientation_of
from ..predict.picture_file import opened
from ..predict.printable import printable

MOST_MARKED = 0.6
"""Share of a photograph above which a mask is asked after: defects are smaller, what is left of them is not."""
_LOSSY = ("JPEG", "MPO")  # black is not 0 in these


def read_mask(path: Path, shape: tuple[int, int], photograph: Path | None = None) -> np.ndarray:
    """A mask file -> HxW bool in the frame of its photograph: True where any channel is above 0.

    A palette counts by its colours. Of a picture with transparency, what is seen counts, and where all of it is black,
    what is opaque. In a JPEG, which does not keep black, values of 128 and more count.

    Args:
        path: of the mask.
        shape: height and width of its photograph as displayed.
        photograph: its file, of which an error says whether EXIF turns it.

    Raises:
        DataError: the file cannot be read or has another shape.
    """
    try:
        with path.open("rb") as file, opened(file, path.stat().st_size, printable(path.name)) as (image, again):
            if sorted(image.size) == sorted(shape):  # anything else is refused without decoding it
                marked = as_shown(Image.fromarray(_marked(image, again)), image)
            else:
                marked = np.empty(image.size[::-1], bool)
    except (OSError, ImageError) as error:
        raise DataError(
            f"{path} cannot be read as a mask ({error}); it must be a PNG with the defect in white."
        ) from None
    if marked.shape != tuple(shape):
        raise DataError(
            f"{path} is {marked.shape[1]}x{marked.shape[0]} px, its photograph {shape[1]}x{shape[0]}"
            f"{_why(marked.shape, shape, photograph)}"
        )
    return marked


def mask_note(path: Path, marked: np.ndarray) -> str:
    """A sentence on a mask that marks nothing or nearly everything; "": it looks like one.

    Args:
        path: of the mask.
        marked: HxW bool, see `read_mask`.
    """
    name, share = f"{path.parent.name}/{path.name}", float(marked.mean())
    if not marked.any():
        return f"The mask {name} is empty: its photograph has no defect as far as pixels are measured."
    if share > MOST_MARKED:
        return f"The mask {name} covers {100 * share:.0f} % of its photograph; is it inverted?"
    return ""


def turn_note(path: Path, photograph: Path) -> str:
    """A sentence where EXIF turns a photograph so that its size does not tell how its mask was drawn; "": it does not.

    Args:
        path: of the mask.
        photograph: its file.
    """
    if orientation_of(photograph) == 1 or orientation_of(path) != 1:
        return ""
    name = f"{photograph.parent.name}/{photograph.name}"
    return f"EXIF turns the photograph {name}; its mask is taken as drawn on the photograph as it is shown."


def _marked(image: Image.Image, again: Callable[[], Image.Image]) -> np.ndarray:
    """HxW bool of a mask that is not decoded yet; `again` opens it once more."""
    lowest = 127 if image.format in _LOSSY else 0
    deep = deep_colours(image, again)
    try:
        image.load()
    except Exception as error:  # Pillow's decoders raise nearly any error on damaged bytes
        raise ImageError(f"it is damaged: {type(error).__name__}") from None
    if image.mode == "P":
        index, seen = np.asarray(image), np.asarray(image.convert("RGBA"))
        marked = _seen(seen, lowest)
        return marked if marked.any() and not marked.all() else index > 0
    values = np.asarray(image.convert("RGB") if image.mode == "CMYK" else image) if deep is None else deep
    if values.ndim == 2:
        return values > lowest
    return _seen(values, lowest) if values.shape[2] in (2, 4) else np.any(values > lowest, axis=2)


def _seen(values: np.ndarray, lowest: int) -> np.ndarray:
    """HxW bool of colours with alpha behind them."""
    bright, opaque = np.any(values[..., :-1] > lowest, axis=2), values[..., -1] > 0
    return bright & opaque if bright.any() or opaque.all() else opaque


def _why(found: tuple[int, ...], shape: tuple[int, int], photograph: Path | None) -> str:
    if photograph is not None and found == tuple(reversed(shape)) and orientation_of(photograph) > 4:
        return (
            " as it is shown: EXIF turns the photograph, and the mask was drawn on the picture as it is stored. Turn "
            "the mask as well, or store the photograph turned and without EXIF."
        )
    return "; fix the mask."
