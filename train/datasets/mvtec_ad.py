"""MVTec AD (Bergmann et al., CVPR 2019): one category's folder, in its published layout.

<category>/train/good, <category>/test/<good|defect type>, <category>/ground_truth/<defect type>/<stem>_mask.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stlm_hub.errors import DataError
from stlm_hub.evaluation.evaluate import TestSet
from stlm_hub.images import list_images

OFFICIAL_COUNTS = {  # train good, test good, test anomalous: table 1 of the data set's paper
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


@dataclass(frozen=True)
class Category:
    """Photographs of one category. `split` is "official" where the counts are the published ones, else what differs."""

    train: list[Path]
    test: TestSet
    split: str


def read_category(folder: Path) -> Category:
    """
    Args:
        folder: of one category, e.g. `.../mvtec_ad/bottle`.

    Raises:
        DataError: a folder or a mask is missing.
    """
    normal = folder / "train" / "good"
    if not normal.is_dir():
        raise DataError(f"{normal} is missing; pass --data with the folder that holds {folder.name}/train/good.")
    good: list[Path] = []
    anomalous: list[Path] = []
    masks: list[Path] = []
    for kind in sorted(path for path in (folder / "test").iterdir() if path.is_dir()):
        for path in list_images(kind):
            if kind.name == "good":
                good.append(path)
                continue
            mask = folder / "ground_truth" / kind.name / f"{path.stem}_mask.png"
            if not mask.is_file():
                raise DataError(f"{mask} is missing; every photograph under test/{kind.name} needs its mask.")
            anomalous.append(path)
            masks.append(mask)
    train = list_images(normal)
    return Category(
        train, TestSet(good, anomalous, masks), _split(folder.name, (len(train), len(good), len(anomalous)))
    )


def _split(category: str, counts: tuple[int, int, int]) -> str:
    official = OFFICIAL_COUNTS.get(category)
    if official is None or official == counts:
        return "official" if official else "as in the folder"
    return (
        f"not the official one: {counts[0]} train, {counts[1]} good and {counts[2]} anomalous test photographs "
        f"instead of {official[0]}, {official[1]} and {official[2]}"
    )
