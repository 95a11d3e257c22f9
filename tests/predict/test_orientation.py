"""EXIF turns a picture once, whatever else it says."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from encoded import encode, grey, photo
from PIL import Image

from stlm_hub.predict.images import load_image

TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied_once(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(photo(), format, exif=exif, **({"lossless": True} if format == "WEBP" else {}))
    stored = photo()
    if format == "JPEG":
        stored = np.asarray(Image.open(io.BytesIO(encode(photo(), format))))
    expected = TURNS[orientation](stored)
    assert np.array_equal(load_image(data), expected)
    assert np.array_equal(load_image(Image.open(io.BytesIO(data))), expected)


def test_exif_orientation_is_applied_to_16_bits() -> None:
    values = np.arange(16 * 20, dtype=np.uint16).reshape(16, 20) * 200
    exif = Image.Exif()
    exif[0x0112] = 6
    expected = grey(np.rot90(values >> 8, -1).astype(np.uint8))
    assert np.array_equal(load_image(encode(Image.fromarray(values), exif=exif)), expected)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01"])
def test_a_picture_with_malformed_exif_is_read(exif: bytes) -> None:
    assert np.array_equal(load_image(encode(photo(), exif=exif)), photo())


def test_orientation_is_applied_beside_a_malformed_tag() -> None:
    entries = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)  # orientation 6
    entries += struct.pack("<HHII", 0x0131, 5, 1, 26)  # software, which is a text, stored as a fraction
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + struct.pack("<I", 0) + b"\xff" * 40
    assert np.array_equal(load_image(encode(photo(), exif=exif)), np.rot90(photo(), -1))
