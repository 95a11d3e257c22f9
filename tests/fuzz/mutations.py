"""Damage to a file: each number gives one damaged file, the same on every machine."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import numpy as np

_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def mutated(pictures: Mapping[str, bytes], number: int) -> tuple[str, bytes]:
    """The damaged file of a number: which picture it was, and its bytes.

    Half of the PNG files get right checksums afterwards, so that the damage comes past the first check.
    """
    rng = np.random.default_rng(number)
    name = list(pictures)[number % len(pictures)]
    data = bytearray(pictures[name])
    for _ in range(int(rng.integers(1, 4))):
        _damage(data, pictures, rng)
    if name.endswith(".png") and rng.random() < 0.5:
        _right_checksums(data)
    return name, bytes(data)


def truncations(data: bytes, every: int = 64) -> list[bytes]:
    """The beginnings of a file, `every` bytes apart."""
    return [data[:end] for end in range(0, len(data), every)]


def _damage(data: bytearray, pictures: Mapping[str, bytes], rng: np.random.Generator) -> None:
    if not data:
        return
    # Headers decide most, so half of all damage is there.
    at = int(rng.integers(0, min(len(data), 128) if rng.random() < 0.5 else len(data)))
    kind = int(rng.integers(0, 7))
    if kind == 0:
        data[at] ^= 1 << int(rng.integers(0, 8))
    elif kind == 1:
        data[at : at + 8] = rng.bytes(8)
    elif kind == 2:  # a number at the edge of its range, in either byte order
        form = str(rng.choice(["<H", ">H", "<I", ">I"]))
        value = _EDGES[int(rng.integers(0, len(_EDGES)))] & (0xFFFF if form[1] == "H" else 0xFFFFFFFF)
        packed = struct.pack(form, value)
        data[at : at + len(packed)] = packed
    elif kind == 3:
        del data[at:]
    elif kind == 4:
        del data[at : at + int(rng.integers(1, 64))]
    elif kind == 5:
        data[at:at] = data[at : at + int(rng.integers(1, 256))] * int(rng.integers(1, 8))
    else:  # the end of another picture
        other = list(pictures.values())[int(rng.integers(0, len(pictures)))]
        data[at:] = other[int(rng.integers(0, len(other))) :]


def _right_checksums(data: bytearray) -> None:
    at = 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        end = at + 8 + size
        if end + 4 > len(data):
            return
        data[end : end + 4] = struct.pack(">I", zlib.crc32(bytes(data[at + 4 : end])))
        at = end + 4
