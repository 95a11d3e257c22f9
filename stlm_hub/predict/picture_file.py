"""An encoded picture, opened after all checks that need no decoded pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from PIL import Image, UnidentifiedImageError

from ..errors import ImageError
from .image_structure import check_structure, without_text
from .kinds import BEGINNING, check_kind, is_heic
from .printable import reason

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")  # Pillow knows over 40; every decoder is a risk
MAX_FILE_BYTES = 200_000_000
MAX_PIXELS = 40_000_000
MIN_SIDE = 8  # pixels
MAX_ASPECT = 50  # longer side / shorter side
MEGAPIXELS = f"{MAX_PIXELS // 1_000_000} megapixels"


@contextmanager
def opened(stream: IO[bytes], size: int, name: str) -> Iterator[tuple[Image.Image, Callable[[], Image.Image]]]:
    """Checks and opens an encoded picture, without decoding it.

    Args:
        stream: the file, at its start.
        size: of the file in bytes.
        name: of the picture, for errors; printable.

    Yields:
        The picture, and a function that opens it once more.

    Raises:
        ImageError: it is damaged, of an unsupported kind, or outside the limits of this module.
    """
    if size == 0:
        raise ImageError(f"{name} is empty (0 bytes); save or copy it again.")
    if size > MAX_FILE_BYTES:
        limit = MAX_FILE_BYTES // 1_000_000
        raise ImageError(f"{name} has {size / 1e6:.0f} MB, over the limit of {limit} MB; scale the picture down first.")
    start = stream.read(BEGINNING)
    stream.seek(0)
    check_kind(start, name)
    check_structure(stream, size, name)
    stream, profile = without_text(stream)

    def again() -> Image.Image:
        stream.seek(0)
        if is_heic(start):
            from pillow_heif import HeifImageFile

            return HeifImageFile(stream)
        return Image.open(stream, formats=FORMATS)

    try:
        image = again()
    except (UnidentifiedImageError, SyntaxError):  # pillow_heif raises the latter
        raise ImageError(
            f"{name} is not a PNG, JPEG, WebP, BMP, TIFF or HEIC picture that can be read; open it in an image editor "
            "and save it as an 8-bit PNG."
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"{name} has far more than {MEGAPIXELS}; crop it or scale it down first.") from None
    except Exception as error:  # Pillow's decoders raise nearly any error on hostile bytes
        raise ImageError(f"{name} is damaged ({reason(error)}); save or copy it again.") from None
    if profile is not None:
        image.info["icc_profile"] = profile
    with image:
        yield image, again


def check_size(width: int, height: int, name: str) -> None:
    """Raises ImageError for a picture that is too small, too large or too elongated."""
    shape = f"{name} is {width} x {height} pixels"
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{shape}; each side needs at least {MIN_SIDE} pixels.")
    if width * height > MAX_PIXELS:
        raise ImageError(f"{shape}, over the limit of {MEGAPIXELS}; crop it or scale it down first.")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(f"{shape}, more than {MAX_ASPECT} times as long as wide; cut it into pieces first.")
