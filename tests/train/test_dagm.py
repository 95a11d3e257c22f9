from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stlm_hub.errors import DataError
from stlm_hub.evaluation.masks import read_mask
from train.datasets import dagm
from train.datasets.dagm import COUNTS, read_category


def images(folder: Path) -> set[Path]:
    return {path for part in ("Train", "Test") for path in (folder / part).glob("*.PNG")}


def test_the_resplit_is_disjoint_and_complete(dagm_class: Path) -> None:
    found = read_category(dagm_class)
    parts = [found.train, found.test.good, found.test.anomalous]
    assert [len(part) for part in parts] == [30, 30, 10]
    assert set().union(*parts) == images(dagm_class)
    assert sum(map(len, parts)) == len(images(dagm_class))


def test_every_anomalous_image_of_both_parts_is_tested_on_with_its_own_mask(dagm_class: Path) -> None:
    test = read_category(dagm_class).test
    assert [f"{p.parent.name}/{p.stem}" for p in test.anomalous] == [
        *(f"Test/{number:04d}" for number in range(31, 37)),
        *(f"Train/{number:04d}" for number in range(71, 75)),
    ]
    expected = np.zeros((8, 8), bool)
    expected[2:4] = True
    for image, mask in zip(test.anomalous, test.masks, strict=True):
        assert mask == image.parent / "Label" / f"{image.stem}_label.PNG"
        np.testing.assert_array_equal(read_mask(mask, (8, 8)), expected)


def test_good_test_images_come_from_both_parts(dagm_class: Path) -> None:
    found = read_category(dagm_class)
    for paths in (found.train, found.test.good):
        assert {path.parent.name for path in paths} == {"Train", "Test"}


def test_the_seed_decides_the_good_test_images(dagm_class: Path) -> None:
    first, again, other = read_category(dagm_class), read_category(dagm_class), read_category(dagm_class, seed=1)
    assert first == again
    assert set(first.test.good) != set(other.test.good)
    assert first.test.anomalous == other.test.anomalous
    assert first.split is not None and other.split is not None
    assert "seed 0" in first.split.reason and "seed 1" in other.split.reason


def test_the_order_of_the_table_changes_nothing(dagm_class: Path) -> None:
    before = read_category(dagm_class)
    table = dagm_class / "Train" / "Label" / "Labels.txt"
    head, *lines = table.read_text().splitlines()
    table.write_text("\n".join([head, *reversed(lines)]), encoding="utf-8-sig")
    assert read_category(dagm_class) == before


def test_the_split_is_never_called_official(dagm_class: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = read_category(dagm_class).split
    assert split is not None and not split.official
    assert split.reason.startswith("30 train, 30 good and 10 anomalous") and "970, 30 and 150" in split.reason
    monkeypatch.setattr(dagm, "COUNTS", {"Class3": (30, 30, 10)})
    split = read_category(dagm_class).split
    assert split is not None and not split.official
    assert split.reason.startswith("anomalous images of both parts") and "section 4.1.1" in split.reason


def test_counts_are_those_of_the_data_set() -> None:
    assert list(COUNTS) == [f"Class{i}" for i in range(1, 11)]
    assert [sum(counts) for counts in COUNTS.values()] == [2 * 575] * 6 + [2 * 1150] * 4
    assert sum(counts[2] for counts in COUNTS.values()) == 2100
    assert {counts[1] for counts in COUNTS.values()} == {30}


def test_missing_files_are_refused(dagm_class: Path) -> None:
    (dagm_class / "Test" / "Label" / "0033_label.PNG").unlink()
    with pytest.raises(DataError, match=r"0033_label\.PNG is missing; every anomalous image"):
        read_category(dagm_class)
    (dagm_class / "Test" / "0033.PNG").unlink()
    with pytest.raises(DataError, match=r"0033\.PNG is missing; line 34 of Labels\.txt"):
        read_category(dagm_class)
    with pytest.raises(DataError, match=r"Labels\.txt is missing; pass --data .* Class4/Train and Class4/Test"):
        read_category(dagm_class.parent / "Class4")


@pytest.mark.parametrize("line", ["31\t2\t0031.PNG\t0\t0", "31\t1", "31"])
def test_a_damaged_table_is_refused(dagm_class: Path, line: str) -> None:
    table = dagm_class / "Test" / "Label" / "Labels.txt"
    table.write_text(table.read_text() + line + "\n")
    with pytest.raises(DataError, match=r"Line 38 of .*Labels\.txt does not say"):
        read_category(dagm_class)


def test_too_few_normal_images_are_refused(dagm_class: Path) -> None:
    for part in ("Train", "Test"):
        table = dagm_class / part / "Label" / "Labels.txt"
        head, *lines = table.read_text().splitlines()
        table.write_text("\n".join([head, *lines[:15]]))
    with pytest.raises(DataError, match="has 30 normal images; the re-split needs more than 30"):
        read_category(dagm_class)
