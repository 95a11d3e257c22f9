"""Sequential tests for drift: have the photographs changed since the calibration? The false-alarm rate is stated.

Each photograph gets a smoothed conformal p-value: its rank among the calibration's values and all values before it.
While photographs are exchangeable, these are independent and uniform (Vovk, Gammerman, Shafer 2005). Bets on small ones
multiply to a martingale, and the sum over all starting points is the Shiryaev-Roberts statistic (Shin, Ramdas,
Rinaldo 2022, "E-detectors"): with an alarm at A, the mean time to a false alarm is at least A photographs, whatever the
distribution. Shares of verdicts are tested in the same way, with likelihood ratios of two shares.

Several tests run at once. Each has the limit (number of tests) x A, so that the bound A holds for all together.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence

from ..models.stlm.judging import Judging
from .row import Row

FALSE_ALARM_EVERY = 10_000
"""Mean number of photographs between two false alarms, at least."""
QUIET = 500
"""Photographs after an alarm during which its test is silent."""
REFERENCE = 20_000
"""Most values that a rank is taken among: of more, a random sample; later ones are ranked but not kept."""
BURN_IN = 50
"""Photographs that a rank is taken among at the least; the first of the line where a calibration has fewer."""
UNFAMILIAR_SHARE = 0.05
REJECT_SHARE = 0.2
"""Shares of unfamiliar and of rejected photographs above which a test alarms, in (0, 1)."""
_POWERS = (0.25, 0.5, 0.75)  # bets on small p-values: densities k p^(k - 1)

ADVICE = {
    "scores": "The scores of good-looking parts have risen: if the parts are good, calibrate (stlm calibrate).",
    "familiarity": "Photographs look less and less like good ones: clean the lens or light, then compare.",
    "unfamiliar": "Many photographs are unfamiliar: clean the lens or light, and look at the camera's place.",
    "rejects": "Many parts are rejected on familiar photographs: look at them; if they are good, train again.",
}


class ShiryaevRoberts:
    """The Shiryaev-Roberts statistic of several bets, started anew after each alarm.

    Args:
        bets: number of bets that run side by side.
        limit: value of the statistic at which it alarms.
    """

    def __init__(self, bets: int, limit: float) -> None:
        self.limit = limit
        self.sums = [0.0] * bets
        self.quiet = 0

    def add(self, factors: Sequence[float]) -> bool:
        """Adds one photograph.

        Args:
            factors: what each bet pays, at least 0; 1 in the mean while nothing has changed.

        Returns:
            Whether the statistic reaches the limit.
        """
        if self.quiet:
            self.quiet -= 1
            return False
        self.sums = [(total + 1.0) * factor for total, factor in zip(self.sums, factors, strict=True)]
        if sum(self.sums) / len(self.sums) < self.limit:
            return False
        self.sums, self.quiet = [0.0] * len(self.sums), QUIET
        return True


class Ranks:
    """Conformal test: have values risen above a reference and all values before?

    Args:
        reference: values to begin with.
        limit: of the statistic.
        burn_in: number of first values that only extend the reference.
        seed: of the smoothing and the sample, fixed so that a replay gives the same alarms.
    """

    def __init__(self, reference: Sequence[float], limit: float, *, burn_in: int = 0, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311 - splits ties and draws the sample, no secret
        # A random sample of exchangeable values is exchangeable with those of the line. The lowest ones would not be.
        sample = reference if len(reference) <= REFERENCE else self._random.sample(reference, REFERENCE)
        self.known = sorted(sample)
        self.burn_in = burn_in
        self.statistic = ShiryaevRoberts(len(_POWERS), limit)

    def add(self, value: float) -> bool:
        """Adds the value of one photograph. Returns whether the test alarms."""
        p = self.p_value(value)
        if len(self.known) < REFERENCE:
            insort(self.known, value)
        if self.burn_in:
            self.burn_in -= 1
            return False
        return self.statistic.add([k * p ** (k - 1) for k in _POWERS])

    def p_value(self, value: float) -> float:
        """Smoothed conformal p-value in (0, 1]: the share of values that are higher; of equal ones, a random share."""
        higher = len(self.known) - bisect_right(self.known, value)
        equal = len(self.known) - higher - bisect_left(self.known, value) + 1
        return (higher + (1.0 - self._random.random()) * equal) / (len(self.known) + 1)


class Share:
    """Likelihood-ratio test: does something happen in more than this share of photographs?

    Args:
        share: that is tolerated, in (0, 1).
        limit: of the statistic.
    """

    def __init__(self, share: float, limit: float) -> None:
        self.share, self.alternatives = share, (min(1.0, 1.5 * share), min(1.0, 3 * share), (1 + share) / 2)
        self.statistic = ShiryaevRoberts(len(self.alternatives), limit)

    def add(self, happened: bool) -> bool:
        """Adds one photograph. Returns whether the test alarms."""
        if happened:
            return self.statistic.add([alternative / self.share for alternative in self.alternatives])
        return self.statistic.add([(1 - alternative) / (1 - self.share) for alternative in self.alternatives])


class Drift:
    """All tests together, on the rows of `stlm watch` in order.

    Args:
        judging: how the model judges; its normal scores and how unfamiliar they were are the reference.
        reject_share: share of parts that may be rejected, in (0, 1). A line with more defects raises it.
        false_alarm_every: mean number of photographs between two false alarms, at least.
    """

    def __init__(
        self, judging: Judging, reject_share: float = REJECT_SHARE, false_alarm_every: int = FALSE_ALARM_EVERY
    ) -> None:
        limit = len(ADVICE) * false_alarm_every
        # Scores above the threshold are left out here and on the line alike, so ranks stay exchangeable; rejects have
        # a test of their own.
        usual = [score for score in judging.normal_scores if score < judging.threshold]
        familiar = judging.normal_unfamiliarity
        self.threshold = judging.threshold
        self.scores = Ranks(usual, limit, burn_in=max(0, BURN_IN - len(usual)), seed=1)
        self.familiarity = Ranks(familiar, limit, burn_in=max(0, BURN_IN - len(familiar)), seed=2)
        self.unfamiliar = Share(UNFAMILIAR_SHARE, limit)
        self.rejects = Share(reject_share, limit)

    def add(self, row: Row) -> str | None:
        """Adds one row. Returns the advice of each test that alarms, a sentence each; None: no test does."""
        if row.verdict is None or row.score is None:
            return None
        alarms = []
        unfamiliar = row.verdict == "unfamiliar"
        if self.unfamiliar.add(unfamiliar):
            alarms.append("unfamiliar")
        if row.unfamiliarity and self.familiarity.add(row.unfamiliarity):
            alarms.append("familiarity")
        if not unfamiliar and self.rejects.add(row.verdict == "reject"):
            alarms.append("rejects")
        if not unfamiliar and row.score < self.threshold and self.scores.add(row.score):
            alarms.append("scores")
        return " ".join(ADVICE[name] for name in alarms) or None
