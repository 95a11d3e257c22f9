from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from stlm_hub.errors import DataError
from stlm_hub.evaluation.masks import read_mask
from stlm_hub.model_folder.provenance import Split
from train.datasets import visa
from train.datasets.visa import OFFICIAL_COUNTS, read_category


def names(paths: list[Path]) -> list[str]:
    return [f"{path.parent.name}/{path.name}" for path in paths]


def test_the_table_decides_what_is_trained_and_tested_on(visa_root: Path) -> None:
    found = read_category(visa_root, "candle")
    assert names(found.train) == ["Normal/0000.JPG", "Normal/0007.JPG", "Normal/0012.JPG"]
    assert names(found.test.good) == ["Normal/0003.JPG", "Normal/0004.JPG"]
    assert names(found.test.anomalous) == ["Anomaly/000.JPG", "Anomaly/001.JPG"]
    assert [path.relative_to(visa_root).as_posix() for path in found.test.masks] == [
        "candle/Data/Masks/Anomaly/000.png",
        "candle/Data/Masks/Anomaly/001.png",
    ]
    assert all(path.is_file() for path in [*found.train, *found.test.photographs, *found.test.masks])


def test_masks_of_small_numbers_mark_the_defect(visa_root: Path) -> None:
    expected = np.zeros((8, 8), bool)
    expected[2:4] = True
    for mask in read_category(visa_root, "candle").test.masks:
        np.testing.assert_array_equal(read_mask(mask, (8, 8)), expected)


def test_what_prepare_data_made_is_read_too(visa_root: Path, tmp_path: Path) -> None:
    """Its masks are called like the photographs, without MVTec AD's _mask."""
    prepared, raw = tmp_path / "VisA_pytorch", read_category(visa_root, "candle")
    folder = prepared / "1cls" / "candle"
    for where, paths in {
        "train/good": raw.train,
        "test/good": raw.test.good,
        "test/bad": raw.test.anomalous,
        "ground_truth/bad": raw.test.masks,
    }.items():
        (folder / where).mkdir(parents=True)
        for path in paths:
            shutil.copy(path, folder / where)
    for root in (prepared, prepared / "1cls"):
        found = read_category(root, "candle")
        assert [p.name for p in found.train] == [p.name for p in raw.train]
        assert [p.name for p in found.test.photographs] == [p.name for p in raw.test.photographs]
        assert found.test.masks == [folder / "ground_truth" / "bad" / f"00{i}.png" for i in (0, 1)]
        assert found.split == raw.split


def test_only_the_published_counts_are_official(visa_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = read_category(visa_root, "candle").split
    assert split is not None and not split.official
    assert split.reason.startswith("3 train, 2 good and 2 anomalous") and "900, 100 and 100" in split.reason
    monkeypatch.setattr(visa, "OFFICIAL_COUNTS", {"candle": (3, 2, 2)})
    assert read_category(visa_root, "candle").split == Split(True)


def test_official_counts_are_those_of_the_data_set() -> None:
    assert len(OFFICIAL_COUNTS) == 12
    train, good, anomalous = (sum(counts[i] for counts in OFFICIAL_COUNTS.values()) for i in range(3))
    assert (train, good, anomalous) == (8659, 962, 1200)
    assert train + good == 9621


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("object,split", "thing,split", "needs the columns object, split, label, image and mask"),
        ("candle,train,normal", "candle,train,anomaly", "as anomaly in train"),
        ("Normal/0007.JPG", "Normal/0008.JPG", r"0008\.JPG is missing; 1cls\.csv names it"),
        ("Masks/Anomaly/001.png", "Masks/Anomaly/009.png", r"009\.png is missing"),
        ("candle,train,normal", "cashew,train,normal", "names no photographs of candle to train on"),
    ],
)
def test_a_damaged_table_is_refused(visa_root: Path, old: str, new: str, sentence: str) -> None:
    table = visa_root / "split_csv" / "1cls.csv"
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(DataError, match=sentence):
        read_category(visa_root, "candle")


def test_a_table_that_is_no_text_is_refused(visa_root: Path) -> None:
    (visa_root / "split_csv" / "1cls.csv").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(DataError, match="cannot be read as a table"):
        read_category(visa_root, "candle")


def test_a_folder_of_neither_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1cls\.csv is missing; pass --data .* candle/Data and split_csv"):
        read_category(tmp_path, "candle")
