"""Whole pictures at the ends of what there is: tiny, long, huge, deep, and files larger inside than outside."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from fuzz.seeds import encoded, png
from PIL import Image


def extremes() -> dict[str, tuple[bool, Callable[[], bytes]]]:
    """By name: whether it is a picture that is read, and what makes it."""
    noise = Image.effect_noise((400, 300), 60)
    exif = Image.Exif()
    exif[274] = 8
    steps = Image.fromarray(np.arange(4000, dtype=np.uint16).reshape(50, 80))
    nan = np.full((40, 50), 0.5, np.float32)
    nan[3, 4] = np.nan
    return {
        "1x1.png": (False, lambda: encoded(Image.new("RGB", (1, 1)), "PNG")),
        "1x20000.png": (False, lambda: encoded(Image.new("RGB", (1, 20_000)), "PNG")),
        "20000x1.jpg": (False, lambda: encoded(Image.new("RGB", (20_000, 1)), "JPEG")),
        "9x20000.png": (False, lambda: encoded(Image.new("L", (9, 20_000)), "PNG")),
        "8x400.png": (True, lambda: encoded(noise.resize((8, 400)), "PNG")),
        "39 megapixels.jpg": (True, lambda: encoded(noise.resize((7500, 5200)), "JPEG")),
        "39 megapixels of 16 bits.png": (True, lambda: png(7500, 5200, 16, 0, bytes(5200 * 15_001))),
        "39 megapixels of 48 bits.png": (True, lambda: png(7500, 5200, 16, 2, bytes(5200 * 45_001))),
        "60 megapixels.jpg": (False, lambda: encoded(noise.resize((9000, 6700)), "JPEG")),
        "60 megapixels.png": (False, lambda: png(9000, 6700, 8, 0, bytes(6700 * 9001))),
        "900 megapixels.png": (False, lambda: png(30_000, 30_000, 8, 0, bytes(10_000))),
        "16 bits.png": (
            True,
            lambda: encoded(steps, "PNG"),
        ),
        "float.tif": (True, lambda: encoded(Image.fromarray(np.full((40, 50), 0.5, np.float32)), "TIFF")),
        "float with NaN.tif": (False, lambda: encoded(Image.fromarray(nan), "TIFF")),
        "cmyk.jpg": (True, lambda: encoded(noise.convert("CMYK"), "JPEG")),
        "animated.webp": (True, lambda: _animated(noise, "WEBP")),
        "animated.png": (True, lambda: _animated(noise, "PNG")),
        "animated.gif": (False, lambda: _animated(noise, "GIF")),
        "turned.jpg": (True, lambda: encoded(noise, "JPEG", exif=exif)),
        "jpeg.png": (True, lambda: encoded(noise, "JPEG")),
        "profile of 20 MB.png": (True, lambda: encoded(noise, "PNG", icc_profile=bytes(20_000_000))),
        "text of 200 MB.png": (True, _long_text),
        "zip.png": (False, _zip),
        "empty.png": (False, bytes),
        "text.png": (False, lambda: b"This is not a picture. " * 100),
        "pointer.jpg": (False, lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"),
    }


def _animated(image: Image.Image, kind: str) -> bytes:
    frames: list[Any] = [image.rotate(90 * i).convert("RGB") for i in range(3)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


def _long_text() -> bytes:
    squeezer = zlib.compressobj(9)
    data = b"".join(squeezer.compress(bytes(10_000_000)) for _ in range(20)) + squeezer.flush()
    return png(40, 30, 8, 0, bytes(30 * 41), (b"zTXt", b"history\0\0" + data))


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(50_000_000))
    return stream.getvalue()
