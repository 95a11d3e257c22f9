"""MVTec AD (Bergmann et al., CVPR 2019): one category's folder, in its published layout.

<category>/train/good, <category>/test/<good|defect type>, <category>/ground_truth/<defect type>/<stem>_mask.png
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from stlm_hub.errors import DataError
from stlm_hub.model_folder.provenance import Split

from .category import Category, Counts
from .folder import read_folder

OFFICIAL_COUNTS: dict[str, Counts] = {  # train good, test good, test anomalous: table 1 of the data set's paper
    "bottle": (209, 20, 63),
    "cable": (224, 58, 92),
    "capsule": (219, 23, 109),
    "carpet": (280, 28, 89),
    "grid": (264, 21, 57),
    "hazelnut": (391, 40, 70),
    "leather": (245, 32, 92),
    "metal_nut": (220, 22, 93),
    "pill": (267, 26, 141),
    "screw": (320, 41, 119),
    "tile": (230, 33, 84),
    "toothbrush": (60, 12, 30),
    "transistor": (213, 60, 40),
    "wood": (247, 19, 60),
    "zipper": (240, 32, 119),
}


def read_category(folder: Path) -> Category:
    """
    Args:
        folder: of one category, e.g. `.../mvtec_ad/bottle`.

    Raises:
        DataError: a folder or a mask is missing, or there are no photographs to train on.
    """
    if not (folder / "train" / "good").is_dir():
        raise DataError(
            f"{folder / 'train' / 'good'} is missing; pass --data with the folder that holds {folder.name}/train/good."
        )
    found = read_folder(folder, OFFICIAL_COUNTS.get(folder.name))
    # Its own test photographs are numbered; others that stand in for missing ones may look more like the training's.
    foreign = [path.stem for path in found.test.good if not path.stem.isdigit()]
    if not foreign:
        return found
    named = f"{len(foreign)} of the good test photographs are not its own by their names, e.g. {foreign[0]}"
    counts = found.split.reason if found.split and not found.split.official else "as large as the official one"
    return dataclasses.replace(found, split=Split(False, f"{counts}; {named}"))
