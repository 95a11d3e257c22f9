"""Untrusted pictures -> RGB uint8 arrays, or an `ImageError`.

Every picture that enters the library passes through `load_image`. It treats each kind of picture like this:

- Files: PNG, JPEG, WebP, BMP and TIFF only. Limits on bytes, pixels and aspect ratio are checked on the header, limits
  on parts by `image_structure`, before any pixel is decoded. The first of several frames or pages is used.
- Orientation: the EXIF orientation is applied, so the array is what a viewer shows.
- Transparency: the picture is composited on white. A fully transparent picture becomes white.
- Grey, palette, CMYK, YCbCr, Lab: converted to RGB. Embedded colour profiles of RGB and grey pictures are not applied.
- 16 bits: 0-65535 becomes 0-255 by keeping the high byte, whatever values the picture has. Only a TIFF that stores 12
  bits per pixel is read as 0-4095. A range guessed from the brightest pixel would give two pictures of one camera two
  scales. For the same reason a PNG's sBIT and a TIFF's MaxSampleValue change nothing.
- Float: values must be in [0, 1] and are multiplied by 255.
"""

from __future__ import annotations

import io
import re
import stat
import warnings
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from ..errors import ImageError
from ..validate import expanded
from .image_structure import MAX_EXIF_BYTES, check_structure, tags_fit

ImageInput: TypeAlias = str | Path | bytes | Image.Image | np.ndarray
"""What `load_image` accepts. Arrays are HxW, HxWx1, HxWx3 (RGB) or HxWx4 (RGBA)."""

SUFFIXES = (".bmp", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Endings of file names, in lower case, that `list_images` lists."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")  # Pillow knows over 40; every decoder is a risk
MAX_FILE_BYTES = 200_000_000
MAX_PIXELS = 40_000_000
MIN_SIDE = 8  # pixels
MAX_ASPECT = 50  # longer side / shorter side

_MEGAPIXELS = f"{MAX_PIXELS // 1_000_000} megapixels"
_FLOAT_SLACK = 1e-3  # floats this far outside [0, 1] count as rounding errors: a quarter of a grey level


def load_image(source: ImageInput, *, name: str | None = None) -> np.ndarray:
    """Reads any supported picture as a viewer shows it.

    Args:
        source: path, encoded bytes, PIL image (its current frame) or array: HxW, HxWx1, HxWx3 or HxWx4 of uint8,
            uint16, bool or float in [0, 1]. It is not modified, and the result shares no memory with it.
        name: name of the picture in error messages; by default its file name, or "The image".

    Returns:
        RGB uint8 HxWx3, C-contiguous, with the EXIF orientation applied.

    Raises:
        ImageError: the picture is missing, damaged, of an unsupported kind, or outside the limits of this module.
    """
    if isinstance(source, (str, Path)):
        return _read_file(expanded(source), name)
    label = _printable(name or "The image")
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), len(source), label)
    if isinstance(source, Image.Image):
        return _displayed(source, label)
    if isinstance(source, np.ndarray):
        return _displayed(_from_array(source, label), label)
    raise ImageError(f"{label} is a {type(source).__name__}; pass a path, bytes, a PIL image or a numpy array.")


def list_images(folder: str | Path, *, recursive: bool = False) -> list[Path]:
    """Lists the picture files of a folder in natural order: `part2.png` before `part10.png`.

    Args:
        folder: where to look for files that end in one of `SUFFIXES`. Hidden files and folders (with a leading dot)
            are left out.
        recursive: whether to look into subfolders, too. Links to folders are followed; each folder is looked into once,
            so links may lead in circles.

    Raises:
        ImageError: the folder does not exist, is a file or cannot be read.
    """
    root = expanded(folder)
    try:
        if not stat.S_ISDIR(root.stat().st_mode):
            raise ImageError(f"{_printable(str(root))} is a file; pass the folder that holds the pictures.")
        found = [
            path
            for path in (_below(root) if recursive else root.iterdir())
            if path.suffix.lower() in SUFFIXES
            and not any(part.startswith(".") for part in path.relative_to(root).parts)
            and path.is_file()
        ]
    except (OSError, ValueError) as error:
        where = getattr(error, "filename", None) or str(root)  # a folder below it
        raise ImageError(f"The folder {_printable(where)} cannot be read: {_reason(error)}.") from None
    return sorted(found, key=lambda path: (_natural(path.relative_to(root)), str(path)))


