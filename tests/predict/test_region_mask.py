"""A picture of where to look -> the region of a frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stlm_hub.errors import DataError, ImageError
from stlm_hub.predict.region_mask import area_on_frame, looked_at, on_frame, read_region

SHAPE = (100, 200)


def mask(path: Path, rows: slice, columns: slice, shape: tuple[int, int] = SHAPE) -> Path:
    pixels = np.zeros(shape, np.uint8)
    pixels[rows, columns] = 255
    Image.fromarray(pixels).save(path)
    return path


def test_white_is_looked_at_or_ignored(tmp_path: Path) -> None:
    left = mask(tmp_path / "left.png", slice(None), slice(0, 80))
    assert read_region(left, SHAPE)[:, :80].all() and not read_region(left, SHAPE)[:, 80:].any()
    assert (read_region(left, SHAPE, ignore=True) == ~read_region(left, SHAPE)).all()
    upper = mask(tmp_path / "upper.png", slice(0, 25), slice(None), (50, 100))
    both = looked_at(left, upper, SHAPE)
    assert both is not None and both[50:, :80].all() and both.sum() == 50 * 80
    assert looked_at(None, None, SHAPE) is None
    frame = on_frame(read_region(left, SHAPE), (64, 128))
    assert frame.shape == (64, 128) and frame[:, :51].all() and not frame[:, 52:].any()


def test_nonsense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="100x100 px and the photographs are 200x100; draw it on one of them"):
        read_region(mask(tmp_path / "square.png", slice(0, 50), slice(0, 50), (100, 100)), SHAPE)
    with pytest.raises(DataError, match="leaves less than 1 %"):
        read_region(mask(tmp_path / "black.png", slice(0, 0), slice(0, 0)), SHAPE)
    everything = mask(tmp_path / "white.png", slice(None), slice(None))
    with pytest.raises(DataError, match="leaves nothing out"):
        read_region(everything, SHAPE)
    with pytest.raises(DataError, match="leaves less than 1 %"):
        read_region(everything, SHAPE, ignore=True)
    with pytest.raises(DataError, match="two masks leave less than 1 %"):
        left = mask(tmp_path / "left.png", slice(None), slice(0, 80))
        looked_at(left, left, SHAPE)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ImageError):
        read_region(tmp_path / "text.png", SHAPE)


def test_a_mask_of_a_photograph_that_exif_turns_says_so() -> None:
    with pytest.raises(DataError, match="100x200 px and the photographs are 200x100, as they are shown: EXIF may turn"):
        read_region(np.zeros((200, 100), np.uint8), (100, 200))


def test_an_area_is_brought_to_the_frame() -> None:
    assert area_on_frame(100, (200, 400), (100, 200)) == 25
    for area in (-1, 801, float("nan")):
        with pytest.raises(DataError, match="minimum area must be 0 to 800 px"):
            area_on_frame(area, (200, 400), (100, 200))
