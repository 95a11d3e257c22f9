"""VisA (Zou et al., ECCV 2022): one category of the 1-class split.

As downloaded: <root>/split_csv/1cls.csv names photographs, <category>/Data/Images/<Normal|Anomaly>/NNN.JPG, and their
masks, <category>/Data/Masks/Anomaly/NNN.png. A mask holds the number of the defect type, 1 to 9, not 255.
As prepare_data.py of github.com/amazon-science/spot-diff leaves it: <root>/1cls/<category> in MVTec AD's layout.
"""

from __future__ import annotations

import csv
from pathlib import Path

from stlm_hub.errors import DataError
from stlm_hub.evaluation.evaluate import TestSet

from .category import Category, Counts, compare_split
from .folder import read_folder

COLUMNS = {"object", "split", "label", "image", "mask"}
OFFICIAL_COUNTS: dict[str, Counts] = {  # train, test good, test anomalous: rows of 1cls.csv
    "candle": (900, 100, 100),
    "capsules": (542, 60, 100),
    "cashew": (450, 50, 100),
    "chewinggum": (453, 50, 100),
    "fryum": (450, 50, 100),
    "macaroni1": (900, 100, 100),
    "macaroni2": (900, 100, 100),
    "pcb1": (904, 100, 100),
    "pcb2": (901, 100, 100),
    "pcb3": (905, 101, 100),
    "pcb4": (904, 101, 100),
    "pipe_fryum": (450, 50, 100),
}


def read_category(root: Path, category: str) -> Category:
    """
    Args:
        root: folder of the whole data set, in either layout.
        category: e.g. "candle".

    Raises:
        DataError: neither layout is there, the table of the split is damaged, or a file that it names is missing.
    """
    table = root / "split_csv" / "1cls.csv"
    if table.is_file():
        return _read_table(table, root, category)
    for folder in (root / "1cls" / category, root / category):
        if (folder / "train" / "good").is_dir():
            return read_folder(folder, OFFICIAL_COUNTS.get(category))
    raise DataError(
        f"{table} is missing; pass --data with the folder that holds {category}/Data and split_csv/ "
        "(from github.com/amazon-science/spot-diff), or with what its prepare_data.py made."
    )


def _read_table(table: Path, root: Path, category: str) -> Category:
    train: list[Path] = []
    good: list[Path] = []
    anomalous: list[tuple[Path, Path]] = []
    for row in _rows(table):
        if row["object"] != category:
            continue
        image, kind = _named(root, row["image"], table), (row["split"], row["label"])
        if kind == ("train", "normal"):
            train.append(image)
        elif kind == ("test", "normal"):
            good.append(image)
        elif kind == ("test", "anomaly"):
            anomalous.append((image, _named(root, row["mask"], table)))
        else:
            raise DataError(
                f"{table} has {row['image']} as {kind[1]} in {kind[0]}; the 1-class split has no such thing."
            )
    if not train:
        raise DataError(f"{table} names no photographs of {category} to train on; take the file as it is published.")
    anomalous.sort()
    test = TestSet(sorted(good), [image for image, _ in anomalous], [mask for _, mask in anomalous])
    return Category(sorted(train), test, compare_split(train, test, OFFICIAL_COUNTS.get(category)))


def _rows(table: Path) -> list[dict[str, str]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            if not set(reader.fieldnames or ()) >= COLUMNS:
                raise DataError(
                    f"{table} needs the columns object, split, label, image and mask; take it as published."
                )
            return list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read as a table ({error}); take it as it is published.") from None


def _named(root: Path, name: str, table: Path) -> Path:
    path = root / name
    if not path.is_file():
        raise DataError(f"{path} is missing; {table.name} names it, so unpack the data set again.")
    return path
