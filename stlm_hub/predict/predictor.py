"""The one path from a photograph to a `Prediction`; evaluation, calibration, page and command line all take it."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from ..errors import ImageError, PictureWarning, WeightsError
from ..models.stlm.judging import Judging, times
from .frame import to_frame, to_input
from .images import ImageInput, Picture, read_picture
from .prediction import Prediction, Unusable, checked_review, checked_threshold, moved_review, noted

if TYPE_CHECKING:  # an exported model judges without torch
    from torch import Tensor, nn

    from ..models.stlm.anomaly_maps import AnomalyMaps

    Module = TypeVar("Module", bound=nn.Module)

BATCH_PIXELS = 2**20
"""Images are batched up to this many network input pixels: one image at 1024 px, four at 512 px."""
BATCH_PHOTOGRAPH_PIXELS = 40 * 10**6
"""And up to this many pixels of the photographs themselves, whose maps are as large."""
DECODED_AHEAD = 2
"""Photographs that are decoded while the network has others."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class ScoredMap:
    """One map of one photograph before it is judged: HxW float32 in the photograph's frame, and its anomaly score."""

    anomaly_map: np.ndarray
    score: float


@dataclass(frozen=True, eq=False)
class Inferred:
    """What a model sees of one photograph: maps by name, and how far the whole is from good ones, two distances."""

    maps: dict[str, ScoredMap]
    distances: tuple[float, ...]


def predict(
    model: AnomalyMaps,
    images: Sequence[np.ndarray],
    threshold: float | None = None,
    review_threshold: float | None = None,
) -> list[Prediction]:
    """Judges decoded photographs, in order.

    Args:
        model: its judging says maps, top K and thresholds.
        images: HxWx3 uint8 RGB each.
        threshold: in [0, 1]; None is the calibrated one.
        review_threshold: in [0, `threshold`]; None is the calibrated one, moved with `threshold`.

    Raises:
        ConfigError: a threshold is out of range.
    """
    judging = model.judging
    inferred = infer(model, images, judging.shown)
    backend = model.acceleration.backend
    return judge_all(judging, images, inferred, model.frame_size, threshold, review_threshold, backend)


def judge_all(
    judging: Judging,
    images: Sequence[np.ndarray],
    inferred: Iterable[Inferred],
    frame_size: tuple[int, int],
    threshold: float | None = None,
    review_threshold: float | None = None,
    backend: str = "torch",
) -> list[Prediction]:
    """Predictions from what a model, in whatever runtime, sees of photographs, in order.

    Args:
        judging: how the model judges.
        images: HxWx3 uint8 RGB each.
        inferred: of each image, with the maps `judging.shown`.
        frame_size: height and width in pixels that they were seen at.
        threshold, review_threshold: as of `predict`.
        backend: what computed the maps, see `Prediction`.

    Raises:
        ConfigError: a threshold is out of range.
        WeightsError: a score or a distance is not finite.
    """
    threshold = judging.threshold if threshold is None else checked_threshold(threshold)
    review = checked_review(review_threshold, threshold)
    if review is None:
        review = moved_review(judging.review_threshold, judging.threshold, threshold)
    return [
        _judge(image, seen, judging, frame_size, threshold, review, backend)
        for image, seen in zip(images, inferred, strict=True)
    ]


def judge_sources(
    judge: Callable[[list[np.ndarray], float | None, float | None], Sequence[Prediction]],
    sources: Sequence[ImageInput],
    bits: int | None,
    threshold: float | None,
    review_threshold: float | None,
) -> list[Prediction]:
    """`predict` of a detector: predictions of photographs, in order, with the notes on each, which are warned of, too.

    Args:
        judge: as of `judge_many`.
        sources: what `load_image` takes.
        bits: see `read_picture`.
        threshold, review_threshold: as of `predict`.

    Raises:
        ImageError: a source cannot be used as a photograph; nothing is predicted then.
        ConfigError: a threshold is out of range.
    """
    pictures = [read_picture(source, bits=bits) for source in sources]
    for note in (note for picture in pictures for note in picture.notes):
        warnings.warn(note, PictureWarning, stacklevel=3)
    found = judge([picture.image for picture in pictures], threshold, review_threshold)
    return [noted(one, picture.notes) for one, picture in zip(found, pictures, strict=True)]


