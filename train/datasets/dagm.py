"""DAGM 2007 (Wieler and Hahn): one class, split again as the STLM paper does (section 4.1.1).

<class>/<Train|Test>/NNNN.PNG, <class>/<Train|Test>/Label/Labels.txt, <class>/<Train|Test>/Label/NNNN_label.PNG

Labels.txt holds a single number on its first line and then a line per image: number, 1 for anomalous or 0, file, a
number, file of the mask or 0. Masks are coarse ellipses around the defects, non-zero inside.

The paper moves every anomalous image to the test images and every normal one to the training images; 30 of these, drawn
at random, become the test's good ones. It does not give the seed, so the 30 here need not be the paper's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stlm_hub.errors import DataError
from stlm_hub.evaluation.evaluate import TestSet
from stlm_hub.model_folder.provenance import Split

from .category import Category, Counts, compare_split

TEST_GOOD = 30
RESPLIT_SEED = 0
COUNTS: dict[
    str, Counts
] = {  # of the re-split: classes 1-6 have 1000 normal and 150 anomalous images, 7-10 twice as many
    **{f"Class{i}": (970, TEST_GOOD, 150) for i in range(1, 7)},
    **{f"Class{i}": (1970, TEST_GOOD, 300) for i in range(7, 11)},
}


def read_category(folder: Path, seed: int = RESPLIT_SEED) -> Category:
    """
    Args:
        folder: of one class, e.g. `.../DAGM2007/Class1`.
        seed: decides which normal images are test images; the choice depends on it and the file names only.

    Raises:
        DataError: a table, an image or a mask is missing or damaged, or there are too few normal images.
    """
    normal: list[Path] = []
    anomalous: list[Path] = []
    for part in ("Train", "Test"):
        for path, is_anomalous in _labelled(folder / part).items():
            (anomalous if is_anomalous else normal).append(path)
    if len(normal) <= TEST_GOOD:
        raise DataError(f"{folder} has {len(normal)} normal images; the re-split needs more than {TEST_GOOD}.")
    normal.sort(key=lambda path: (path.name, path.parent.name))
    order = np.random.default_rng([seed, len(normal)]).permutation(len(normal))
    chosen = {int(i) for i in order[:TEST_GOOD]}
    anomalous.sort()
    train = [path for i, path in enumerate(normal) if i not in chosen]
    test = TestSet([normal[i] for i in sorted(chosen)], anomalous, [_mask(path) for path in anomalous])
    return Category(train, test, _split(train, test, folder.name, seed))


def _split(train: list[Path], test: TestSet, name: str, seed: int) -> Split:
    """Never the official one: the paper splits the classes again and does not give its seed."""
    how = (
        "anomalous images of both parts and 30 of the normal ones are tested on, the other normal ones trained on "
        f"(STLM paper, section 4.1.1; the 30 are drawn with seed {seed}, the paper gives none)"
    )
    found = compare_split(train, test, COUNTS.get(name))
    return Split(False, how if found is None or found.official else f"{found.reason}; {how}")


def _labelled(folder: Path) -> dict[Path, bool]:
    """Images of Train or Test -> whether they are anomalous."""
    table = folder / "Label" / "Labels.txt"
    try:
        lines = table.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DataError(
            f"{table} is missing; pass --data with the folder that holds {folder.parent.name}/Train and "
            f"{folder.parent.name}/Test."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{table} cannot be read ({error}); unpack the data set again.") from None
    found: dict[Path, bool] = {}
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields or (number == 1 and len(fields) == 1):
            continue
        if len(fields) < 3 or fields[1] not in ("0", "1"):
            raise DataError(f"Line {number} of {table} does not say whether its image is anomalous; unpack it again.")
        path = folder / fields[2]
        if not path.is_file():
            raise DataError(f"{path} is missing; line {number} of {table.name} names it, so unpack the data set again.")
        found[path] = fields[1] == "1"
    return found


def _mask(image: Path) -> Path:
    mask = image.parent / "Label" / f"{image.stem}_label.PNG"
    if not mask.is_file():
        raise DataError(f"{mask} is missing; every anomalous image needs its mask.")
    return mask
