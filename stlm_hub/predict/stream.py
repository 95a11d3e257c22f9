"""Any number of photographs, batch after batch, decoded ahead of whoever judges them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np

from ..errors import ImageError
from .images import ImageInput, Picture, read_picture
from .prediction import Unusable, noted

BATCH_PIXELS = 2**20
"""Images are batched up to this many network input pixels: one image at 1024 px, four at 512 px."""
BATCH_PHOTOGRAPH_PIXELS = 40 * 10**6
"""And up to this many pixels of the photographs themselves, whose maps are as large."""
DECODED_AHEAD = 2
"""Photographs that are decoded while the network has others."""

T = TypeVar("T")


def predict_many(
    judge: Callable[[list[np.ndarray]], Sequence[T]],
    sources: Iterable[ImageInput | Callable[[], np.ndarray | Picture]],
    *,
    batch: int = 1,
    bits: int | None = None,
) -> Iterator[T | Unusable]:
    """Judges any number of photographs one batch after the other; files are decoded ahead of the network.

    Args:
        judge: HxWx3 uint8 RGB images in, one answer for each out: `Detector.predict`, say.
        sources: what `load_image` takes, or functions that return a decoded image or picture, or raise ImageError.
        batch: most images for one call of `judge`; large photographs make smaller batches. A full batch is judged at
            once, so that an answer waits for no later source.
        bits: that photographs of 16 bits use, see `read_picture`.

    Yields:
        One answer for each source, in order: `judge`'s, with the notes on its photograph, or `Unusable`.
    """
    waiting: list[Picture | Unusable] = []  # decoded, not judged yet, in order
    pixels = 0
    for decoded in _decode_ahead(sources, bits):
        size = 0 if isinstance(decoded, Unusable) else math.prod(decoded.image.shape[:2])
        if waiting and pixels + size > BATCH_PHOTOGRAPH_PIXELS:
            yield from _judged(judge, waiting)
            waiting, pixels = [], 0
        waiting.append(decoded)
        pixels += size
        if len(waiting) >= batch:  # what is unusable counts, too: a folder full of it must not pile up
            yield from _judged(judge, waiting)
            waiting, pixels = [], 0
    yield from _judged(judge, waiting)


def batch_size(size: tuple[int, int]) -> int:
    """Photographs of a batch whose frames are this high and wide."""
    return max(1, BATCH_PIXELS // (size[0] * size[1]))


def batches(images: Iterable[np.ndarray], size: tuple[int, int]) -> Iterator[list[np.ndarray]]:
    """Images in groups of `batch_size`, in order."""
    iterator = iter(images)
    while batch := list(islice(iterator, batch_size(size))):
        yield batch


def _judged(
    judge: Callable[[list[np.ndarray]], Sequence[T]], decoded: Sequence[Picture | Unusable]
) -> Iterator[T | Unusable]:
    images = [picture.image for picture in decoded if not isinstance(picture, Unusable)]
    answers = iter(judge(images) if images else ())
    for picture in decoded:
        yield picture if isinstance(picture, Unusable) else noted(next(answers), picture.notes)


def _decode_ahead(
    sources: Iterable[ImageInput | Callable[[], np.ndarray | Picture]], bits: int | None
) -> Iterator[Picture | Unusable]:
    """Decoded pictures or reasons, in order; a thread is up to `DECODED_AHEAD` photographs ahead of whoever asks."""
    with ThreadPoolExecutor(1, thread_name_prefix="decode") as decoder:
        iterator = iter(sources)
        ahead = deque(decoder.submit(_decode, source, bits) for source in islice(iterator, DECODED_AHEAD))
        try:
            while ahead:
                decoded = ahead.popleft().result()
                ahead.extend(decoder.submit(_decode, source, bits) for source in islice(iterator, 1))
                yield decoded
        finally:
            for future in ahead:
                future.cancel()


def _decode(source: ImageInput | Callable[[], np.ndarray | Picture], bits: int | None) -> Picture | Unusable:
    try:
        read = source() if callable(source) else read_picture(source, bits=bits)
        return read if isinstance(read, Picture) else Picture(read)
    except ImageError as error:
        return Unusable(source, error)
