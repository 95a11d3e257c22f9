"""What a threshold promises, in words for whoever made or calibrated a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..wording import percent

if TYPE_CHECKING:
    from ..models.stlm.judging import Calibration

WORSE = 0.1
"""Growth of the share of painted defects missed, above which a new threshold is warned of."""
MOST = 0.5
"""Share of painted defects missed, above which photographs of good parts are said to hide them."""


def promise(before: Calibration | None, now: Calibration) -> str:
    """What a new threshold promises and misses, and a warning where it misses much more than the one before."""
    words = f"At most {percent(now.highest_rate)} of good parts are rejected (95 % sure)."
    if now.miss_rate is None:
        return words
    words += f" Of faint defects painted on these photographs it misses {percent(now.miss_rate)}"
    if before is None or before.miss_rate is None:
        return f"{words}.{_most_pass(now.miss_rate)}"
    words += f", before {percent(before.miss_rate)} on those of the training."
    if now.miss_rate > before.miss_rate + WORSE:
        return f"{words} That is much more: give it more photographs, or train a model on them with: stlm finetune"
    return words + _most_pass(now.miss_rate)


def _most_pass(miss_rate: float) -> str:
    if miss_rate <= MOST:
        return ""
    return (
        " That is most of them: the good parts on these photographs differ as much as such defects. Look for one that "
        "is not good, photograph them more alike, or give a larger --size to: stlm finetune"
    )