def _judge(
    image: np.ndarray,
    inferred: Inferred,
    judging: Judging,
    frame_size: tuple[int, int],
    threshold: float,
    review: float,
    backend: str,
) -> Prediction:
    seen = (*(found.score for found in inferred.maps.values()), *inferred.distances)
    if not all(map(math.isfinite, seen)):  # NaN is below every threshold
        raise WeightsError("The model's values are not finite, so it judges nothing; get it anew, or train it again.")
    score = inferred.maps[judging.judge_by].score
    anomaly_map = times(inferred.maps[judging.drawn].anomaly_map, judging.draw_gain)
    limits = judging.familiarity_limits or (float("inf"),) * len(inferred.distances)
    unfamiliarity = max(distance / limit for distance, limit in zip(inferred.distances, limits, strict=True))
    return Prediction(
        image,
        anomaly_map,
        score,
        threshold,
        review_threshold=review,
        unfamiliarity=unfamiliarity,
        minimum_area=judging.minimum_area * math.prod(image.shape[:2]) / math.prod(frame_size),
        backend=backend,
    )


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


def judge_many(
    judge: Callable[[list[np.ndarray], float | None, float | None], Sequence[Prediction]],
    photographs: Iterable[ImageInput],
    judging: Judging,
    size: tuple[int, int],
    threshold: float | None,
    review_threshold: float | None,
) -> Iterator[Prediction | Unusable]:
    """`predict_many` of a detector, whose thresholds are checked before the first photograph is read.

    Args:
        judge: images and both thresholds in, one prediction for each image out.
        photographs: what `load_image` takes, one by one.
        judging: of the detector.
        size: height and width in pixels that it brings photographs to.
        threshold, review_threshold: as of `predict`.

    Raises:
        ConfigError: a threshold is out of range.
    """
    wanted = None if threshold is None else checked_threshold(threshold)
    review = checked_review(review_threshold, judging.threshold if wanted is None else wanted)
    return predict_many(
        lambda images: judge(images, wanted, review), photographs, batch=batch_size(size), bits=judging.bits
    )


def infer(model: AnomalyMaps, images: Iterable[np.ndarray], which: Sequence[str]) -> Iterator[Inferred]:
    """The wanted maps of each image with their scores, and its distance from good photographs, in order.

    Args:
        model: it is left as it is, see `in_eval_mode`.
        images: HxWx3 uint8 RGB each, of any size.
        which: names of maps, see `AnomalyMaps.available`.

    Raises:
        ConfigError: the model has no such map.
    """
    from ..models.acceleration import look

    for batch in batches(images, model.frame_size):
        found, distances = look(in_eval_mode(model), input_of(model, batch), which)
        arrays = {name: maps.values[:, 0].float().cpu().numpy() for name, maps in found.items()}
        scores = {name: maps.scores.float().cpu().tolist() for name, maps in found.items()}
        for i, image in enumerate(batch):
            shape = image.shape[:2]
            maps = {name: ScoredMap(to_frame(arrays[name][i], shape), scores[name][i]) for name in which}
            yield Inferred(maps, tuple(distances[i].tolist()))


def batch_size(size: tuple[int, int]) -> int:
    """Photographs of a batch whose frames are this high and wide."""
    return max(1, BATCH_PIXELS // (size[0] * size[1]))


def batches(images: Iterable[np.ndarray], size: tuple[int, int]) -> Iterator[list[np.ndarray]]:
    """Images in groups of `batch_size`, in order."""
    iterator = iter(images)
    while batch := list(islice(iterator, batch_size(size))):
        yield batch


def input_of(model: AnomalyMaps, images: Sequence[np.ndarray]) -> Tensor:
    """HxWx3 uint8 RGB of any size -> Bx3xhxw float32 in [0, 255] in the model's frame, where the model is."""
    return to_input(images, model.frame_size, next(model.parameters()).device)


def in_eval_mode(model: Module) -> Module:
    """The model itself, where all of it is in eval mode; else a copy that is, with the same tensors.

    The model is not switched for a while: two threads that ask at once would switch it under each other's hands, and
    one that trains it would find it in the wrong mode.
    """
    if not any(module.training for module in model.modules()):
        return model
    copies: dict[nn.Module, nn.Module] = {}
    other = cast("Module", _with_the_same_tensors(model, copies))
    other.eval()
    return other


def _with_the_same_tensors(module: nn.Module, copies: dict[nn.Module, nn.Module]) -> nn.Module:
    """A copy whose modules and dictionaries are its own, so that it has a mode of its own and keeps things itself."""
    if module not in copies:
        copies[module] = other = copy(module)
        for name, value in vars(module).items():
            if type(value) is dict:
                vars(other)[name] = dict(value)
        other._modules = {
            name: None if child is None else _with_the_same_tensors(child, copies)
            for name, child in module._modules.items()
        }
    return copies[module]


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
