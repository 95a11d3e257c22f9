"""The gain of outlines by Segment Anything over a model's own, as stored in `calibration.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from ...validate import check_integer, check_number

SURE = 2.0
"""A gain is sure if its mean is more than this many standard errors above 0."""
LEAST = 2
"""Fewest pseudo anomalies that give a standard error."""


@dataclass(frozen=True)
class OutlineGain:
    """The gain on pseudo anomalies, which are painted on good photographs. No real defect takes part.

    Args:
        mean: mean difference of F1 at the threshold, in [-1, 1].
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
        """Whether the gain is surely above 0, see `SURE`."""
        return self.mean > SURE * self.standard_error

    @classmethod
    def of(cls, gains: Sequence[float]) -> OutlineGain:
        """The gain from the F1 difference of each pseudo anomaly, in [-1, 1]; at least two."""
        return cls(fmean(gains), stdev(gains) / len(gains) ** 0.5, len(gains))