def _below(root: Path) -> Iterator[Path]:
    """Everything in a folder and its subfolders, what lies there in fact before what links lead to."""
    folders, links, seen = deque([root]), deque[Path](), set[Path]()
    while folders or links:
        folder = folders.popleft() if folders else links.popleft()
        place = folder.resolve()
        if place in seen:
            continue
        seen.add(place)
        for path in folder.iterdir():
            yield path
            if path.is_dir() and not path.name.startswith("."):
                (links if path.is_symlink() else folders).append(path)


def _natural(path: Path) -> list[list[str | int]]:
    """Sort key that compares runs of digits as numbers. Text and numbers alternate, so they are never compared."""
    return [
        [int(piece) if index % 2 else piece for index, piece in enumerate(re.split(r"([0-9]+)", part.casefold()))]
        for part in path.parts
    ]


def _read_file(path: Path, name: str | None) -> np.ndarray:
    label = _printable(name or path.name or str(path))
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"{label} is a folder; pass one picture file.")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{label} is not an ordinary file; copy the picture to one first.")
        with path.open("rb") as file:
            return _decode(file, status.st_size, label)
    except FileNotFoundError:
        raise ImageError(f"There is no file {_printable(name or str(path))}; check the path.") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"{label} cannot be opened: {_reason(error)}.") from None


def _decode(stream: IO[bytes], size: int, name: str) -> np.ndarray:
    """Encoded picture of `size` bytes -> RGB uint8 HxWx3 in the displayed frame."""
    if size == 0:
        raise ImageError(f"{name} is empty (0 bytes); save or copy it again.")
    if size > MAX_FILE_BYTES:
        limit = MAX_FILE_BYTES // 1_000_000
        raise ImageError(f"{name} has {size / 1e6:.0f} MB, over the limit of {limit} MB; scale the picture down first.")
    check_structure(stream, size, name)
    try:
        image = Image.open(stream, formats=FORMATS)
    except UnidentifiedImageError:
        raise ImageError(
            f"{name} is not a PNG, JPEG, WebP, BMP or TIFF picture that can be read; open it in an image editor "
            "and save it as an 8-bit PNG."
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"{name} has far more than {_MEGAPIXELS}; crop it or scale it down first.") from None
    except Exception as error:  # Pillow's decoders raise nearly any error on hostile bytes
        raise ImageError(f"{name} is damaged ({_reason(error)}); save or copy it again.") from None
    with image:
        return _displayed(image, name)


def _check_size(width: int, height: int, name: str) -> None:
    shape = f"{name} is {width} x {height} pixels"
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{shape}; each side needs at least {MIN_SIDE} pixels.")
    if width * height > MAX_PIXELS:
        raise ImageError(f"{shape}, over the limit of {_MEGAPIXELS}; crop it or scale it down first.")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(f"{shape}, more than {MAX_ASPECT} times as long as wide; cut it into pieces first.")


