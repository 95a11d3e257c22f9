"""The test photographs of one category's folder in MVTec AD's layout.

<folder>/test/<good|defect type>, <folder>/ground_truth/<defect type>/<stem>_mask.png or <stem>.png
"""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError
from ..predict.images import list_images
from .evaluate import TestSet


def read_test_set(folder: Path) -> TestSet:
    """
    Args:
        folder: of one category. Without `test/` in it the test set is empty.

    Raises:
        DataError: a mask is missing.
        ImageError: a folder cannot be read.
    """
    good: list[Path] = []
    anomalous: list[Path] = []
    masks: list[Path] = []
    tests = folder / "test"
    for kind in sorted(path for path in tests.iterdir() if path.is_dir()) if tests.is_dir() else []:
        if kind.name == "good":
            good = list_images(kind)
            continue
        for path in list_images(kind):
            anomalous.append(path)
            masks.append(_mask(folder / "ground_truth" / kind.name, path))
    return TestSet(good, anomalous, masks)


def _mask(folder: Path, photograph: Path) -> Path:
    """MVTec AD names masks <stem>_mask.png; what VisA's own prepare_data.py writes is called like the photograph."""
    named = [folder / f"{photograph.stem}_mask.png", folder / f"{photograph.stem}.png"]
    for mask in named:
        if mask.is_file():
            return mask
    raise DataError(f"{named[0]} is missing; every photograph under test/{folder.name} needs its mask.")
