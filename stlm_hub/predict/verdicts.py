"""What a model sees of photographs, in whatever runtime -> predictions."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import PictureWarning, WeightsError
from ..models.stlm.judging import Judging
from ..models.stlm.scales import times
from .images import ImageInput, read_picture
from .prediction import Prediction, Unusable, checked_review, checked_threshold, moved_review, noted
from .stream import batch_size, predict_many


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


def judge_given(
    judge: Callable[[list[np.ndarray]], Sequence[Prediction]],
    given: ImageInput | list[ImageInput] | tuple[ImageInput, ...],
    bits: int | None = None,
) -> Prediction | list[Prediction]:
    """`predict` of a detector: one photograph in, its prediction out; a list in, a list out, in order.

    What may make a photograph other than it was meant is a `PictureWarning`, and stands in the prediction's notes.

    Args:
        judge: images in, HxWx3 uint8 RGB each, one prediction for each image out.
        given: what `read_picture` takes, or a list of those.
        bits: that 16-bit photographs use.

    Raises:
        ImageError: one cannot be used as a photograph; nothing is judged then.
    """
    many = isinstance(given, (list, tuple))
    pictures = [read_picture(source, bits=bits) for source in (given if isinstance(given, (list, tuple)) else [given])]
    for note in (note for picture in pictures for note in picture.notes):
        warnings.warn(note, PictureWarning, stacklevel=3)
    judged = judge([picture.image for picture in pictures])
    found = [noted(one, picture.notes) for one, picture in zip(judged, pictures, strict=True)]
    return found if many else found[0]


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
