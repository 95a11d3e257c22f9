"""Any number of photographs in batches, decoded ahead of the network."""

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
"""Most pixels of the photographs themselves in one batch, because their maps are as large."""
DECODED_AHEAD = 2
"""Photographs that are decoded while the network judges others."""

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
        judge: takes HxWx3 uint8 RGB images and returns one answer for each, e.g. `Detector.predict`.
        sources: what `read_picture` takes, or functions that return a decoded image or `Picture`, or raise ImageError.
        batch: most images for one call of `judge`; batches of large photographs are smaller. A full batch is judged at
            once, so an answer waits for no later source.
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
        if len(waiting) >= batch:  # unusable ones count too: a folder full of them must not pile up
            yield from _judged(judge, waiting)
            waiting, pixels = [], 0
    yield from _judged(judge, waiting)


def batch_size(size: tuple[int, int]) -> int:
    """Number of photographs in a batch for frames of this height and width."""
    return max(1, BATCH_PIXELS // (size[0] * size[1]))


def batches(images: Iterable[np.ndarray], size: tuple[int, int]) -> Iterator[list[np.ndarray]]:
    """Yields groups of `batch_size(size)` images, in order."""
    iterator = iter(images)
    while batch := list(islice(iterator, batch_size(size))):
        yield batch


def _judged(
    judge: Callable[[list[np.ndarray]], Sequence[T]], decoded: Sequence[Picture | Unusable]
) -> Iterator[T | Unusable]:
    """Judges one batch. Yields an answer for each picture and passes on what is unusable, in order."""
    images = [picture.image for picture in decoded if not isinstance(picture, Unusable)]
    answers = iter(judge(images) if images else ())
    for picture in decoded:
        yield picture if isinstance(picture, Unusable) else noted(next(answers), picture.notes)


def _decode_ahead(
    sources: Iterable[ImageInput | Callable[[], np.ndarray | Picture]], bits: int | None
) -> Iterator[Picture | Unusable]:
    """Yields decoded pictures, in order; a thread decodes up to `DECODED_AHEAD` photographs ahead."""
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
    """Decodes one source, see `predict_many`."""
    try:
        picture = source() if callable(source) else read_picture(source, bits=bits)
        return picture if isinstance(picture, Picture) else Picture(picture)
    except ImageError as error:
        return Unusable(source, error)
