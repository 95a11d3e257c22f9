"""The sets of photographs that verdicts are measured on, in MVTec AD's layout, under one folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stlm_hub.errors import DataError
from stlm_hub.evaluation.evaluate import TestSet, check_both_kinds
from stlm_hub.evaluation.test_folder import read_test_set
from stlm_hub.predict.images import list_images
from stlm_hub.samples.parts import write_samples

MVTEC = ("bottle", "pill", "screw", "grid", "toothbrush")
SETS = {
    **{name: f"mvtec_ad/{name}" for name in MVTEC},
    **{name: name for name in ("hazelnut_toy", "cookies", "aliens", "magnetic_tile")},
}
"""Name of each set, and its folder."""


@dataclass(frozen=True)
class PhotoSet:
    """Photographs of one part: good ones to learn from, good and anomalous ones to test with.

    `masks` are those of the anomalous ones, in order; none where the set has none.
    """

    name: str
    train: list[Path]
    test: TestSet

    @property
    def good(self) -> list[Path]:
        return self.test.good

    @property
    def anomalous(self) -> list[Path]:
        return self.test.anomalous

    @property
    def masks(self) -> list[Path]:
        return self.test.masks

    def sample(self, good: int, anomalous: int, seed: int) -> TestSet:
        """At most so many test photographs of each kind, by chance, in order."""
        random = np.random.default_rng(seed)
        first, second = (
            sorted(random.permutation(len(kind))[:n].tolist())
            for kind, n in ((self.good, good), (self.anomalous, anomalous))
        )
        return TestSet(
            [self.good[i] for i in first],
            [self.anomalous[i] for i in second],
            [self.masks[i] for i in second] if self.masks else [],
        )


def read_set(data: Path, name: str) -> PhotoSet:
    """One of `SETS` under the folder `data`.

    Raises:
        DataError: there is no such set, or photographs are missing.
    """
    if name not in SETS:
        raise DataError(f"There is no set {name!r}; choose from {', '.join(SETS)}.")
    folder = data / SETS[name]
    return _read(name, folder)


def drawn_set(folder: Path) -> PhotoSet:
    """The sample photographs that the zoo's `sample-brick` learned from and is tested with, written to a folder."""
    written = write_samples(folder)
    return _read(written.name, written)


def _read(name: str, folder: Path) -> PhotoSet:
    test = read_test_set(folder)
    check_both_kinds(test, folder)
    return PhotoSet(name, list_images(folder / "train" / "good"), test)
