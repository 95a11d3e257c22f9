from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stlm_hub.errors import DataError, ImageError
from stlm_hub.model_folder.provenance import Split
from train.datasets.folder import read_folder


def test_photographs_right_in_the_folder_are_enough(tmp_path: Path, picture: Callable[..., None]) -> None:
    for name in ("part10.png", "part2.jpg"):
        picture(tmp_path / name)
    found = read_folder(tmp_path)
    assert [path.name for path in found.train] == ["part2.jpg", "part10.png"]
    assert found.test.photographs == [] and found.test.masks == []
    assert found.split is None  # nothing was published to compare it with


def test_train_good_comes_first_and_a_test_set_is_read(tmp_path: Path, picture: Callable[..., None]) -> None:
    picture(tmp_path / "overview.png")
    picture(tmp_path / "train" / "good" / "0.png")
    picture(tmp_path / "test" / "good" / "1.png")
    for stem, mask in {"2": "2_mask.png", "3": "3.png"}.items():
        picture(tmp_path / "test" / "dent" / f"{stem}.JPG")
        picture(tmp_path / "ground_truth" / "dent" / mask)
    found = read_folder(tmp_path)
    assert [path.name for path in found.train] == ["0.png"]
    assert [path.name for path in found.test.good] == ["1.png"]
    assert [path.name for path in found.test.anomalous] == ["2.JPG", "3.JPG"]
    assert [path.name for path in found.test.masks] == ["2_mask.png", "3.png"]
    assert read_folder(tmp_path, (1, 1, 2)).split == Split(True)
    split = read_folder(tmp_path, (1, 1, 3)).split
    assert split is not None and not split.official
    assert split.words == (
        "not the official one: 1 train, 1 good and 2 anomalous test photographs instead of 1, 1 and 3"
    )


def test_without_ground_truth_there_are_no_masks(tmp_path: Path, picture: Callable[..., None]) -> None:
    picture(tmp_path / "0.png")
    picture(tmp_path / "test" / "dent" / "1.png")
    picture(tmp_path / "test" / ".hidden" / "2.png")
    test = read_folder(tmp_path).test
    assert [path.name for path in test.anomalous] == ["1.png"] and test.masks == []


def test_folders_that_cannot_be_used_are_refused(tmp_path: Path, picture: Callable[..., None]) -> None:
    with pytest.raises(DataError, match=r"no photographs in .*train.good or right in"):
        read_folder(tmp_path)
    with pytest.raises(ImageError, match="nowhere cannot be read"):
        read_folder(tmp_path / "nowhere")
    picture(tmp_path / "0.png")
    picture(tmp_path / "test" / "dent" / "1.png")
    (tmp_path / "ground_truth").mkdir()
    with pytest.raises(DataError, match=r"dent.1_mask\.png is missing; every photograph under test/dent"):
        read_folder(tmp_path)
