"""The bit depth of a camera in 16-bit pictures, and how their values become 8 bits.

A camera of 10, 12 or 14 bits writes files of 16. If its values fill the upper bits of each pixel, nothing is to be
done. If they fill the lower bits, white is not 65535, and the picture comes out nearly black. The depth must not be
guessed for each picture: a dark photograph would come out as bright as any other. So it is found on all photographs of
good parts together, see `depth_of`, or the user names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image

from ..errors import ConfigError
from ..models.stlm.judging import BITS

DARK = 16
"""A picture whose highest value is below 1 / `DARK` of white is nearly black, as one of 12 bits that is read as 16."""

_OTHER_BYTE = {  # raw modes of which Pillow keeps the high bytes -> the raw mode that reads the low bytes
    "RGB;16B": "RGB;16L",
    "RGB;16L": "RGB;16B",
    "RGBA;16B": "RGBA;16L",
    "RGBA;16L": "RGBA;16B",
}
_GREY_WITH_ALPHA = "LA;16B"
_NATIVE = {True: "L", False: "B"}


def check_bits(bits: int | None) -> None:
    """Raises ConfigError unless `bits` is None or one of `BITS`."""
    if bits is not None and (type(bits) is not int or bits not in BITS):
        raise ConfigError(f"bits must be one of {list(BITS)}, the bits of the camera, not {bits!r:.60}.")


def fitting(top: int) -> int:
    """The smallest of `BITS` that holds a value; 16 for a larger one."""
    return next(bits for bits in BITS if top < 1 << bits or bits == BITS[-1])


def depth_of(tops: Iterable[int]) -> int | None:
    """The depth of photographs, from the highest value of each that has 16 bits; None: there is no such photograph."""
    highest = max(tops, default=None)
    return None if highest is None else fitting(highest)


def to_8_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """uint16 of any shape -> uint8: 0 to 2^bits - 1 become 0 to 255; higher values become 255."""
    scaled: np.ndarray = values >> (bits - 8)
    np.minimum(scaled, 255, out=scaled)
    return scaled.astype(np.uint8)


def depth_note(name: str, top: int | None, bits: int | None) -> str:
    """A sentence if a picture was probably read with the wrong depth; "": it was not.

    Args:
        name: of the picture.
        top: its highest value; None: it has 8 bits.
        bits: depth that it was read with; None: not known, so 16.
    """
    if not top:
        return ""
    if bits is None and (fits := fitting(top)) < 16:
        return (
            f"{name} is a 16-bit picture that uses only values below {1 << fits}, as a camera of {fits} bits writes "
            f"them, and comes out {1 << (16 - fits)} times too dark; if it is one, say so with bits {fits} (--bits)."
        )
    if bits is not None and top < (1 << bits) // DARK:
        return (
            f"{name} uses only values below {top + 1} of {bits} bits and comes out nearly black; was the camera set "
            "otherwise than for the photographs of good parts?"
        )
    if bits is not None and top >= 1 << bits:
        return (
            f"{name} has values up to {top}, above the {bits} bits of the photographs that the model knows, which "
            "count as white; set the camera as it was, or find the threshold anew with: stlm calibrate"
        )
    return ""


def deep_colours(image: Image.Image, again: Callable[[], Image.Image]) -> np.ndarray | None:
    """All 16 bits of a colour picture, of which Pillow itself keeps the high bytes only.

    Args:
        image: opened, not decoded yet. It is decoded if this returns an array.
        again: opens the same picture once more.

    Returns:
        HxWx3, HxWx4 or (grey with alpha) HxWx2 uint16; None: it is no such picture.
    """
    raw = raw_mode(image)
    if raw == _GREY_WITH_ALPHA:  # its bytes, read as if they were four channels
        pairs = np.asarray(_read_as(again(), "RGBA"), np.uint16)
        image.load()
        return pairs[..., ::2] << 8 | pairs[..., 1::2]
    if raw not in _OTHER_BYTE:
        return None
    image.load()
    values = np.asarray(image).astype(np.uint16)
    values <<= 8
    values |= np.asarray(_read_as(again(), _OTHER_BYTE[raw]))
    return values


def raw_mode(image: Image.Image) -> str:
    """Pillow's raw mode of a picture that is not decoded yet, e.g. "RGB;16B"; "": it is decoded, or unknown."""
    tiles = getattr(image, "tile", None)
    if not tiles:
        return ""
    raw = tiles[0].args if isinstance(tiles[0].args, str) else (tiles[0].args or ("",))[0]
    return raw[:-1] + _NATIVE[np.little_endian] if isinstance(raw, str) and raw.endswith(";16N") else str(raw)


def is_deep(image: Image.Image) -> bool:
    """Whether Pillow would keep only the high bytes of a picture that is not decoded yet, see `deep_colours`."""
    return raw_mode(image) in (*_OTHER_BYTE, _GREY_WITH_ALPHA)


def _read_as(image: Image.Image, raw: str) -> Image.Image:
    """Decodes a picture as if its pixels were stored in another raw mode of the same size."""
    image.tile = [  # type: ignore[attr-defined]  # of an ImageFile
        tile._replace(args=raw if isinstance(tile.args, str) else (raw, *tile.args[1:]))
        for tile in image.tile  # type: ignore[attr-defined]
    ]
    image.load()
    return image
