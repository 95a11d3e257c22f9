"""Untrusted pictures -> RGB uint8 arrays, or an `ImageError`.

Every picture that enters the library passes through `read_picture`. It treats each kind of picture like this:

- Files: PNG, JPEG, WebP, BMP and TIFF only, and HEIC where pillow-heif is installed, whatever their names end in.
  Limits on bytes, pixels and aspect ratio are checked on the header (`picture_file`), limits on parts by
  `image_structure`, before any pixel is decoded. The first of several frames or pages is used, and a note says so.
- Orientation: the EXIF orientation is applied, so the array is what a viewer shows.
- Transparency: the picture is composited on white. A fully transparent picture becomes white.
- Grey, palette, CMYK, YCbCr, Lab: converted to RGB. Embedded colour profiles are applied, see `colours`.
- 16 bits: 0 to 2^bits - 1 become 0-255, where `bits` is what the caller knows of the camera, see `depth`; by default
  all 16, with a note where a picture uses fewer. Only a TIFF that stores 12 bits per pixel is read as 0-4095 without
  being told. A range guessed from the brightest pixel would give two pictures of one camera two scales. For the same
  reason a PNG's sBIT and a TIFF's MaxSampleValue change nothing.
- Float: values must be in [0, 1] and are multiplied by 255.
"""

from __future__ import annotations

import io
import re
import stat
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from PIL import Image

from ..errors import ImageError, PictureWarning
from ..validate import expanded
from .depth import check_bits, deep_colours, depth_note, is_deep
from .kinds import HEIC_SUFFIXES, left_out, reads_heic
from .orientation import as_shown
from .picture_file import check_size, opened
from .pixels import deep_to_uint8, to_rgb, to_uint8
from .printable import printable, reason

ImageInput: TypeAlias = str | Path | bytes | Image.Image | np.ndarray
"""What `load_image` accepts. Arrays are HxW, HxWx1, HxWx3 (RGB) or HxWx4 (RGBA)."""

SUFFIXES = (".bmp", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp", *HEIC_SUFFIXES)
"""Suffixes of picture files, in lower case. HEIC files are read if pillow-heif is installed."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture that was read.

    Args:
        image: RGB uint8 HxWx3, C-contiguous, as displayed.
        notes: sentences on why the image may not be what was meant.
        top: highest value of a 16-bit picture; None: it has 8 bits, or states its depth itself.
    """

    image: np.ndarray
    notes: tuple[str, ...] = ()
    top: int | None = None


def load_image(source: ImageInput, *, name: str | None = None, bits: int | None = None) -> np.ndarray:
    """`read_picture`: its image HxWx3 uint8 RGB. Its notes become warnings of the class `PictureWarning`."""
    picture = read_picture(source, name=name, bits=bits)
    for note in picture.notes:
        warnings.warn(note, PictureWarning, stacklevel=2)
    return picture.image


def read_picture(source: ImageInput, *, name: str | None = None, bits: int | None = None) -> Picture:
    """Reads any supported picture as a viewer shows it.

    Args:
        source: path, encoded bytes, PIL image (its current frame) or array: HxW, HxWx1, HxWx3 or HxWx4 of uint8,
            uint16, bool or float in [0, 1]. It is not modified, and the result shares no memory with it.
        name: name of the picture in error messages; by default its file name, or "The image".
        bits: that pictures of 16 bits use, one of `BITS`; None: 16, with a note where a picture uses fewer.

    Returns:
        The picture with the EXIF orientation applied.

    Raises:
        ImageError: the picture is missing, damaged, of an unsupported kind, or outside the limits of `picture_file`.
        ConfigError: there is no such depth.
    """
    check_bits(bits)
    if isinstance(source, (str, Path)):
        return _read_file(expanded(source), name, bits)
    label = printable(name or "The image")
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), len(source), label, bits)
    if isinstance(source, Image.Image):
        note = f"{label} has 16 bits, of which PIL images of colours keep 8; pass its path instead."
        deep = is_deep(source)
        picture = _displayed(source, label, bits)
        return Picture(picture.image, (*picture.notes, note), picture.top) if deep else picture
    if isinstance(source, np.ndarray):
        return _from_array(source, label, bits)
    raise ImageError(f"{label} is a {type(source).__name__}; pass a path, bytes, a PIL image or a numpy array.")


def list_images(folder: str | Path, *, recursive: bool = False) -> list[Path]:
    """Lists the picture files of a folder in natural order: `part2.png` before `part10.png`.

    Args:
        folder: with files that end in one of `SUFFIXES`. Hidden files and folders (with a leading dot) are left out. So
            are HEIC files if they cannot be read, see `note_left_out`.
        recursive: whether to list subfolders too. Links to folders are followed. Each folder is listed once, so links
            may lead in circles.

    Raises:
        ImageError: the folder does not exist, is a file or cannot be read.
    """
    return [path for path in _all_images(expanded(folder), recursive) if _is_read(path)]


def note_left_out(folder: str | Path, *, recursive: bool = False) -> str:
    """A sentence on the HEIC files of a folder that `list_images` leaves out; "": it leaves out none."""
    return "" if reads_heic() else left_out(_all_images(expanded(folder), recursive))


def is_listed(path: Path, root: Path) -> bool:
    """Whether `list_images(root, recursive=True)` lists a file at this path, by its name."""
    return _is_image(path, root) and _is_read(path)


