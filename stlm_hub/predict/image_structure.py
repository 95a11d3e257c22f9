"""The number of parts that a picture file lists, checked before a decoder reads them.

A decoder reads as many scans, chunks, tiles and tags as a file lists, and a file can list far more than it holds. A
JPEG of 300 kB has room for 5,000 scans of 40 megapixels each, and a TIFF of 10 MB for 5,000 tags that are all its
10 MB. Neither the number of bytes nor that of pixels bounds what such a file costs, so its parts are bounded.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from typing import IO

from ..errors import ImageError

MAX_SCANS = 100
"""Most scans of a JPEG. Encoders write 1 to 14. Each scan goes over all pixels: 100 take 3 s on 40 megapixels. libtiff
has the same limit for JPEGs inside a TIFF."""

MAX_PARTS = 50_000
"""Most segments, chunks, tags, strips or tiles; each costs up to 20 us. A PNG of 200 MB in chunks of 8 kB has 25,000, a
TIFF with a strip for each row at most 45,000."""

MAX_EXIF_BYTES = 2**24  # a JPEG's comes in pieces of 64 kB, and Pillow copies what it has for each piece
MAX_PNG_TEXT_BYTES = 1024  # of one chunk; a compressed one can be a thousand times as long
MAX_PNG_PROFILE_BYTES = 2**24  # unpacked
MAX_JUNK_BYTES = 2**16  # between the segments of a JPEG
MAX_RUN_LENGTH_BYTES = 10_000_000  # of a BMP with run-length coding, which is decoded pair by pair in Python

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # not a stuffed 0xff, padding or a restart inside a scan
_BARE = frozenset([0x01, 0xC8, 0xD8, *range(0xF0, 0xFE)])  # markers that no segment follows
_SOS, _EOI, _APP1, _APP2 = 0xDA, 0xD9, 0xE1, 0xE2
_TIFF = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")  # as Pillow takes them; the last two are BigTIFF
_UNITS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}  # bytes of each type
_OFFSETS = (273, 324)  # of strips, of tiles
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PNG_EXIF = b"Raw profile type exif"
_DIRECTORIES = (34665, 34853, 40965)  # further tags: Exif, GPS, interoperability


def check_structure(stream: IO[bytes], size: int, name: str) -> None:
    """Refuses a picture file that lists more parts than any picture needs.

    Args:
        stream: the file, at its start; it is left there.
        size: of the file in bytes.
        name: of the picture, for the error.

    Raises:
        ImageError: it lists too many parts.
    """
    start = stream.read(34)
    stream.seek(0)
    if start.startswith(b"\xff\xd8\xff"):
        _check_jpeg(stream.read(), name)
    elif start.startswith(b"\x89PNG\r\n\x1a\n"):
        _check_png(stream, name)
    elif start.startswith(_TIFF) and not tags_fit(stream, size):
        raise _refused(name, "a TIFF that lists more tags, strips or tiles than its file can hold")
    elif start.startswith(b"BM") and start[30:34] in (b"\1\0\0\0", b"\2\0\0\0") and size > MAX_RUN_LENGTH_BYTES:
        raise _refused(name, f"a BMP with run-length coding of more than {MAX_RUN_LENGTH_BYTES // 10**6} MB")
    stream.seek(0)


def without_text(stream: IO[bytes]) -> tuple[IO[bytes], bytes | None]:
    """A PNG without its long texts and its colour profile, which Pillow refuses if they unpack to over 1 MB.

    Neither changes a pixel that Pillow decodes. Texts that hold Exif data stay.

    Args:
        stream: the file, at its start, after `check_structure`.

    Returns:
        A stream to decode, at its start: the given one if it is no PNG or nothing is left out. And the profile; None:
        there is none, or it cannot be unpacked.
    """
    kept, profile, start = [], None, 8  # kept: (start, end) of byte ranges; start: of the next one
    if stream.read(8) != b"\x89PNG\r\n\x1a\n":
        stream.seek(0)
        return stream, None
    while len(head := stream.read(8)) == 8 and head[4:] != b"IEND":
        at, size = stream.tell() - 8, int.from_bytes(head[:4], "big")
        if head[4:] == b"iCCP":
            profile = _profile(stream.read(min(size, MAX_PNG_PROFILE_BYTES)))
        elif not (head[4:] in _PNG_TEXTS and size > MAX_PNG_TEXT_BYTES and stream.read(21) != _PNG_EXIF):
            stream.seek(at + size + 12)
            continue
        kept.append((start, at))
        start = at + size + 12
        stream.seek(start)
    stream.seek(0)
    if not kept:
        return stream, None
    whole = stream.read()
    return io.BytesIO(b"".join([whole[:8], *(whole[a:b] for a, b in kept), whole[start:]])), profile


def _profile(chunk: bytes) -> bytes | None:
    """The ICC profile of an iCCP chunk: a name, a zero byte, a byte for the compression, the compressed profile."""
    try:
        return zlib.decompressobj().decompress(chunk.partition(b"\0")[2][1:], MAX_PNG_PROFILE_BYTES)
    except zlib.error:
        return None


def tags_fit(stream: IO[bytes], size: int) -> bool:
    """Whether reading the tags of a TIFF or of Exif data takes at most twice as many bytes as there are.

    Only what Pillow reads for the first picture is counted. Tags of unknown types count as nothing; Pillow refuses
    them.

    Args:
        stream: the file or the data, at its byte order mark.
        size: in bytes.
    """
    head = stream.read(16).ljust(16, b"\0")
    # Pillow reads a big-endian BigTIFF as a plain TIFF, but a later version may not; both readings must fit.
    return all(_fit(stream, size, head, big) for big in {head[2] == 43, 43 in head[2:4]})


def _fit(stream: IO[bytes], size: int, head: bytes, big: bool) -> bool:
    """`tags_fit`, read as a BigTIFF or as a plain TIFF.

    Args:
        head: the first 16 bytes.
        big: whether it is read as a BigTIFF.
    """
    order = ">" if head[:2] == b"MM" else "<"
    number, length, entry, inline = ("Q", 8, "HHQ8s", 8) if big else ("H", 2, "HHI4s", 4)
    pointer, entry_bytes = ("Q", 20) if big else ("I", 12)
    pending = [struct.unpack(order + pointer, head[8:16] if big else head[4:8])[0]]
    visited: set[int] = set()  # offsets of directories
    parts = read = 0
    while pending:
        at = pending.pop()
        if at in visited or at >= size:
            continue
        visited.add(at)
        stream.seek(at)
        data = stream.read(length)
        entries = struct.unpack(order + number, data)[0] if len(data) == length else 0
        for _ in range(entries):
            data = stream.read(entry_bytes)
            if len(data) < entry_bytes:
                break
            tag, unit, count, value = struct.unpack(order + entry, data)
            parts += 1 + (count if tag in _OFFSETS else 0)
            value_bytes = count * _UNITS.get(unit, 0)
            offset = struct.unpack(order + pointer, value)[0]
            if value_bytes > inline:
                read += max(0, min(value_bytes, size - offset))
            elif tag in _DIRECTORIES:
                pending.append(offset)
            if parts > MAX_PARTS or read > 2 * size:
                return False
    return True


def _check_jpeg(data: bytes, name: str) -> None:
    """Raises ImageError for a JPEG with too many scans or segments, junk between them, or tags that do not fit."""
    at, scans, parts, junk, exif = 2, 0, 0, 0, []
    while (marker := _MARKER.search(data, at)) is not None and data[marker.end() - 1] != _EOI:
        junk += 0 if scans else marker.start() - at
        at, parts = marker.end(), parts + 1
        code = data[at - 1]
        if code in _BARE:
            continue
        segment = data[at + 2 : at + max(2, int.from_bytes(data[at : at + 2], "big"))]
        at += 2 + len(segment)
        scans += code == _SOS
        if code == _APP1 and segment.startswith(b"Exif\0\0"):
            exif.append(segment[6:])
        elif code == _APP2 and segment.startswith(b"MPF\0") and not tags_fit(io.BytesIO(segment[4:]), len(segment)):
            raise _refused(name, "a JPEG whose list of pictures names more than it holds")
        if scans > MAX_SCANS:
            raise _refused(name, f"a JPEG of more than {MAX_SCANS} scans")
        if parts > MAX_PARTS or junk > MAX_JUNK_BYTES:
            raise _refused(name, f"a JPEG of more than {MAX_PARTS:,} segments, or with other data between them")
    tags = b"".join(exif)
    if len(tags) > MAX_EXIF_BYTES or not tags_fit(io.BytesIO(tags), len(tags)):
        raise _refused(name, "a JPEG whose Exif data names more than it holds")


def _check_png(stream: IO[bytes], name: str) -> None:
    """Raises ImageError for a PNG with too many chunks."""
    stream.seek(8)
    parts = 0
    while len(head := stream.read(8)) == 8 and head[4:] != b"IEND":
        parts += 1
        if parts > MAX_PARTS:
            raise _refused(name, f"a PNG of more than {MAX_PARTS:,} chunks")
        stream.seek(int.from_bytes(head[:4], "big") + 4, 1)


def _refused(name: str, what: str) -> ImageError:
    return ImageError(f"{name} is {what}; open it in an image editor and save it again.")
