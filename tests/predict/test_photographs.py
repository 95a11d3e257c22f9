"""A folder of photographs is checked before the work starts: every refusal names the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stlm_hub.errors import DataError
from stlm_hub.predict.photographs import check_photographs


def write(folder: Path, n: int, size: tuple[int, int] = (40, 30), start: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    for i in range(start, start + n):
        pixels = np.random.default_rng(i).integers(0, 256, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")


def test_usable_photographs_are_returned_in_order(tmp_path: Path) -> None:
    write(tmp_path, 9)
    (tmp_path / "notes.txt").write_text("not a photograph")
    found = check_photographs(tmp_path)
    assert [path.name for path in found.paths] == [f"{i:02d}.png" for i in range(9)]
    assert found.duplicates == []


def test_too_few_photographs_are_refused(tmp_path: Path) -> None:
    write(tmp_path, 7)
    with pytest.raises(DataError, match="holds 7 photographs; training needs at least 8"):
        check_photographs(tmp_path)


def test_calibration_needs_fewer_photographs(tmp_path: Path) -> None:
    write(tmp_path, 3)
    with pytest.raises(DataError, match="holds 3 photographs; calibration needs at least 4"):
        check_photographs(tmp_path, at_least=4, work="calibration")
    (tmp_path / "copy.png").write_bytes((tmp_path / "00.png").read_bytes())
    with pytest.raises(DataError, match=r"only 3 different ones.*calibration needs at least 4"):
        check_photographs(tmp_path, at_least=4, work="calibration")
    write(tmp_path, 1, start=9)
    assert len(check_photographs(tmp_path, at_least=4, work="calibration").paths) == 4


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        check_photographs(tmp_path / "nowhere")


def test_duplicates_are_left_out_even_in_another_format(tmp_path: Path) -> None:
    write(tmp_path, 8)
    with Image.open(tmp_path / "03.png") as image:
        image.save(tmp_path / "copy.bmp")
    found = check_photographs(tmp_path)
    assert len(found.paths) == 8
    assert [(a.name, b.name) for a, b in found.duplicates] == [("copy.bmp", "03.png")]


def test_duplicates_that_leave_too_few_are_refused(tmp_path: Path) -> None:
    write(tmp_path, 6)
    for i in range(6):
        (tmp_path / f"copy{i}.png").write_bytes((tmp_path / f"{i:02d}.png").read_bytes())
    sentence = r"12 photographs, but only 6 different ones \(copy0\.png is the same as 00\.png\)"
    with pytest.raises(DataError, match=sentence):
        check_photographs(tmp_path)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    write(tmp_path, 9)
    (tmp_path / "broken.png").write_bytes((tmp_path / "00.png").read_bytes()[:200])
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="2 of 11 files") as caught:
        check_photographs(tmp_path)
    assert "broken.png" in str(caught.value) and "empty.jpg" in str(caught.value)


def test_blank_photographs_are_named(tmp_path: Path) -> None:
    write(tmp_path, 8)
    Image.new("RGB", (40, 30), (7, 7, 7)).save(tmp_path / "lens_cap.png")
    with pytest.raises(DataError, match=r"lens_cap\.png"):
        check_photographs(tmp_path)


@pytest.mark.parametrize("size", [(180, 135), (9, 30), (60, 15)])
def test_sizes_that_differ_too_much_are_refused_with_both_names(tmp_path: Path, size: tuple[int, int]) -> None:
    write(tmp_path, 8)
    write(tmp_path, 1, size, start=50)
    with pytest.raises(DataError, match=rf"{size[0]}x{size[1]}") as caught:
        check_photographs(tmp_path)
    assert "50.png" in str(caught.value) and "40x30" in str(caught.value)


def test_sizes_that_differ_a_little_are_accepted(tmp_path: Path) -> None:
    write(tmp_path, 8)
    write(tmp_path, 2, (80, 62), start=50)
    assert len(check_photographs(tmp_path).paths) == 10