def in_order(paths: Iterable[Path], root: Path) -> list[Path]:
    """Paths below a folder in natural order."""
    return sorted(paths, key=lambda path: (natural(path.relative_to(root)), str(path)))


def natural(path: Path) -> list[list[str | int]]:
    """Sort key that compares runs of digits as numbers. Text and numbers alternate, so they are never compared."""
    return [
        [int(piece) if index % 2 else piece for index, piece in enumerate(re.split(r"([0-9]+)", part.casefold()))]
        for part in path.parts
    ]


def _all_images(root: Path, recursive: bool) -> list[Path]:
    """`list_images`, with HEIC files whether they can be read or not."""
    try:
        if not stat.S_ISDIR(root.stat().st_mode):
            raise ImageError(f"{printable(str(root))} is a file; pass the folder that holds the pictures.")
        found = [
            path for path in (_below(root) if recursive else root.iterdir()) if _is_image(path, root) and path.is_file()
        ]
    except (OSError, ValueError) as error:
        where = getattr(error, "filename", None) or str(root)  # or a subfolder
        raise ImageError(f"The folder {printable(where)} cannot be read: {reason(error)}.") from None
    return in_order(found, root)


def _is_read(path: Path) -> bool:
    """Whether a picture of this name can be read here."""
    return path.suffix.lower() not in HEIC_SUFFIXES or reads_heic()


def _is_image(path: Path, root: Path) -> bool:
    """Whether a name is that of a picture, and neither it nor a folder between it and the root is hidden."""
    return path.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in path.relative_to(root).parts)


def _below(root: Path) -> Iterator[Path]:
    """Yields everything in a folder and its subfolders: first real folders, then those that links lead to."""
    folders, links, listed = deque([root]), deque[Path](), set[Path]()
    while folders or links:
        folder = folders.popleft() if folders else links.popleft()
        place = folder.resolve()
        if place in listed:
            continue
        listed.add(place)
        for path in folder.iterdir():
            yield path
            if path.is_dir() and not path.name.startswith("."):
                (links if path.is_symlink() else folders).append(path)


def _read_file(path: Path, name: str | None, bits: int | None) -> Picture:
    """`read_picture` for a path."""
    label = printable(name or path.name or str(path))
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"{label} is a folder; pass one picture file.")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{label} is not an ordinary file; copy the picture to one first.")
        with path.open("rb") as file:
            return _decode(file, status.st_size, label, bits)
    except FileNotFoundError:
        raise ImageError(f"There is no file {printable(name or str(path))}; check the path.") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"{label} cannot be opened: {reason(error)}.") from None


def _decode(stream: IO[bytes], size: int, name: str, bits: int | None) -> Picture:
    """`read_picture` for an encoded picture of `size` bytes."""
    with opened(stream, size, name) as (image, again):
        return _displayed(image, name, bits, again)


def _displayed(
    image: Image.Image, name: str, bits: int | None, again: Callable[[], Image.Image] | None = None
) -> Picture:
    """`read_picture` for a PIL image, decoded or not; `again` opens the same file once more, if it comes from one."""
    check_size(*image.size, name)
    try:
        several = again is not None and _several(image)
        profile = image.info.get("icc_profile")
        deep = deep_colours(image, again) if again else None
        image.load()  # decodes; `verify` would let a truncated JPEG pass
        check_size(*image.size, name)  # a HEIC's header may say another one
        rgb, top, note = to_rgb(image, name, bits, deep, profile)
        shown = as_shown(rgb, image)
    except ImageError:
        raise
    except Exception as error:  # see `opened`
        raise ImageError(f"{name} is damaged or cut short ({reason(error)}); save or copy it again.") from None
    first = f"{name} holds several pictures; the first is used." if several else ""
    notes = (first, f"{name} {note}." if note else "", depth_note(name, top, bits))
    return Picture(shown, tuple(filter(None, notes)), top)


def _several(image: Image.Image) -> bool:
    """Whether a file holds several frames or pages. Further pictures in a phone's JPEG or HEIC do not count."""
    if image.format == "TIFF":  # `n_frames` would follow the whole chain, which a file can make as long as it likes
        return bool(getattr(image, "tag_v2", None) and image.tag_v2.next)  # type: ignore[attr-defined]
    return image.format in ("PNG", "WEBP") and bool(getattr(image, "is_animated", False))


def _from_array(array: np.ndarray, name: str, bits: int | None) -> Picture:
    """`read_picture` for an array, which is copied."""
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise ImageError(f"{name} is an array of shape {array.shape}; pass HxW, HxWx1, HxWx3 (RGB) or HxWx4 (RGBA).")
    check_size(array.shape[1], array.shape[0], name)
    if array.ndim == 3 and channels == 1:
        array = array[..., 0]
    if array.dtype.kind + str(array.dtype.itemsize) != "u2":
        return _displayed(Image.fromarray(to_uint8(array, name, 16)), name, bits)
    native = array.astype(np.uint16)
    scaled, top = deep_to_uint8(native if native.ndim == 3 else np.repeat(native[..., None], 3, axis=2), bits)
    return Picture(
        _displayed(Image.fromarray(scaled), name, bits).image, tuple(filter(None, [depth_note(name, top, bits)])), top
    )
