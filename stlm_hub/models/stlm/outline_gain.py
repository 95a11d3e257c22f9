"""What outlines by Segment Anything gain over a model's own, as `calibration.json` keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from ...validate import check_integer, check_number

SURE = 2.0
"""Standard errors above 0 that a mean gain needs before it counts as help."""
LEAST = 2
"""Pseudo anomalies below which a mean has no standard error."""


@dataclass(frozen=True)
class OutlineGain:
    """The gain on pseudo anomalies painted on photographs of good parts; no real defect takes part.

    Args:
        mean: of the differences of F1 at the threshold, in [-1, 1].
        standard_error: of that mean, in [0, 1].
        n: number of pseudo anomalies, at least 2.
    """

    mean: float
    standard_error: float
    n: int

    def __post_init__(self) -> None:
        check_number("refine_gain mean", self.mean, -1.0, 1.0)
        check_number("refine_gain standard_error", self.standard_error, 0.0, 1.0)
        check_integer("refine_gain n", self.n, LEAST, 10**6)

    @property
    def helps(self) -> bool:
        """Whether the gain is surely above 0."""
        return self.mean > SURE * self.standard_error

    @classmethod
    def of(cls, gains: Sequence[float]) -> OutlineGain:
        """From the differences of F1, at least two, in [-1, 1] each."""
        return cls(fmean(gains), stdev(gains) / len(gains) ** 0.5, len(gains))
