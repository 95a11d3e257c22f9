"""Masks as people have them: any format, any mode, and a sentence on those that look wrong."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from stlm_hub.errors import DataError
from stlm_hub.evaluation.masks import mask_note, read_mask, turn_note
from stlm_hub.evaluation.test_folder import read_test_set

DEFECT = np.zeros((40, 60), bool)
DEFECT[8:24, 8:32] = True
WHITE = DEFECT.astype(np.uint8) * 255


def rgba(colour: np.ndarray, alpha: np.ndarray) -> Image.Image:
    return Image.fromarray(np.dstack([colour] * 3 + [alpha]))


def palette(colours: list[int]) -> Image.Image:
    image = Image.fromarray(DEFECT.astype(np.uint8)).convert("P")
    image.putpalette(colours)
    return image


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(WHITE),
        Image.fromarray(DEFECT),
        Image.fromarray(WHITE // 255),
        Image.fromarray((WHITE // 255).astype(np.uint16)),
        rgba(WHITE, np.full_like(WHITE, 255)),
        rgba(np.full_like(WHITE, 255), WHITE),
        rgba(np.zeros_like(WHITE), WHITE),
        rgba(WHITE, WHITE),
        Image.fromarray(np.dstack([WHITE, np.full_like(WHITE, 255)])),
        palette([0, 0, 0, 255, 255, 255]),
        palette([0, 0, 0, 128, 0, 0]),
        palette([0, 0, 0, 0, 0, 0]),
        palette([255, 255, 255, 200, 0, 0]),
    ],
    ids=["L", "1", "label 1", "16-bit label", "RGBA", "alpha on white", "alpha on black", "both", "LA", "palette",
         "colour", "palette of black", "palette without black"],
)  # fmt: skip
def test_every_mode_marks_the_same(tmp_path: Path, image: Image.Image) -> None:
    image.save(tmp_path / "mask.png")
    found = read_mask(tmp_path / "mask.png", DEFECT.shape)
    assert found.dtype == bool and np.array_equal(found, DEFECT)


def test_small_labels_in_deep_colours_count(tmp_path: Path) -> None:
    label = DEFECT.astype(np.uint16)
    cv2.imwrite(str(tmp_path / "mask.png"), np.dstack([label, 0 * label, 0 * label]))
    assert np.array_equal(read_mask(tmp_path / "mask.png", DEFECT.shape), DEFECT)


@pytest.mark.parametrize("name", ["mask.jpg", "mask.png"])
def test_the_grey_around_a_defect_in_a_jpeg_does_not_count(tmp_path: Path, name: str) -> None:
    Image.fromarray(WHITE).save(tmp_path / name, "JPEG", quality=70)
    assert np.mean(read_mask(tmp_path / name, DEFECT.shape) != DEFECT) < 0.005


def test_a_mask_that_looks_wrong_is_named() -> None:
    path = Path("ground_truth/crack/000_mask.png")
    assert mask_note(path, DEFECT) == ""
    assert mask_note(path, ~DEFECT & False).startswith("The mask crack/000_mask.png is empty")
    inverted = ~np.pad(DEFECT, 60)
    assert mask_note(path, inverted) == "The mask crack/000_mask.png covers 99 % of its photograph; is it inverted?"


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_of_a_photograph_that_exif_turns_says_so(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(WHITE).save(tmp_path / "photo.jpg", exif=exif)
    Image.fromarray(WHITE).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match=r"is 60x40 px, its photograph 40x60 as it is shown: EXIF turns the photograph"):
        read_mask(tmp_path / "mask.png", (60, 40), tmp_path / "photo.jpg")
    Image.fromarray(WHITE).save(tmp_path / "mask.png", exif=exif)  # turned alike
    assert read_mask(tmp_path / "mask.png", (60, 40)).mean() == DEFECT.mean()


@pytest.mark.parametrize(("orientation", "said"), [(1, False), (3, True), (6, True)])
def test_where_the_size_does_not_tell_how_a_mask_was_drawn_it_is_said(
    tmp_path: Path, orientation: int, said: bool
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    square = Image.fromarray(WHITE[:, :40])
    square.save(tmp_path / "photo.jpg", exif=exif)
    square.save(tmp_path / "mask.png")
    assert ("as it is shown" in turn_note(tmp_path / "mask.png", tmp_path / "photo.jpg")) == said
    square.save(tmp_path / "mask.png", exif=exif)
    assert turn_note(tmp_path / "mask.png", tmp_path / "photo.jpg") == ""


@pytest.mark.parametrize("name", ["000_mask.PNG", "000_mask.bmp", "000_mask.jpg", "000.tif", "000.png"])
def test_masks_have_any_name_that_pictures_have(tmp_path: Path, name: str) -> None:
    for folder in ("test/good", "test/crack", "ground_truth/crack"):
        (tmp_path / folder).mkdir(parents=True)
    for photograph in ("good/000.png", "crack/000.png"):
        Image.fromarray(WHITE).save(tmp_path / "test" / photograph)
    Image.fromarray(WHITE).save(tmp_path / "ground_truth" / "crack" / name)
    assert [path.name for path in read_test_set(tmp_path).masks] == [name]
