"""A folder of photographs is checked before the work starts: every refusal names the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn import texture
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


def test_photographs_in_subfolders_and_behind_links_are_said_to_be_left_out(tmp_path: Path) -> None:
    good, other = tmp_path / "good", tmp_path / "other"
    write(good, 9)
    assert check_photographs(good).notes == []
    write(other, 1)
    (good / "linked").symlink_to(other, target_is_directory=True)
    write(good / "deep", 1)
    (good / "notes").mkdir()
    found = check_photographs(good)
    assert len(found.paths) == 9
    assert found.notes == [f"Photographs in folders inside {good} are left out: deep, linked."]


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


def parts(folder: Path, n: int, copies: int = 1, noise: float = 6.0) -> None:
    """Photographs of different parts, each as often as it is told, with other noise each time."""
    folder.mkdir(exist_ok=True)
    for i in range(n * copies):
        part = texture(480, 640, seed=i // copies).astype(float)
        noisy = part + np.random.default_rng(i).normal(0.0, noise, part.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{i:02d}.png")


def test_the_same_frame_with_other_noise_counts_once_where_near_copies_do_not_count(tmp_path: Path) -> None:
    parts(tmp_path, 6, copies=2)
    assert len(check_photographs(tmp_path).paths) == 12
    found = check_photographs(tmp_path, at_least=4, near_copies=False)
    assert [path.name for path in found.paths] == ["00.png", "02.png", "04.png", "06.png", "08.png", "10.png"]
    pairs = [(duplicate.name, original.name) for duplicate, original in found.duplicates]
    assert pairs == [(f"{i + 1:02d}.png", f"{i:02d}.png") for i in range(0, 12, 2)]


def test_noisy_copies_of_one_photograph_are_no_photographs_to_calibrate_on(tmp_path: Path) -> None:
    parts(tmp_path, 1, copies=12)
    sentence = (
        r"12 photographs, but only 1 different one \(01\.png is the same frame as 00\.png\); "
        "calibration needs at least 4, each of another part"
    )
    with pytest.raises(DataError, match=sentence):
        check_photographs(tmp_path, at_least=4, work="calibration", near_copies=False)


def test_photographs_of_parts_that_differ_a_little_are_all_kept(tmp_path: Path) -> None:
    for i in range(8):
        part = texture(60, 80)
        part[20:30, 10 + 6 * i : 20 + 6 * i] = 128  # a label at another place
        Image.fromarray(part).save(tmp_path / f"{i}.png")
    found = check_photographs(tmp_path, near_copies=False)
    assert len(found.paths) == 8 and found.duplicates == []


def test_duplicates_that_leave_too_few_are_refused(tmp_path: Path) -> None:
    write(tmp_path, 6)
    for i in range(6):
        (tmp_path / f"copy{i}.png").write_bytes((tmp_path / f"{i:02d}.png").read_bytes())
    sentence = r"12 photographs, but only 6 different ones \(copy0\.png is the same frame as 00\.png\)"
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
def test_sizes_that_differ_much_are_noted_with_both_names(tmp_path: Path, size: tuple[int, int]) -> None:
    write(tmp_path, 8)
    write(tmp_path, 1, size, start=50)
    found = check_photographs(tmp_path)
    assert len(found.paths) == 9 and found.notes
    for note in found.notes:
        assert "50.png" in note and "40x30" in note and f"{size[0]}x{size[1]}" in note and "a sharper model" in note


def test_sizes_that_differ_a_little_are_not_worth_a_word(tmp_path: Path) -> None:
    write(tmp_path, 8)
    write(tmp_path, 2, (80, 62), start=50)
    found = check_photographs(tmp_path)
    assert len(found.paths) == 10 and found.notes == []


@pytest.mark.parametrize("folders", ["train/good", "good"])
def test_of_a_whole_data_set_the_good_photographs_for_training_count(tmp_path: Path, folders: str) -> None:
    (tmp_path / folders).mkdir(parents=True)
    write(tmp_path / folders, 8)
    (tmp_path / "test" / "crack").mkdir(parents=True)
    write(tmp_path / "test" / "crack", 3, start=50)
    found = check_photographs(tmp_path)
    assert [path.parent for path in found.paths] == [tmp_path / folders] * 8 and len(found.notes) == 1
