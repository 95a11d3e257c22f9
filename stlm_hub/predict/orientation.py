"""How EXIF turns a picture, and the picture turned so."""

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
    """An array of pixels, turned as the EXIF data of the decoded picture that they are of say; `pixels` is changed."""
    # Only the orientation is kept: exif_transpose rewrites all of EXIF, which fails where other tags are malformed.
    pixels.info.clear()
    pixels.getexif()[ExifTags.Base.Orientation] = _orientation(source)
    return np.array(ImageOps.exif_transpose(pixels), order="C")


def orientation_of(path: Path) -> int:
    """EXIF orientation of a picture file, 1 to 8; above 4 width and height are exchanged. 1 where it says none."""
    try:
        with path.open("rb") as file, opened(file, path.stat().st_size, printable(path.name)) as (image, _):
            found = image.getexif().get(ExifTags.Base.Orientation, 1)  # of a TIFF, too, which is not decoded
    except Exception:  # see `opened`
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _orientation(image: Image.Image) -> Any:
    """EXIF orientation of a loaded image; 1 where the metadata cannot be read. (`load` itself turns a TIFF.)"""
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
