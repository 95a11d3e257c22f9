"""How many bits of a 16-bit picture a camera fills, and how its values become 8 bits.

A camera of 10, 12 or 14 bits writes files of 16. Where its values are at the upper end of each pixel, nothing is to be
done; where they are at the lower end, 65535 is not white and the picture comes out nearly black. The depth is a
property of the part and not of a picture: guessed for each by itself, a dark photograph would come out as bright as its
neighbours. So it is found on all photographs of good parts together, see `depth_of`, or named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image

from ..errors import ConfigError
from ..models.stlm.judging import BITS

DARK = 16
"""How many times as dark as white a picture's brightest value may be: one of 12 bits, read as 16, is darker."""

_OTHER_BYTE = {  # of the raw modes of which Pillow keeps the high bytes: what reads the low ones
    "RGB;16B": "RGB;16L",
    "RGB;16L": "RGB;16B",
    "RGBA;16B": "RGBA;16L",
    "RGBA;16L": "RGBA;16B",
}
_GREY_WITH_ALPHA = "LA;16B"
_NATIVE = {True: "L", False: "B"}


def check_bits(bits: int | None) -> None:
    """Raises ConfigError for what is neither None nor one of `BITS`."""
    if bits is not None and (type(bits) is not int or bits not in BITS):
        raise ConfigError(f"bits must be one of {list(BITS)}, the bits of the camera, not {bits!r:.60}.")


def fitting(top: int) -> int:
    """The smallest depth that holds a value."""
    return next(bits for bits in BITS if top < 1 << bits or bits == BITS[-1])


def depth_of(tops: Iterable[int]) -> int | None:
    """The depth of a part's photographs: the smallest that holds the highest value of each; None: none has 16 bits."""
    highest = max(tops, default=None)
    return None if highest is None else fitting(highest)


def to_8_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """uint16 of any shape -> uint8: 0 to 2^bits - 1 become 0 to 255, what is above is white."""
    scaled: np.ndarray = values >> (bits - 8)
    np.minimum(scaled, 255, out=scaled)
    return scaled.astype(np.uint8)


def depth_note(name: str, top: int | None, bits: int | None) -> str:
    """A sentence where the depth that a picture was read with does not suit it; "": it does.

    Args:
        name: of the picture.
        top: its highest value of 16 bits; None: it has 8.
        bits: that it was read with; None: nobody knows, so it was 16.
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
    """Colours of 16 bits, of which Pillow keeps the high bytes: HxWx3, HxWx4 or (grey with alpha) HxWx2 uint16.

    Args:
        image: opened, not decoded yet; it is decoded where this returns an array.
        again: opens the same picture once more.

    Returns:
        None: it is of another kind.
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
    """How the pixels of a picture that is not decoded yet are stored, e.g. "RGB;16B"; "": it is decoded, or unknown."""
    tiles = getattr(image, "tile", None)
    if not tiles:
        return ""
    found = tiles[0].args if isinstance(tiles[0].args, str) else (tiles[0].args or ("",))[0]
    return found[:-1] + _NATIVE[np.little_endian] if isinstance(found, str) and found.endswith(";16N") else str(found)


def is_deep(image: Image.Image) -> bool:
    """Whether a picture that is not decoded yet has colours of which Pillow would keep the high bytes alone."""
    return raw_mode(image) in (*_OTHER_BYTE, _GREY_WITH_ALPHA)


def _read_as(image: Image.Image, raw: str) -> Image.Image:
    """The same picture, decoded as if its pixels were stored in another way of the same size."""
    image.tile = [  # type: ignore[attr-defined]  # of an ImageFile
        tile._replace(args=raw if isinstance(tile.args, str) else (raw, *tile.args[1:]))
        for tile in image.tile  # type: ignore[attr-defined]
    ]
    image.load()
    return image
