"""The test photographs of one category's folder in MVTec AD's layout.

<folder>/test/<good|defect type>, <folder>/ground_truth/<defect type>/<stem>_mask.png or <stem>.png. Without
ground_truth there are no masks, and figures are of whole photographs alone.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError
from ..predict.good_ones import is_good
from ..predict.images import list_images
from .evaluate import TestSet


def read_test_set(folder: Path) -> TestSet:
    """
    Args:
        folder: of one category. Without `test/` in it the test set is empty; hidden folders in it do not count.

    Raises:
        DataError: some photographs have masks, and one is missing.
        ImageError: a folder cannot be read.
    """
    good: list[Path] = []
    anomalous: list[Path] = []
    masks: list[Path] = []
    tests = folder / "test"
    truth = folder / "ground_truth"
    kinds = sorted(path for path in tests.iterdir() if path.is_dir()) if tests.is_dir() else []
    for kind in kinds:
        if kind.name.startswith("."):
            continue
        if is_good(kind.name):
            good += list_images(kind)
            continue
        for path in list_images(kind):
            anomalous.append(path)
            if truth.is_dir():
                masks.append(_mask(truth / kind.name, path))
    return TestSet(good, anomalous, masks)


def _mask(folder: Path, photograph: Path) -> Path:
    """MVTec AD names masks <stem>_mask.png; what VisA's own prepare_data.py writes is called like the photograph."""
    stems = (f"{photograph.stem}_mask", photograph.stem)
    found = {path.stem: path for path in list_images(folder)} if folder.is_dir() else {}
    for stem in stems:
        if stem in found:
            return found[stem]
    raise DataError(
        f"{folder / stems[0]}.png is missing; every photograph under test/{folder.name} needs its mask, or remove "
        f"{folder.parent.name} for figures of whole photographs alone."
    )
