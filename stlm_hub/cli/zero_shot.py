"""`stlm predict --zero-shot`: words in the place of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .console import needing, say

if TYPE_CHECKING:
    from ..predict.prediction import Prediction, Unusable

    Judge = Callable[..., Iterator[Prediction | Unusable]]

NOT_CALIBRATED = (
    "Not calibrated. At a score of 0.5 words for good and for damaged parts fit equally well; what lies below is to be "
    "looked at, and how many good parts lie above is not known. Set a threshold of your own with --threshold."
)


def zero_shot_judge(
    part: str | None, weights: str | None, model: str | None, device: str | None, *, quiet: bool
) -> Judge:
    """`predict_many` of CLIP and Segment Anything for a part. Says what its threshold is, unless `quiet`.

    Raises:
        ConfigError: a model is named besides, or what this needs is not installed.
        STLMError: see `stlm_hub.zero_shot.detector.ZeroShot.from_pretrained`.
    """
    if model is not None:
        raise ConfigError("--zero-shot takes the place of a model; leave out --model, or --zero-shot.")
    with needing("Zero-shot", "zero-shot"):
        from ..zero_shot.detector import ZeroShot

    detector = ZeroShot.from_pretrained(weights, device=device)
    if not quiet:
        say(NOT_CALIBRATED)
    return partial(detector.predict_many, part=part)
