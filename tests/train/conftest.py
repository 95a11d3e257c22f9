"""Small folders in the exact layout of each data set."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

DAGM_NORMAL = {"Train": range(41, 71), "Test": range(1, 31)}  # 30 each
DAGM_ANOMALOUS = {"Train": range(71, 75), "Test": range(31, 37)}  # 4 and 6


def picture(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(path)


def label_mask(path: Path, value: int) -> None:
    """Rows 2 and 3 hold `value`."""
    values = np.zeros((8, 8), np.uint8)
    values[2:4] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


@pytest.fixture(name="picture")
def picture_fixture() -> Callable[..., None]:
    return picture


@pytest.fixture
def visa_root(tmp_path: Path) -> Path:
    """Candle: 3 train, 2 good and 2 anomalous; pcb1: 1 of each. Rows are not in order."""
    root = tmp_path / "VisA"
    rows = []
    for name, train, good, n_anomalous in (("candle", (7, 0, 12), (4, 3), 2), ("pcb1", (1,), (2,), 1)):
        for part, label, numbers in (("train", "normal", train), ("test", "normal", good)):
            for number in numbers:
                image = f"{name}/Data/Images/Normal/{number:04d}.JPG"
                picture(root / image)
                rows.append([name, part, label, image, ""])
        for number in reversed(range(n_anomalous)):
            image, mask = f"{name}/Data/Images/Anomaly/{number:03d}.JPG", f"{name}/Data/Masks/Anomaly/{number:03d}.png"
            picture(root / image)
            label_mask(root / mask, number + 1)
            rows.append([name, "test", "anomaly", image, mask])
    table = root / "split_csv" / "1cls.csv"
    table.parent.mkdir()
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["object", "split", "label", "image", "mask"], *rows])
    return root


@pytest.fixture
def dagm_class(tmp_path: Path) -> Path:
    """60 normal and 10 anomalous images in Class3/Train and Class3/Test."""
    folder = tmp_path / "DAGM2007" / "Class3"
    for part in ("Train", "Test"):
        lines = ["3"]
        for number in sorted([*DAGM_NORMAL[part], *DAGM_ANOMALOUS[part]]):
            anomalous = number in DAGM_ANOMALOUS[part]
            mask = f"{number:04d}_label.PNG"
            picture(folder / part / f"{number:04d}.PNG", 90)
            if anomalous:
                label_mask(folder / part / "Label" / mask, 255)
            lines.append(f"{number}\t{int(anomalous)}\t{number:04d}.PNG\t0\t{mask if anomalous else 0}")
        (folder / part / "Label").mkdir(exist_ok=True)
        (folder / part / "Label" / "Labels.txt").write_text("\r\n".join(lines) + "\r\n")
    return folder
