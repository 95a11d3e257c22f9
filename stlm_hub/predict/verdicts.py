"""Maps and scores of a model, from any runtime -> predictions."""

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
    """One map of one photograph: HxW float32 in [0, 1) in the photograph's frame, and its anomaly score in [0, 1)."""

    anomaly_map: np.ndarray
    score: float


@dataclass(frozen=True, eq=False)
class Inferred:
    """Output of a model for one photograph: maps by name, and two distances from good ones, by content and layout."""

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
    """Predictions from the output of a model, in order.

    Args:
        judging: how the model judges.
        images: HxWx3 uint8 RGB each.
        inferred: output for each image, with the maps `judging.shown`.
        frame_size: height and width in pixels of the model's frame.
        threshold, review_threshold: see `Detector.predict`.
        backend: that computed the maps, see `Prediction`.

    Raises:
        ConfigError: a threshold is out of range.
        WeightsError: a score or a distance is not finite.
    """
    threshold = judging.threshold if threshold is None else checked_threshold(threshold)
    review = checked_review(review_threshold, threshold)
    if review is None:
        review = moved_review(judging.review_threshold, judging.threshold, threshold)
    return [
        _judge(image, output, judging, frame_size, threshold, review, backend)
        for image, output in zip(images, inferred, strict=True)
    ]


def judge_given(
    judge: Callable[[list[np.ndarray]], Sequence[Prediction]],
    given: ImageInput | list[ImageInput] | tuple[ImageInput, ...],
    bits: int | None = None,
) -> Prediction | list[Prediction]:
    """`Detector.predict`: one photograph in, its prediction out; a list in, a list out, in order.

    Notes of `read_picture` become a `PictureWarning` each, and are in the notes of the prediction.

    Args:
        judge: takes images, HxWx3 uint8 RGB each, and returns one prediction for each.
        given: what `read_picture` takes, or a list of those.
        bits: that photographs of 16 bits use.

    Raises:
        ImageError: one cannot be used as a photograph; nothing is judged then.
    """
    sources = given if isinstance(given, (list, tuple)) else [given]
    pictures = [read_picture(source, bits=bits) for source in sources]
    for picture in pictures:
        for note in picture.notes:
            warnings.warn(note, PictureWarning, stacklevel=3)
    judged = judge([picture.image for picture in pictures])
    predictions = [noted(prediction, picture.notes) for prediction, picture in zip(judged, pictures, strict=True)]
    return predictions if isinstance(given, (list, tuple)) else predictions[0]


def judge_many(
    judge: Callable[[list[np.ndarray], float | None, float | None], Sequence[Prediction]],
    photographs: Iterable[ImageInput],
    judging: Judging,
    size: tuple[int, int],
    threshold: float | None,
    review_threshold: float | None,
) -> Iterator[Prediction | Unusable]:
    """`Detector.predict_many`. Thresholds are checked before the first photograph is read.

    Args:
        judge: takes images and both thresholds, and returns one prediction for each image.
        photographs: what `read_picture` takes, one by one.
        judging: of the detector.
        size: height and width in pixels that photographs are resized to.
        threshold, review_threshold: see `Detector.predict`.

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
    """The prediction for one photograph; arguments as of `judge_all`, thresholds in [0, 1]."""
    values = (*(scored.score for scored in inferred.maps.values()), *inferred.distances)
    if not all(map(math.isfinite, values)):  # NaN would be below every threshold and pass
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
