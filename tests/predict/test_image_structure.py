"""Small files that would take minutes or gigabytes to read: each is refused at once, and its harmless kin are read."""

from __future__ import annotations

import io
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stlm_hub.errors import ImageError
from stlm_hub.predict import image_structure, images
from stlm_hub.predict.images import load_image

QUICK = 5.0  # seconds of a processor, on a busy machine; each of these took 30 or more, or gigabytes


def saved(format: str, size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(stream, format, **options)
    return stream.getvalue()


def segment(code: int, data: bytes) -> bytes:
    return bytes([0xFF, code]) + struct.pack(">H", len(data) + 2) + data


def jpeg_of_scans(scans: int, width: int = 8000, height: int = 5000) -> bytes:
    """A progressive JPEG each of whose scans says nothing in 60 bytes, and says it of every block."""
    out = b"\xff\xd8" + segment(0xDB, b"\0" + bytes([1] * 64))
    out += segment(0xC2, struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0")
    out += segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\xe0")  # one symbol: a run of up to 32,767 empty blocks
    bits = ("0" + "1" * 14) * -(-(-(-width // 8) * -(-height // 8)) // 32767)
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return out + (segment(0xDA, b"\1\1\0\1\x3f\0") + data) * scans + b"\xff\xd9"


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(extra: bytes) -> bytes:
    made = saved("PNG")
    return made[:33] + extra + made[33:]


def tags(entries: list[tuple[int, int, int, int]], next_directory: int = 0) -> bytes:
    """A little-endian directory of (tag, type, count, value or offset)."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return struct.pack("<H", len(entries)) + body + struct.pack("<I", next_directory)


GREY = [(256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]


def tiff_of_tags(count: int, held: int) -> bytes:
    """A TIFF of `count` tags that are all the same `held` bytes."""
    entries = [*GREY, (278, 4, 1, 64)]
    data = 8 + 2 + 12 * (len(entries) + 2 + count) + 4
    entries += [(273, 4, 1, data), (279, 4, 1, 4096)] + [(1000 + n, 1, held, data) for n in range(count)]
    return b"II*\0" + struct.pack("<I", 8) + tags(entries) + bytes(max(held, 4096))


def tiff_of_tiles(side: int, tile: int) -> bytes:
    count = (side // tile) ** 2
    entries = [(256, 4, 1, side), (257, 4, 1, side), *GREY[2:], (322, 4, 1, tile), (323, 4, 1, tile)]
    data = 8 + 2 + 12 * (len(entries) + 2) + 4
    entries += [(324, 4, count, data), (325, 4, count, data)]
    return b"II*\0" + struct.pack("<I", 8) + tags(entries) + struct.pack("<I", data) * max(count, tile * tile // 4)


def tiff_of_nested_tags(count: int, held: int) -> bytes:
    """The tags hide in the directory of the Exif data, which Pillow reads when the pixels are decoded."""
    data = 8 + 2 + 12 * (len(GREY) + 4) + 4
    inner = tags([(1000 + n, 1, held, data) for n in range(count)])
    entries = [*GREY, (278, 4, 1, 64), (273, 4, 1, data), (279, 4, 1, 4096), (34665, 4, 1, data + held)]
    return b"II*\0" + struct.pack("<I", 8) + tags(entries) + bytes(held) + inner


def exif_of_tags(count: int, held: int, orientation: int = 1) -> bytes:
    data = 8 + 2 + 12 * (count + 1) + 4
    entries = [(274, 3, 1, orientation)] + [(1000 + n, 1, held, data) for n in range(count)]
    return b"II*\0" + struct.pack("<I", 8) + tags(entries) + bytes(held)


def jpeg_with(extra: bytes) -> bytes:
    made = saved("JPEG")
    return made[:2] + extra + made[2:]


def run_length_bmp(pairs: bytes, side: int = 4000) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(pairs), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(pairs), 0, 0, 1078) + header + bytes(1024) + pairs


def webp_of_frames(count: int) -> bytes:
    def piece(kind: bytes, data: bytes) -> bytes:
        return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

    frame = piece(b"ANMF", bytes(6) + b"\x0f\0\0\x0f\0\0\x0a\0\0\0" + saved("WEBP", (16, 16), lossless=True)[12:])
    body = b"WEBP" + piece(b"VP8X", b"\2\0\0\0\x3f\0\0\x3f\0\0") + piece(b"ANIM", bytes(6)) + frame * count
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: jpeg_of_scans(5000), "a JPEG of more than 100 scans"),
        (lambda: jpeg_with(b"\xff\xfe\0\2" * 2_000_000), "a JPEG of more than 50,000 segments"),
        (lambda: jpeg_with(b"\xff\xf0" * 2_000_000), "a JPEG of more than 50,000 segments"),
        (lambda: jpeg_with(b"\xff\xe0\0\2" + b"\xff\xd0" * 10**6), "with other data between them"),
        (lambda: jpeg_with(segment(0xE1, b"Exif\0\0" + bytes(65_000)) * 600), "Exif data names more"),
        (lambda: jpeg_with(segment(0xE1, b"Exif\0\0" + exif_of_tags(2000, 40_000))), "Exif data names more"),
        (lambda: jpeg_with(segment(0xE2, b"MPF\0" + exif_of_tags(2000, 40_000))), "names more than it holds"),
        (lambda: png_with(chunk(b"prVt") * 400_000), "a PNG of more than 50,000 chunks"),
        (lambda: png_with(chunk(b"tEXt", b"a\0b") * 400_000), "a PNG of more than 50,000 chunks"),
        (lambda: tiff_of_tags(5000, 10**7), "a TIFF that lists more tags"),
        (lambda: tiff_of_nested_tags(5000, 10**7), "a TIFF that lists more tags"),
        (lambda: tiff_of_tiles(1000, 1), "a TIFF that lists more tags, strips or tiles"),
        (lambda: run_length_bmp(b"\1\0" * 6_000_000), "a BMP with run-length coding of more than 10 MB"),
    ],
)
def test_a_file_that_costs_more_than_its_pixels_is_refused_at_once(
    make: Callable[[], bytes], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make()
    monkeypatch.setattr(images.Image, "open", lambda *_, **__: pytest.fail("it went to the decoder"))
    started = time.process_time()
    with pytest.raises(ImageError, match=words) as raised:
        load_image(data, name="part.png")
    assert time.process_time() - started < QUICK
    assert str(raised.value).startswith("part.png is a ") and str(raised.value).endswith("and save it again.")


@pytest.mark.parametrize("count", [100, 101])
def test_a_hundred_scans_are_the_most(count: int) -> None:
    data = jpeg_of_scans(count, 64, 64)
    if count <= image_structure.MAX_SCANS:
        assert load_image(data).shape == (64, 64, 3)
    else:
        with pytest.raises(ImageError, match="more than 100 scans"):
            load_image(data)


@pytest.mark.parametrize("hidden", [b"", segment(0xFE, jpeg_of_scans(200, 64, 64)), b"\xff\xff\xff", b"\xff\xfe\0\2"])
def test_only_scans_of_the_picture_itself_count(hidden: bytes) -> None:
    """A preview inside a segment, or what a telephone appends, has scans of its own."""
    appended = jpeg_of_scans(200, 64, 64)
    expected = load_image(saved("JPEG", progressive=True))
    made = saved("JPEG", progressive=True)
    assert np.array_equal(load_image(made[:2] + hidden + made[2:] + appended), expected)


@pytest.mark.parametrize("gap", [b"", b"\xff", b"\0" * 100, b"\xff\0", b"\xff\xd0"])
def test_scans_cannot_be_hidden_between_the_segments(gap: bytes) -> None:
    data = jpeg_of_scans(200, 64, 64).replace(b"\xff\xda", gap + b"\xff\xda")
    with pytest.raises(ImageError, match="more than 100 scans"):
        load_image(data)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_and_bigtiff_are_counted(order: str, big: bool) -> None:
    prefix = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    start = struct.pack(order + "HHQ", 8, 0, 16) if big else struct.pack(order + "I", 8)
    entry, number = ("HHQQ", "Q") if big else ("HHII", "H")
    body = struct.pack(order + number, 50) + b"".join(
        struct.pack(order + entry, 1000 + n, 1, 10_000, 2000) for n in range(50)
    )
    data = prefix + start + body + bytes(20_000)
    with pytest.raises(ImageError, match="lists more tags"):
        load_image(data)
    assert not image_structure.tags_fit(io.BytesIO(data), len(data))


@pytest.mark.parametrize("where", [0, 8, 2**31, 2**32 - 1])
def test_directories_that_lead_nowhere_or_in_a_circle_end(where: int) -> None:
    data = b"II*\0" + struct.pack("<I", 8) + tags([(34665, 4, 1, where), (34853, 4, 1, 8), (40965, 4, 1, where)])
    assert image_structure.tags_fit(io.BytesIO(data), len(data))
    assert image_structure.tags_fit(io.BytesIO(b""), 0) and image_structure.tags_fit(io.BytesIO(b"II*\0"), 4)


@pytest.mark.parametrize("kind", ["exif chunk", "raw profile", "webp", "pillow"])
def test_exif_data_that_names_more_than_it_holds_is_not_read(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture is shown as stored, as where the metadata cannot be read. 1 MB of it took 2 GB."""
    hostile = exif_of_tags(2000, 400_000, orientation=6)
    if kind == "exif chunk":
        source: Any = png_with(chunk(b"eXIf", hostile))
    elif kind == "raw profile":
        text = b"\nexif\n%8d\n" % len(hostile) + hostile.hex().encode()
        source = png_with(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)))
    elif kind == "webp":
        source = saved("WEBP", exif=b"Exif\0\0" + hostile)
    else:
        source = Image.open(io.BytesIO(png_with(chunk(b"eXIf", hostile))))
    monkeypatch.setattr(Image.Exif, "load", lambda *_: pytest.fail("it was read"))
    assert load_image(source).shape == (48, 64, 3)


def test_harmless_files_are_read() -> None:
    turned = Image.Exif()
    turned[274] = 6
    for format, options in (
        ("JPEG", {"progressive": True, "exif": turned}),
        ("JPEG", {"exif": turned, "comment": b"x" * 60_000, "restart_marker_blocks": 1}),
        ("PNG", {"exif": turned}),
        ("WEBP", {"exif": turned}),
        ("TIFF", {"tiffinfo": {274: 6}}),
        ("TIFF", {"tiffinfo": {274: 6, 278: 1}, "compression": "tiff_deflate"}),
        ("TIFF", {"tiffinfo": {274: 6}, "big_tiff": True}),
    ):
        assert load_image(saved(format, **options)).shape == (64, 48, 3), (format, options)
    assert load_image(webp_of_frames(5000)).shape == (64, 64, 3)  # the first of them
    assert load_image(png_with(chunk(b"tEXt", b"a\0b") * 10_000)).shape == (48, 64, 3)
    assert load_image(tiff_of_tags(1, 5000)).shape == (64, 64, 3)
    assert load_image(tiff_of_tiles(1024, 16)).shape == (1024, 1024, 3)
    assert load_image(run_length_bmp(b"\x40\0\0\0" * 64 + b"\0\1", 64)).shape == (64, 64, 3)
