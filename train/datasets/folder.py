"""A plain folder of good photographs, with or without a test set in MVTec AD's layout.

<folder>/train/good (or the photographs right in <folder>); `stlm_hub.evaluation.test_folder` reads the test set.
"""

from __future__ import annotations

from pathlib import Path

from stlm_hub.errors import DataError
from stlm_hub.evaluation.test_folder import read_test_set
from stlm_hub.predict.images import list_images

from .category import Category, Counts, compare_split


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
    test = read_test_set(folder)
    return Category(train, test, compare_split(train, test, published))
