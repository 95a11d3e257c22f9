"""Outlines as a caller asks for them, or as the model chose at its calibration.

What a caller asks for is done or ends in a sentence. What only the model chose is left out where Segment Anything is
not to be had: a verdict must not fail for the edge of its outline.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence

from ..errors import ConfigError, OutlineWarning, WeightsError
from ..predict.prediction import Prediction, Unusable

_lock = threading.Lock()
_missing = ""  # why this process has no Segment Anything; a download is not tried again for each photograph


def outlined(
    judged: Iterable[Prediction | Unusable], refine: bool | None, chosen: bool | None
) -> Iterator[Prediction | Unusable]:
    """What `predict_many` yields, one after the other, with the outlines that are wanted.

    Args:
        judged: by a detector.
        refine: what the caller asks for; None: as the model chose.
        chosen: by the model, see `Judging.refine`.

    Raises:
        ConfigError: the caller asks for it, and what it needs is not installed.
        WeightsError: the caller asks for it, and the weights cannot be had.
    """
    if refine is False or (refine is None and not chosen):
        yield from judged
        return
    for one in judged:
        yield one if isinstance(one, Unusable) else _outlined(one, must=bool(refine))


def all_outlined(judged: Sequence[Prediction], refine: bool | None, chosen: bool | None) -> list[Prediction]:
    """`outlined` for what `predict` returns."""
    return [one for one in outlined(judged, refine, chosen) if isinstance(one, Prediction)]


def _outlined(prediction: Prediction, *, must: bool) -> Prediction:
    global _missing
    if prediction.verdict != "reject" or (_missing and not must):
        return prediction
    try:
        try:
            from .refine import refined  # needs torch, which what runs exports may not have

            sharp = refined(prediction)
        except ImportError as error:
            raise ConfigError(
                f'Outlines by Segment Anything need {error.name}: pip install "stlm_hub[torch]". refine=False and '
                "--no-refine do without."
            ) from None
    except (ConfigError, WeightsError) as error:
        if must:
            raise
        with _lock:
            first, _missing = not _missing, str(error)
        if first:
            warnings.warn(
                f"This model wants outlines by Segment Anything; they stay coarse, verdicts are the same. {error}",
                OutlineWarning,
                stacklevel=2,
            )
        return prediction
    _missing = ""
    return sharp
