"""Cameras of 10, 12 and 14 bits in files of 16: the depth is that of the part, never guessed for one photograph."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from drawn import judging_by, texture
from fuzz.seeds import png
from PIL import Image

from stlm_hub.errors import ConfigError, PictureWarning
from stlm_hub.models.stlm.judging import Judging
from stlm_hub.predict.depth import depth_of, fitting
from stlm_hub.predict.images import load_image, read_picture
from stlm_hub.predict.photographs import check_photographs
from stlm_hub.predict.prediction import Prediction
from stlm_hub.stlm import STLM

LZW, PLAIN = (cv2.IMWRITE_TIFF_COMPRESSION, 5), (cv2.IMWRITE_TIFF_COMPRESSION, 1)


def deep(bits: int, seed: int = 0) -> np.ndarray:
    """HxWx3 uint16 of a camera of so many bits, at the lower end of each value."""
    full = np.random.default_rng(seed).integers(0, 1 << bits, (16, 20, 3), dtype=np.uint16)
    full[0, 0, 0] = (1 << bits) - 1
    return full


def encoded(values: np.ndarray, kind: str) -> Any:
    """The same values in one of the ways that they come in."""
    if kind == "array":
        return values
    if kind == "PIL":
        return Image.fromarray(values)
    blue_first = values[..., [2, 1, 0, *range(3, values.shape[2])]] if values.ndim == 3 else values
    options = {"tiff": PLAIN, "lzw": LZW}.get(kind, ())
    return cv2.imencode(".png" if kind == "png" else ".tif", blue_first, list(options))[1].tobytes()


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["png", "tiff", "lzw", "array"])
def test_a_known_depth_is_the_whole_range_in_grey_and_in_colour(kind: str, bits: int) -> None:
    values = deep(bits)
    expected = (values >> (bits - 8)).astype(np.uint8)
    assert np.array_equal(load_image(encoded(values, kind), bits=bits), expected)
    assert np.array_equal(load_image(encoded(values[..., 0], kind), bits=bits)[..., 1], expected[..., 0])


@pytest.mark.parametrize("kind", ["png", "tiff", "lzw", "array"])
def test_opacity_is_not_the_cameras(kind: str) -> None:
    values = np.dstack([deep(12), np.full((16, 20), 65535, np.uint16)])
    picture = read_picture(encoded(values, kind), bits=12)
    assert np.array_equal(picture.image, values[..., :3] >> 4) and picture.top == 4095


def test_grey_with_opacity_keeps_both_bytes() -> None:
    values = np.dstack([deep(12)[..., 0], np.full((16, 20), 65535, np.uint16)])
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    assert np.array_equal(load_image(png(20, 16, 16, 4, rows), bits=12)[..., 0], values[..., 0] >> 4)


@pytest.mark.parametrize(("bits", "times"), [(10, 64), (12, 16), (14, 4)])
@pytest.mark.parametrize("kind", ["png", "lzw", "array"])
def test_an_unknown_depth_is_said_of_each_file(kind: str, bits: int, times: int) -> None:
    for values in (deep(bits), deep(bits)[..., 0]):
        with pytest.warns(PictureWarning, match=f"below {1 << bits}.*{times} times too dark.*--bits"):
            load_image(encoded(values, kind))


@pytest.mark.parametrize("kind", ["png", "lzw", "array"])
def test_values_at_the_upper_end_need_no_word(kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(load_image(encoded(deep(12) << 4, kind)), deep(12) >> 4)
        load_image(np.zeros((16, 16), np.uint16))


def test_what_does_not_fit_the_known_depth_is_said() -> None:
    above, black = read_picture(deep(14), bits=12), read_picture(deep(10) >> 4, bits=12)
    assert above.image.max() == 255 and "above the 12 bits" in above.notes[0]
    assert "nearly black" in black.notes[0]
    assert read_picture(deep(10), bits=12).notes == ()  # dark, as a photograph may be


def test_a_pil_image_of_deep_colours_says_that_it_is_none() -> None:
    opened = Image.open(io.BytesIO(encoded(deep(12), "png")))
    assert any("pass its path" in note for note in read_picture(opened).notes)


def test_the_depth_is_that_of_all_photographs_together() -> None:
    assert [fitting(top) for top in (0, 1023, 1024, 4095, 4096, 16383, 16384, 65535)] == [
        10,
        10,
        12,
        12,
        14,
        14,
        16,
        16,
    ]
    assert depth_of([]) is None and depth_of([200, 3900, 700]) == 12


@pytest.mark.parametrize("bits", [8, 11, 12.0, True, "12"])
def test_other_depths_are_refused(bits: Any) -> None:
    with pytest.raises(ConfigError, match="bits must be"):
        load_image(deep(12), bits=bits)
    with pytest.raises(ConfigError, match="bits must be"):
        Judging(bits=bits)


def test_a_depth_is_kept_and_an_unknown_one_not_written() -> None:
    assert Judging.from_dict(Judging(bits=12).to_dict()).bits == 12
    assert "bits" not in Judging().to_dict()


def write(folder: Path, bits: int, brightest: float = 1.0, n: int = 9) -> None:
    folder.mkdir(exist_ok=True)
    for i in range(n):
        grey = texture(40, 50, seed=i)[..., 0].astype(np.float64) / 255
        dark = 1 / 8 if i == 4 else brightest
        cv2.imwrite(str(folder / f"{i}.png"), np.round(grey * dark * ((1 << bits) - 1)).astype(np.uint16))


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_a_folder_has_one_depth_whatever_its_darkest_photograph(tmp_path: Path, bits: int) -> None:
    write(tmp_path, bits)
    found = check_photographs(tmp_path)
    assert found.bits == bits and len(found.paths) == 9
    assert any(f"camera of {bits} bits" in note and "--bits" in note for note in found.notes)


def test_a_folder_of_8_bits_has_none_and_a_named_depth_counts(tmp_path: Path) -> None:
    write(tmp_path / "deep", 12, brightest=0.2)
    assert check_photographs(tmp_path / "deep").bits == 10
    assert check_photographs(tmp_path / "deep", bits=12).bits == 12
    (tmp_path / "flat").mkdir()
    for i in range(8):
        Image.fromarray(texture(40, 50, seed=i)).save(tmp_path / "flat" / f"{i}.png")
    found = check_photographs(tmp_path / "flat")
    assert found.bits is None and found.notes == []


def test_two_settings_in_one_folder_are_named(tmp_path: Path) -> None:
    write(tmp_path, 16)
    cv2.imwrite(str(tmp_path / "other.png"), (texture(40, 50, seed=77)[..., 0].astype(np.uint16) << 2))
    found = check_photographs(tmp_path)
    assert found.bits == 16 and any("other.png" in note and "nearly black" in note for note in found.notes)


def test_a_model_reads_what_it_judges_with_its_depth(tiny_model: STLM, tmp_path: Path) -> None:
    values = texture(60, 70, seed=5)
    cv2.imwrite(str(tmp_path / "part.png"), values[..., ::-1].astype(np.uint16) << 4)
    twelve = judging_by(tiny_model, bits=12)
    expected = tiny_model.predict(values).score
    assert twelve.predict(tmp_path / "part.png").score == expected
    (judged,) = twelve.predict_many([tmp_path / "part.png"])
    assert isinstance(judged, Prediction) and judged.score == expected and not judged.notes
    with pytest.warns(PictureWarning, match="16 times too dark"):
        unknown = tiny_model.predict(tmp_path / "part.png")
    (judged,) = tiny_model.predict_many([tmp_path / "part.png"])
    assert isinstance(judged, Prediction)
    assert judged.notes == unknown.notes and judged.to_dict()["notes"] == list(judged.notes)
    assert "part.png" in judged.notes[0]
