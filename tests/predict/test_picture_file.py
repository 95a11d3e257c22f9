"""Limits of a picture file, before any pixel is decoded."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from encoded import png
from PIL import Image, ImageFile

from stlm_hub.errors import ImageError
from stlm_hub.predict import picture_file
from stlm_hub.predict.images import load_image


@pytest.mark.parametrize("side", [12_000, 20_000])
def test_a_decompression_bomb_is_refused_before_decoding(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("pixels were decoded"))
    data = png(side, side, 1, 0, bytes((side // 8 + 1) * side))
    assert len(data) < 60_000
    start = time.process_time()
    with (
        warnings.catch_warnings(),
        pytest.raises(ImageError, match=r"^bomb .*40 megapixels; crop it"),
    ):
        warnings.simplefilter("ignore")
        load_image(data, name="bomb")
    assert time.process_time() - start < 1


def test_limits_are_inclusive() -> None:
    assert load_image(np.zeros((8, 400), np.uint8)).shape == (8, 400, 3)
    for shape, sentence in (((7, 100), "at least 8"), ((0, 100), "at least 8"), ((8, 401), "50 times")):
        with pytest.raises(ImageError, match=sentence):
            load_image(np.zeros(shape, np.uint8))
    with pytest.raises(ImageError, match="40 megapixels"):
        load_image(np.broadcast_to(np.uint8(0), (8_000, 5_001)))


def test_limits_of_pixels_and_bytes_are_inclusive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "part.png"
    Image.new("RGB", (40, 30)).save(file)
    monkeypatch.setattr(picture_file, "MAX_PIXELS", 40 * 30)
    monkeypatch.setattr(picture_file, "MAX_FILE_BYTES", file.stat().st_size)
    assert load_image(file).shape == (30, 40, 3)
    monkeypatch.setattr(picture_file, "MAX_FILE_BYTES", file.stat().st_size - 1)
    with pytest.raises(ImageError, match="over the limit"):
        load_image(file)


def test_large_files_are_refused_without_reading_them(tmp_path: Path) -> None:
    file = tmp_path / "large.png"
    with file.open("wb") as stream:
        stream.truncate(picture_file.MAX_FILE_BYTES + 1)  # a sparse file
    with pytest.raises(ImageError, match=r"large\.png has 200 MB, over the limit of 200 MB"):
        load_image(file)
