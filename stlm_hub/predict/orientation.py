"""The EXIF orientation of a picture, and the picture turned by it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

from .image_structure import MAX_EXIF_BYTES, tags_fit
from .picture_file import opened
from .printable import printable


def as_shown(pixels: Image.Image, source: Image.Image) -> np.ndarray:
    """Turns pixels by the EXIF orientation of a picture.

    Args:
        pixels: of the decoded picture, in any mode; its metadata are overwritten.
        source: the decoded picture, with its EXIF data.

    Returns:
        HxW or HxWxC array, C-contiguous, as a viewer shows it.
    """
    # Only the orientation is kept: exif_transpose rewrites all of EXIF, which fails where other tags are malformed.
    pixels.info.clear()
    pixels.getexif()[ExifTags.Base.Orientation] = _orientation(source)
    return np.array(ImageOps.exif_transpose(pixels), order="C")


def orientation_of(path: Path) -> int:
    """EXIF orientation of a picture file, 1 to 8; above 4 width and height are exchanged. 1: it has none."""
    try:
        with path.open("rb") as file, opened(file, path.stat().st_size, printable(path.name)) as (image, _):
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # see `opened`
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _orientation(image: Image.Image) -> Any:
    """EXIF orientation of a decoded image; 1: it has none that can be read. Pillow itself turns a TIFF in `load`."""
    try:
        exif = image.info.get("exif", b"")
        if not exif and "Raw profile type exif" in image.info:  # how some PNGs hold it, in hexadecimal digits
            exif = bytes.fromhex("".join(image.info["Raw profile type exif"].split("\n")[3:]))
        exif = exif.removeprefix(b"Exif\0\0")
        if len(exif) > MAX_EXIF_BYTES or not tags_fit(io.BytesIO(exif), len(exif)):
            return 1
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # see `opened`; viewers show such a picture as it is stored, too
        return 1
