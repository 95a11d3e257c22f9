"""Sample photographs: MVTec AD's layout, no shared pixels, exact masks, the same bytes for the same seed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("skimage", reason="the sample photographs come with scikit-image")

from stlm_hub.errors import DataError
from stlm_hub.samples import parts as samples
from stlm_hub.samples.defects import DEFECT_KINDS, TOLERANCE, paint
from stlm_hub.samples.parts import PARTS, REGIONS, make_defective, make_normal, write_samples

FEW: dict[str, Any] = {"n_train": 3, "n_good": 2, "n_defect_each": 1, "size": 64}
ROUNDING = 1  # grey levels: both pictures are rounded


def photograph(part: str) -> np.ndarray:
    from skimage import data

    return getattr(data, part)()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_samples(tmp_path_factory.mktemp("samples") / "new", part="brick", **FEW)


def test_layout_is_that_of_mvtec_ad(written: Path) -> None:
    expected = {"LICENSE.txt"} | {f"train/good/{i:03d}.png" for i in range(3)}
    expected |= {f"test/good/{i:03d}.png" for i in range(2)}
    for kind in ("crack", "stain", "scratch", "hole", "fibre"):
        expected |= {f"test/{kind}/000.png", f"ground_truth/{kind}/000_mask.png"}
    assert set(contents(written)) == expected
    assert written.name == "brick"
    assert [path.name for path in written.parent.iterdir()] == ["brick"]  # nothing left behind


@pytest.mark.parametrize("part", PARTS)
def test_license_names_the_source_that_scikit_image_states(part: str, tmp_path: Path) -> None:
    from skimage import data

    folder = write_samples(tmp_path, part=part, n_train=0, n_good=0, n_defect_each=0, size=64)
    text = (folder / "LICENSE.txt").read_text(encoding="utf-8")
    source = next(line for line in text.splitlines() if line.startswith("https://") and "creativecommons" not in line)
    assert source in getattr(data, part).__doc__
    assert "CC0" in text
    assert f"skimage.data.{part}" in text


def test_files_are_rgb_photographs_and_binary_masks_of_the_given_size(written: Path) -> None:
    for path in written.rglob("*.png"):
        with Image.open(path) as image:
            assert image.size == (64, 64)
            if path.name.endswith("_mask.png"):
                assert image.mode == "L"
                assert set(np.unique(image)) == {0, 255}
            else:
                assert image.mode == "RGB"


def test_written_files_hold_what_make_normal_and_make_defective_return(written: Path) -> None:
    grey = photograph("brick")
    for split, count in (("train", 3), ("test", 2)):
        for index in range(count):
            made = make_normal(grey, "brick", split, index, size=64, seed=0)
            np.testing.assert_array_equal(np.array(Image.open(written / split / "good" / f"{index:03d}.png")), made)
    for kind in DEFECT_KINDS:
        _, damaged, mask = make_defective(grey, "brick", kind, 0, size=64, seed=0)
        np.testing.assert_array_equal(np.array(Image.open(written / "test" / kind / "000.png")), damaged)
        saved = np.array(Image.open(written / "ground_truth" / kind / "000_mask.png"))
        np.testing.assert_array_equal(saved == 255, mask)


def test_the_seed_determines_the_bytes(written: Path, tmp_path: Path) -> None:
    again = contents(write_samples(tmp_path / "again", part="brick", **FEW))
    other = contents(write_samples(tmp_path / "other", part="brick", seed=1, **FEW))
    assert again == contents(written)
    assert {name for name in again if again[name] == other[name]} == {"LICENSE.txt"}


def test_a_photograph_does_not_depend_on_the_number_of_others(written: Path, tmp_path: Path) -> None:
    fewer = contents(write_samples(tmp_path, part="brick", n_train=1, n_good=1, n_defect_each=1, size=64))
    assert fewer.items() <= contents(written).items()
    assert len(fewer) == 1 + 1 + 1 + 2 * len(DEFECT_KINDS)


def test_regions_share_no_column() -> None:
    columns = {split: set(range(512)[region]) for split, region in REGIONS.items()}
    assert not columns["train"] & columns["test"]


@pytest.mark.parametrize(("split", "blackened"), [("train", "test"), ("test", "train")])
def test_a_crop_uses_no_pixel_of_the_other_region(split: str, blackened: str) -> None:
    grey = photograph("brick")
    changed = grey.copy()
    changed[:, REGIONS[blackened]] = 0
    for index in range(20):
        expected = make_normal(grey, "brick", split, index, size=64, seed=0)
        np.testing.assert_array_equal(make_normal(changed, "brick", split, index, size=64, seed=0), expected)
    if split == "test":
        for kind in DEFECT_KINDS:
            expected = make_defective(grey, "brick", kind, 0, size=64, seed=0)[1]
            np.testing.assert_array_equal(make_defective(changed, "brick", kind, 0, size=64, seed=0)[1], expected)


@pytest.mark.parametrize("split", REGIONS)
def test_crops_stay_inside_their_region(split: str) -> None:
    # The outermost pixels of the region are black. A crop that reached them would be dark there.
    framed = np.full((512, 512), 200, np.uint8)
    region = framed[:, REGIONS[split]]
    region[[0, -1]] = 0
    region[:, [0, -1]] = 0
    for index in range(60):
        assert make_normal(framed, "brick", split, index, size=64, seed=0).min() > 90


@pytest.mark.parametrize("part", PARTS)
def test_normals_differ_in_place_and_light(part: str) -> None:
    grey = photograph(part)
    for split in REGIONS:
        pictures = np.stack([make_normal(grey, part, split, i, size=64, seed=0) for i in range(12)]).astype(float)
        differences = [np.abs(a - b).mean() for i, a in enumerate(pictures) for b in pictures[:i]]
        assert min(differences) > 3
        assert pictures.mean(axis=(1, 2, 3)).std() > 2


@pytest.mark.parametrize("part", PARTS)
def test_normals_of_both_splits_have_the_same_mean_and_contrast(part: str) -> None:
    grey = photograph(part)
    looks = {}
    for split in REGIONS:
        pictures = np.stack([make_normal(grey, part, split, i, size=64, seed=0) for i in range(24)]).astype(float)
        looks[split] = pictures.mean(axis=(0, 1, 2)), pictures.std()
    np.testing.assert_allclose(looks["train"][0], looks["test"][0], rtol=0.1)
    assert looks["train"][1] == pytest.approx(looks["test"][1], rel=0.2)


@pytest.mark.parametrize("size", [64, 256])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", DEFECT_KINDS)
def test_mask_covers_the_whole_change_and_little_else(part: str, kind: str, size: int) -> None:
    grey = photograph(part)
    for index in range(4):
        clean, damaged, mask = make_defective(grey, part, kind, index, size=size, seed=0)
        change = np.abs(damaged.astype(int) - clean).max(axis=2)
        assert mask.shape == (size, size)
        assert mask.dtype == bool
        assert change[~mask].max() <= round(255 * TOLERANCE) + ROUNDING
        assert (change[mask] >= round(255 * TOLERANCE) - ROUNDING).mean() > 0.95
        assert 24 * (size / 256) ** 2 <= mask.sum() < 0.25 * size**2
        assert change[mask].mean() > 17  # visible to the eye


@pytest.mark.parametrize("kind", DEFECT_KINDS)
def test_masks_have_no_specks_and_no_pinholes(kind: str) -> None:
    import cv2

    grey = photograph("gravel")
    for index in range(4):
        mask = make_defective(grey, "gravel", kind, index, size=256, seed=3)[2]
        for region in (mask, ~mask):
            stats = cv2.connectedComponentsWithStats(region.astype(np.uint8), connectivity=8)[2]
            assert stats[1:, cv2.CC_STAT_AREA].min() >= 6


def test_dark_defects_darken_and_scratches_brighten() -> None:
    grey = photograph("brick")
    for kind, sign in (("crack", -1), ("stain", -1), ("hole", -1), ("scratch", 1)):
        for index in range(4):
            clean, damaged, mask = make_defective(grey, "brick", kind, index, size=128, seed=0)
            assert sign * (damaged.astype(int) - clean)[mask].mean() > 5


def test_paint_does_not_modify_its_input_and_depends_on_the_generator_only() -> None:
    image = np.full((96, 96, 3), 0.5, np.float32)
    for kind in DEFECT_KINDS:
        first, mask = paint(image, kind, np.random.default_rng(1))
        second, _ = paint(image, kind, np.random.default_rng(1))
        other, _ = paint(image, kind, np.random.default_rng(2))
        assert (image == 0.5).all()
        assert first.dtype == np.float32
        assert first.min() >= 0
        assert first.max() <= 1
        np.testing.assert_array_equal(first, second)
        assert np.abs(first - other).max() > TOLERANCE
        assert mask.any()


@pytest.mark.parametrize("kind", ["crack", "stain", "hole"])
def test_a_defect_that_cannot_be_seen_is_refused(kind: str) -> None:
    with pytest.raises(DataError, match=f"No {kind} painted"):
        paint(np.zeros((64, 64, 3), np.float32), kind, np.random.default_rng(0))


def test_a_folder_that_is_not_empty_is_refused_and_unchanged(tmp_path: Path) -> None:
    (tmp_path / "brick").mkdir()
    (tmp_path / "brick" / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="brick already exists and is not empty"):
        write_samples(tmp_path, part="brick", **FEW)
    assert contents(tmp_path) == {"brick/mine.txt": b"keep"}


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "grass").mkdir()
    assert (write_samples(tmp_path, part="grass", **FEW) / "test" / "hole" / "000.png").is_file()


def test_an_interrupted_run_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(samples, "paint", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_samples(tmp_path, part="brick", **FEW)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(DataError, match="cannot be written"):
        write_samples(tmp_path / "taken", part="brick", **FEW)
    (tmp_path / "gravel").write_text("a file")
    with pytest.raises(DataError, match="already exists"):
        write_samples(tmp_path, part="gravel", **FEW)


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("part", "wood", 'no sample photographs of "wood"; choose one of brick, grass, gravel'),
        ("size", 63, "size is 63"),
        ("size", 1025, "size is 1025"),
        ("size", 128.5, "size is 128.5"),
        ("size", True, "size is True"),
        ("seed", -1, "seed is -1"),
        ("n_train", -1, "n_train is -1"),
        ("n_good", "2", "n_good is '2'"),
        ("n_defect_each", 1.0, "n_defect_each is 1.0"),
    ],
)
def test_arguments_out_of_range_are_refused(argument: str, value: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        write_samples(tmp_path, **{**FEW, argument: value})
    assert list(tmp_path.iterdir()) == []


def test_without_scikit_image_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(DataError, match="pip install scikit-image"):
        write_samples(tmp_path, **FEW)
    assert list(tmp_path.iterdir()) == []
