"""Whole pictures that mutations start from: one of each kind that the decoders of `load_image` know."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pillow_heif
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo


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
    deep_colours = np.dstack([rgb.astype(np.uint16) << 4, np.full(grey.shape, 65535, np.uint16)])
    text = PngInfo()
    text.add_itxt("history", "x" * 5000, zip=True)
    return {
        "rgb.png": encoded(colour, "PNG"),
        "grey16.png": encoded(deep, "PNG"),
        "rgb12.png": cv2.imencode(".png", deep_colours[..., :3])[1].tobytes(),
        "rgba12.png": cv2.imencode(".png", deep_colours)[1].tobytes(),
        "text.png": encoded(colour, "PNG", pnginfo=text),
        "profile.png": encoded(colour, "PNG", icc_profile=profile),
        "palette.png": encoded(colour.quantize(16), "PNG", transparency=3),
        "animated.png": encoded(colour, "PNG", save_all=True, append_images=frames[1:]),
        "turned.png": encoded(colour, "PNG", exif=exif),
        "bomb.png": png(30_000, 30_000, 8, 0, bytes(10_000)),
        "baseline.jpg": encoded(colour, "JPEG", quality=80),
        "progressive.jpg": encoded(colour, "JPEG", quality=80, progressive=True, exif=exif, icc_profile=profile),
        "cmyk.jpg": encoded(colour.convert("CMYK"), "JPEG"),
        "two.mpo": encoded(colour, "MPO", save_all=True, append_images=frames[1:]),
        "lossy.webp": encoded(colour, "WEBP", quality=70, exif=exif),
        "lossless.webp": encoded(colour.convert("RGBA"), "WEBP", lossless=True),
        "animated.webp": encoded(colour, "WEBP", save_all=True, append_images=frames[1:]),
        "rgb.bmp": encoded(colour, "BMP"),
        "bilevel.bmp": encoded(colour.convert("1"), "BMP"),
        "raw.tif": encoded(colour, "TIFF"),
        "lzw.tif": encoded(colour, "TIFF", compression="tiff_lzw"),
        "jpeg.tif": encoded(colour, "TIFF", compression="jpeg"),
        "deflate16.tif": encoded(deep, "TIFF", compression="tiff_adobe_deflate"),
        "rgb12.tif": cv2.imencode(".tif", deep_colours[..., :3])[1].tobytes(),
        "cmyk.tif": encoded(colour.convert("CMYK"), "TIFF", icc_profile=profile),
        "turned.tif": encoded(colour, "TIFF", exif=exif),
        "float.tif": encoded(Image.fromarray(grey.astype(np.float32) / 255), "TIFF"),
        "pages.tif": encoded(colour, "TIFF", save_all=True, append_images=frames[1:]),
        "phone.heic": _heic(colour),
    }


def _heic(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    pillow_heif.from_pillow(image).save(stream, quality=60)
    return stream.getvalue()


def png(
    width: int, height: int, depth: int, colour: int, rows: bytes, more: tuple[bytes, bytes] | None = None
) -> bytes:
    """A PNG of these rows, whatever they are, with one further chunk."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    extra = chunk(*more) if more else b""
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """An image as a file; neither it nor the options are changed."""
    stream = io.BytesIO()
    if "append_images" in options:
        options["append_images"] = [frame.copy() for frame in options["append_images"]]
    image.copy().save(stream, kind, **options)  # saving leaves its options in an image
    return stream.getvalue()
