"""Whole pictures that mutations start from: one of each kind that the decoders of `load_image` know."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageCms


def seed_pictures() -> dict[str, bytes]:
    """Encoded pictures by name, 48 x 40 pixels each; the same bytes on every call with one version of Pillow."""
    y, x = np.mgrid[0:40, 0:48]
    grey = (x * 3 + y * 2).astype(np.uint8)
    rgb = np.stack([grey, 255 - grey, (x * y % 256).astype(np.uint8)], axis=2)
    colour = Image.fromarray(rgb)
    frames = [colour, Image.fromarray(rgb[::-1].copy())]
    exif = Image.Exif()
    exif[274] = 6  # turned by 90 degrees
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    deep = Image.fromarray(grey.astype(np.uint16) << 8)
    return {
        "rgb.png": _encoded(colour, "PNG"),
        "grey16.png": _encoded(deep, "PNG"),
        "palette.png": _encoded(colour.quantize(16), "PNG", transparency=3),
        "animated.png": _encoded(colour, "PNG", save_all=True, append_images=frames[1:]),
        "turned.png": _encoded(colour, "PNG", exif=exif),
        "bomb.png": _bomb(),
        "baseline.jpg": _encoded(colour, "JPEG", quality=80),
        "progressive.jpg": _encoded(colour, "JPEG", quality=80, progressive=True, exif=exif, icc_profile=profile),
        "cmyk.jpg": _encoded(colour.convert("CMYK"), "JPEG"),
        "two.mpo": _encoded(colour, "MPO", save_all=True, append_images=frames[1:]),
        "lossy.webp": _encoded(colour, "WEBP", quality=70, exif=exif),
        "lossless.webp": _encoded(colour.convert("RGBA"), "WEBP", lossless=True),
        "animated.webp": _encoded(colour, "WEBP", save_all=True, append_images=frames[1:]),
        "rgb.bmp": _encoded(colour, "BMP"),
        "bilevel.bmp": _encoded(colour.convert("1"), "BMP"),
        "raw.tif": _encoded(colour, "TIFF"),
        "lzw.tif": _encoded(colour, "TIFF", compression="tiff_lzw"),
        "jpeg.tif": _encoded(colour, "TIFF", compression="jpeg"),
        "deflate16.tif": _encoded(deep, "TIFF", compression="tiff_adobe_deflate"),
        "float.tif": _encoded(Image.fromarray(grey.astype(np.float32) / 255), "TIFF"),
        "pages.tif": _encoded(colour, "TIFF", save_all=True, append_images=frames[1:]),
    }


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    if "append_images" in options:
        options["append_images"] = [frame.copy() for frame in options["append_images"]]
    image.copy().save(stream, kind, **options)  # saving leaves its options in an image
    return stream.getvalue()


def _bomb() -> bytes:
    """A PNG of 30,000 x 30,000 pixels in a few bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")
