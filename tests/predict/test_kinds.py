"""What people have where a picture should be: pointers, phones' pictures, long texts, profiles, several frames."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import texture
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from stlm_hub.errors import DataError, ImageError
from stlm_hub.predict import images, kinds
from stlm_hub.predict.images import list_images, load_image, note_left_out, read_picture
from stlm_hub.predict.photographs import check_photographs

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def encode(image: Image.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


@pytest.fixture
def part() -> Image.Image:
    return Image.fromarray(texture(60, 80))


@pytest.fixture
def heic(part: Image.Image) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    pillow_heif.from_pillow(part).save(stream, quality=95)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("start", "sentence"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n", "Git LFS pointer.*`git lfs pull`"),
        (b"/annex/objects/SHA256E-s123--4d7a.jpg\n", "git-annex pointer.*`git annex get`"),
    ],
)
def test_a_pointer_is_named_as_one(tmp_path: Path, start: bytes, sentence: str) -> None:
    (tmp_path / "part.jpg").write_bytes(start)
    with pytest.raises(ImageError, match=rf"part\.jpg is a {sentence}"):
        load_image(tmp_path / "part.jpg")


def test_heic_is_read_under_any_name(tmp_path: Path, part: Image.Image, heic: bytes) -> None:
    for name in ("IMG_1.HEIC", "IMG_2.heif", "IMG_3.jpg"):
        (tmp_path / name).write_bytes(heic)
        assert np.abs(load_image(tmp_path / name).astype(int) - np.asarray(part)).mean() < 6
    assert len(list_images(tmp_path)) == 3 and note_left_out(tmp_path) == ""
    with pytest.raises(ImageError, match=r"damaged|cannot be read|not a PNG"):
        load_image(heic[: len(heic) // 2])


def test_without_its_package_heic_is_left_out_by_number(
    tmp_path: Path, part: Image.Image, heic: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (images, kinds):
        monkeypatch.setattr(module, "reads_heic", lambda: False)
    for i in range(9):
        (tmp_path / f"IMG_{i}.HEIC").write_bytes(heic)
    part.save(tmp_path / "one.jpg")
    said = '9 HEIC files are left out: pip install "stlm_hub[heic]"'
    assert [path.name for path in list_images(tmp_path)] == ["one.jpg"] and note_left_out(tmp_path) == said
    with pytest.raises(DataError, match=r"holds 1 photograph; .*9 HEIC files are left out"):
        check_photographs(tmp_path)
    for i in range(8):
        Image.fromarray(texture(60, 80, seed=i + 1)).save(tmp_path / f"{i}.jpg")
    assert said in check_photographs(tmp_path).notes
    with pytest.raises(ImageError, match=r"IMG_0\.HEIC is a HEIC picture.*stlm_hub\[heic\]"):
        load_image(tmp_path / "IMG_0.HEIC")


def test_avif_is_no_heic(part: Image.Image) -> None:
    with pytest.raises(ImageError, match="is not a PNG, JPEG, WebP, BMP, TIFF or HEIC"):
        load_image(encode(part, "AVIF"))


@pytest.mark.parametrize("compressed", [False, True])
def test_a_png_with_long_texts_is_read(part: Image.Image, compressed: bool) -> None:
    info = PngInfo()
    info.add_itxt("history", "x" * 3_000_000, zip=compressed)
    info.add_text("comment", "y" * 2_000_000, zip=compressed)
    assert np.array_equal(load_image(encode(part, "PNG", pnginfo=info)), np.asarray(part))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_long_profile_is_read(part: Image.Image, format: str) -> None:
    plain = load_image(encode(part, format))
    profile = SRGB + np.random.default_rng(0).bytes(2_000_000)  # what follows a profile's tables is not looked at
    assert np.array_equal(load_image(encode(part, format, icc_profile=profile)), plain)


def wide_gamut() -> bytes:
    """sRGB's profile with red and green exchanged: its colours are others than sRGB's."""
    profile = bytearray(SRGB)
    at = {}
    for i in range(int.from_bytes(profile[128:132], "big")):
        entry = 132 + 12 * i
        at[bytes(profile[entry : entry + 4])] = entry + 4
    red, green = (bytes(profile[at[name] : at[name] + 8]) for name in (b"rXYZ", b"gXYZ"))
    profile[at[b"rXYZ"] : at[b"rXYZ"] + 8], profile[at[b"gXYZ"] : at[b"gXYZ"] + 8] = green, red
    return bytes(profile)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_other_colours_are_converted_and_those_of_srgb_stay(part: Image.Image, format: str) -> None:
    assert np.array_equal(load_image(encode(part, format, icc_profile=SRGB)), np.asarray(part))
    converted = load_image(encode(part, format, icc_profile=wide_gamut()))
    assert np.abs(converted.astype(int) - np.asarray(part)[..., [1, 0, 2]]).max() <= 2
    clear = part.convert("RGBA")
    assert np.array_equal(load_image(encode(clear, format, icc_profile=wide_gamut())), converted)


def test_a_profile_that_cannot_be_used_is_said(part: Image.Image) -> None:
    for format in ("PNG", "JPEG"):
        picture = read_picture(encode(part, format, icc_profile=b"none" * 50), name="part")
        assert picture.notes == ("part has a colour profile that cannot be used and is not applied.",)
        assert np.array_equal(picture.image, load_image(encode(part, format)))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_the_first_of_several_pictures_is_said(part: Image.Image, format: str) -> None:
    data = encode(part, format, save_all=True, append_images=[Image.fromarray(texture(60, 80, seed=1))])
    assert read_picture(data, name="part").notes == ("part holds several pictures; the first is used.",)
    assert read_picture(encode(part, format)).notes == ()


def test_the_second_picture_in_a_phones_jpeg_is_not_worth_a_word(part: Image.Image) -> None:
    data = encode(part, "MPO", save_all=True, append_images=[part.resize((40, 30))])
    assert read_picture(data).notes == ()