def _displayed(image: Image.Image, name: str) -> np.ndarray:
    """PIL image, which may not be decoded yet -> RGB uint8 HxWx3 in the displayed frame."""
    _check_size(*image.size, name)
    try:
        image.load()  # decodes; `verify` would let a truncated JPEG pass
        rgb = _to_rgb(image, name)
        # Only the orientation is kept: exif_transpose rewrites all of EXIF, which fails where other tags are malformed.
        rgb.info.clear()
        rgb.getexif()[ExifTags.Base.Orientation] = _orientation(image)
        return np.array(ImageOps.exif_transpose(rgb), order="C")
    except ImageError:
        raise
    except Exception as error:  # see _decode
        raise ImageError(f"{name} is damaged or cut short ({_reason(error)}); save or copy it again.") from None


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
    except Exception:  # see _decode; viewers show such a picture as it is stored, too
        return 1


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Decoded PIL image of any mode -> new RGB image, without its EXIF orientation applied."""
    if image.mode.startswith("I") or image.mode == "F":  # convert() would clip these to 255
        depth = _tiff_depth(image, name)
        values = np.asarray(image)
        if image.mode == "I":  # 32 bits; often a converted 16-bit picture
            if values.min() < 0 or values.max() > 65535:
                raise ImageError(f"{name} has 32-bit values outside 0 to 65535; scale them to 8 or 16 bits first.")
            values = values.astype(np.uint16)
        image = Image.fromarray(_to_uint8(values, name, depth=depth))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _tiff_depth(image: Image.Image, name: str) -> int:
    """Bits per pixel of a grey picture with more than 8 bits: 12 where a TIFF stores 12 bits per pixel, else 16.

    Raises:
        ImageError: Pillow would read this kind of TIFF with wrong values and without an error.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return 16
    tags = image.tag_v2
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:
        raise ImageError(f"{name} is a white-is-zero TIFF of more than 8 bits, which is not supported; save it as PNG.")
    if image.mode == "F" and tags.prefix == b"MM" and tags.get(TiffImagePlugin.COMPRESSION, 1) != 1:
        raise ImageError(f"{name} is a compressed big-endian float TIFF, which is not supported; save it uncompressed.")
    return 12 if tags.get(TiffImagePlugin.BITSPERSAMPLE) == (12,) else 16


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    """Array -> PIL image with 8 bits per channel, a copy."""
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise ImageError(f"{name} is an array of shape {array.shape}; pass HxW, HxWx1, HxWx3 (RGB) or HxWx4 (RGBA).")
    _check_size(array.shape[1], array.shape[0], name)
    if array.ndim == 3 and channels == 1:
        array = array[..., 0]
    return Image.fromarray(_to_uint8(array, name))


def _to_uint8(values: np.ndarray, name: str, *, depth: int = 16) -> np.ndarray:
    """Scales values to 0-255 by their type (and for uint16 the depth in bits), never by the picture's brightness."""
    kind = values.dtype.kind + str(values.dtype.itemsize)
    if kind == "b1":
        white: np.ndarray = values.astype(np.uint8) * np.uint8(255)
        return white
    if kind == "u1":
        return values
    if kind == "u2":
        if depth == 16 and 0 < values.max() < 4096:
            warnings.warn(
                "A 16-bit picture uses only values below 4096 and comes out almost black. If its depth is 12 bits or "
                "less, scale it first, for example with (array >> 4).astype(numpy.uint8).",
                stacklevel=2,
            )
        return (values >> (depth - 8)).astype(np.uint8)
    if kind in ("f2", "f4", "f8"):
        if not (values.min() >= -_FLOAT_SLACK and values.max() <= 1 + _FLOAT_SLACK):  # NaN compares False
            raise ImageError(
                f"{name} has float values that are not in [0, 1]; divide by the full range, say 255, first."
            )
        return np.rint(values.clip(0, 1).astype(np.float32) * 255).astype(np.uint8)
    raise ImageError(f"{name} is an array of {values.dtype}; convert it to uint8, uint16 or float in [0, 1] first.")


def _reason(error: Exception) -> str:
    """The message of an error, safe to print."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return _printable(text or type(error).__name__).rstrip(".")


def _printable(text: str) -> str:
    """Text from outside made safe to print: one line, no control characters, at most 200 characters."""
    return "".join(char if char.isprintable() else "?" for char in text[:200])
