"""Decoded pixels of any mode and type -> 8-bit RGB, before the EXIF orientation is applied."""

from __future__ import annotations

import numpy as np
from PIL import Image, TiffImagePlugin

from ..errors import ImageError
from .colours import to_srgb
from .depth import to_8_bits

_FLOAT_SLACK = 1e-3  # floats this far outside [0, 1] count as rounding errors: a quarter of a grey level


def to_rgb(
    image: Image.Image, name: str, bits: int | None, deep: np.ndarray | None, profile: bytes | None
) -> tuple[Image.Image, int | None, str]:
    """Decoded PIL image of any mode -> new RGB image, without its EXIF orientation applied.

    Args:
        image: decoded.
        name: of the picture, for errors.
        bits: depth of a 16-bit picture; None: 16.
        deep: all 16 bits of a colour picture, see `deep_colours`; None: it is none.
        profile: embedded ICC profile, if any.

    Returns:
        The image; the highest value of a 16-bit picture, or None; why its profile was not applied, or "".

    Raises:
        ImageError: its values are out of range, or Pillow would read them wrongly.
    """
    top = None
    if image.mode.startswith("I") or image.mode == "F":  # convert() would clip these to 255
        depth = _tiff_depth(image, name)
        values = np.asarray(image)
        if image.mode == "I":  # 32 bits, often a converted 16-bit picture
            if values.min() < 0 or values.max() > 65535:
                raise ImageError(f"{name} has 32-bit values outside 0 to 65535; scale them to 8 or 16 bits first.")
            values = values.astype(np.uint16)
        if image.mode != "F" and depth == 16:
            top, depth = int(values.max()), bits or 16
        image = Image.fromarray(to_uint8(values, name, depth))
    elif deep is not None:
        scaled, top = deep_to_uint8(deep, bits)
        image = Image.fromarray(scaled)
    elif image.has_transparency_data:
        image = image.convert("RGBA")
    if image.mode == "P":
        image = image.convert("RGB")
    if image.mode not in ("RGBA", "LA"):
        image, note = to_srgb(image, profile)
        return image.convert("RGB"), top, note
    colours, note = to_srgb(image.convert("RGB"), profile)
    colours = colours.convert("RGBA")
    colours.putalpha(image.getchannel("A"))
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours).convert("RGB"), top, note


def deep_to_uint8(values: np.ndarray, bits: int | None) -> tuple[np.ndarray, int]:
    """HxWx2 (grey, alpha), HxWx3 or HxWx4 uint16 -> same in uint8, and the highest value outside the alpha channel."""
    alpha = values.shape[2] in (2, 4)
    colours = values[..., :-1] if alpha else values
    top, scaled = int(colours.max()), to_8_bits(colours, bits or 16)
    if not alpha:
        return scaled, top
    opacity = values[..., -1:]
    alpha_bits = bits if bits and opacity.max() < 1 << bits else 16  # some write alpha with the camera's depth too
    return np.concatenate([scaled, to_8_bits(opacity, alpha_bits)], axis=2), top


def to_uint8(values: np.ndarray, name: str, depth: int) -> np.ndarray:
    """Scales values to 0-255 by their type, never by the picture's brightness.

    Args:
        values: bool, uint8, uint16 or float in [0, 1], any shape.
        name: of the picture, for errors.
        depth: bits that uint16 values use.

    Raises:
        ImageError: they are of another type, or floats outside [0, 1].
    """
    kind = values.dtype.kind + str(values.dtype.itemsize)
    if kind == "b1":
        white: np.ndarray = values.astype(np.uint8) * np.uint8(255)
        return white
    if kind == "u1":
        return values
    if kind == "u2":
        return to_8_bits(values, depth)
    if kind in ("f2", "f4", "f8"):
        if not (values.min() >= -_FLOAT_SLACK and values.max() <= 1 + _FLOAT_SLACK):  # NaN compares False
            raise ImageError(
                f"{name} has float values that are not in [0, 1]; divide by the full range, say 255, first."
            )
        return np.rint(values.clip(0, 1).astype(np.float32) * 255).astype(np.uint8)
    raise ImageError(f"{name} is an array of {values.dtype}; convert it to uint8, uint16 or float in [0, 1] first.")


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
