"""A plain folder of good photographs, with or without a test set in MVTec AD's layout.

<folder>/train/good (or the photographs right in <folder>), <folder>/test/<good|defect type>,
<folder>/ground_truth/<defect type>/<stem>_mask.png or <stem>.png
"""

from __future__ import annotations

from pathlib import Path

from stlm_hub.errors import DataError
from stlm_hub.evaluation.evaluate import TestSet
from stlm_hub.images import list_images

from .category import Category, Counts, describe_split


def read_folder(folder: Path, published: Counts | None = None) -> Category:
    """
    Args:
        folder: of one category. Without `test/` in it the test set is empty.
        published: counts of the data set's own split, if the folder is of one.

    Raises:
        DataError: there are no photographs to train on, or a mask is missing.
        ImageError: the folder does not exist.
    """
    normal = folder / "train" / "good"
    train = list_images(normal if normal.is_dir() else folder)
    if not train:
        raise DataError(
            f"There are no photographs in {normal} or right in {folder}; put photographs of good parts there."
        )
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
    test = TestSet(good, anomalous, masks)
    return Category(train, test, describe_split(train, test, published))


def _mask(folder: Path, photograph: Path) -> Path:
    """MVTec AD names masks <stem>_mask.png; what VisA's own prepare_data.py writes is called like the photograph."""
    named = [folder / f"{photograph.stem}_mask.png", folder / f"{photograph.stem}.png"]
    for mask in named:
        if mask.is_file():
            return mask
    raise DataError(f"{named[0]} is missing; every photograph under test/{folder.name} needs its mask.")
