"""A whole data set where good photographs are meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from drawn import write_photographs

from stlm_hub.errors import DataError
from stlm_hub.predict.good_ones import good_folder, good_members
from stlm_hub.predict.photographs import check_photographs


def photographs(folder: Path, n: int) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_photographs(folder, n)


def test_a_folder_of_photographs_is_itself(tmp_path: Path) -> None:
    photographs(tmp_path / "part", 2)
    photographs(tmp_path / "part" / "train" / "good", 1)
    assert good_folder(tmp_path / "part") == (tmp_path / "part", "")


@pytest.mark.parametrize("inside", ["train/good", "train/Good", "train/OK", "good", "Normal"])
def test_of_a_whole_data_set_the_good_ones_are_used_and_it_is_said(tmp_path: Path, inside: str) -> None:
    photographs(tmp_path / inside, 3)
    photographs(tmp_path / "test" / "crack", 2)
    found = check_photographs(tmp_path, at_least=3)
    assert [path.parent for path in found.paths] == [tmp_path / inside] * 3
    assert found.notes == [f"{tmp_path} holds a whole data set; the good photographs in {tmp_path / inside} are used."]


def test_subfolders_of_unknown_kinds_are_named(tmp_path: Path) -> None:
    photographs(tmp_path / "monday", 1)
    photographs(tmp_path / "tuesday", 1)
    with pytest.raises(DataError, match="itself holds no photographs; pass the one of good parts: monday, tuesday"):
        good_folder(tmp_path)


def test_of_an_archive_of_a_data_set_train_good_counts() -> None:
    names = ["b/train/good/1.png", "b/test/good/1.png", "b/test/crack/2.png", "b/ground_truth/crack/2_mask.png"]
    assert good_members(names) == ([0], "3 files outside train/good are left out.")
    assert good_members(["a.png", "parts/b.png"]) == ([0, 1], "")


def test_of_an_archive_with_good_and_bad_ones_the_good_ones_count() -> None:
    names = ["part/good/1.png", "part/bad/2.png", "part/Good/3.png", "4.png"]
    assert good_members(names) == ([0, 2], "2 files outside the folder of good ones are left out.")
    assert good_members(["OK/1.png", "OK/2.png"]) == ([0, 1], "")


def test_an_archive_of_test_photographs_alone_is_refused() -> None:
    with pytest.raises(DataError, match=r"test/crack/2.png looks like a test photograph or a mask"):
        good_members(["a.png", "test/crack/2.png"])
