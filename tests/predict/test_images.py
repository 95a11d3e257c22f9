"""Untrusted pictures: every kind gives an RGB array, as documented, or an ImageError that names the file."""

from __future__ import annotations

import io
import os
import warnings
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from encoded import assert_rgb_array, encode, grey, photo, tiff
from PIL import Image

from stlm_hub.errors import ImageError
from stlm_hub.predict import images, picture_file
from stlm_hub.predict.images import list_images, load_image
from stlm_hub.predict.kinds import HEIC_SUFFIXES

# ---- sources and formats


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_keep_every_pixel(format: str) -> None:
    options = {"lossless": True} if format == "WEBP" else {}
    array = load_image(encode(photo(), format, **options))
    assert_rgb_array(array)
    assert np.array_equal(array, photo())


def test_jpeg_stays_close() -> None:
    array = load_image(encode(photo(), "JPEG", quality=95))
    assert_rgb_array(array)
    assert np.abs(array.astype(int) - photo()).mean() < 4


def test_path_string_bytes_pil_image_and_array_give_the_same_array(tmp_path: Path) -> None:
    file = tmp_path / "part.png"
    file.write_bytes(encode(photo()))
    for source in (file, str(file), file.read_bytes(), Image.open(file), Image.fromarray(photo()), photo()):
        assert np.array_equal(load_image(source), photo())


def test_other_formats_are_refused_even_if_the_name_ends_in_png(tmp_path: Path) -> None:
    file = tmp_path / "animation.png"
    file.write_bytes(encode(photo(), "GIF"))
    with pytest.raises(ImageError, match=r"animation\.png is not a PNG, JPEG"):
        load_image(file)


def test_first_frame_of_an_animation_is_used() -> None:
    frames = [Image.fromarray(photo(seed=seed)) for seed in (1, 2)]
    for format, options in (("TIFF", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("MPO", {"quality": 95})):
        array = load_image(encode(frames[0], format, save_all=True, append_images=frames[1:], **options))
        if format == "MPO":  # what many phones write under the name .jpg
            assert np.abs(array.astype(int) - photo(seed=1)).mean() < 4
        else:
            assert np.array_equal(array, photo(seed=1)), format


# ---- pixel modes


def test_grey_and_bilevel_become_rgb() -> None:
    values = photo()[..., 0]
    assert np.array_equal(load_image(encode(values)), grey(values))
    bilevel = values > 100
    assert np.array_equal(load_image(encode(Image.fromarray(bilevel))), grey(bilevel.astype(np.uint8) * 255))


def test_palette_becomes_rgb() -> None:
    palette = Image.fromarray(photo()).quantize(16)
    expected = np.asarray(palette.convert("RGB"))
    assert np.array_equal(load_image(encode(palette)), expected)
    assert len(np.unique(expected.reshape(-1, 3), axis=0)) > 4


def test_transparent_palette_entry_is_white() -> None:
    index = np.zeros((16, 16), np.uint8)
    index[:, 8:] = 1
    palette = Image.fromarray(index).convert("P")
    palette.putpalette([200, 10, 20, 30, 40, 50])
    array = load_image(encode(palette, transparency=1))
    assert (array[:, :8] == (200, 10, 20)).all()
    assert (array[:, 8:] == 255).all()


def test_alpha_is_composited_on_white() -> None:
    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[..., :3] = (100, 0, 200)
    rgba[:8, :, 3] = 255
    rgba[8:12, :, 3] = 51  # one fifth
    expected = [(100, 0, 200), (224, 204, 244), (255, 255, 255)]
    for source in (encode(rgba), rgba, Image.fromarray(rgba), rgba.astype(np.uint16) * 257, rgba / 255):
        array = load_image(source)
        assert [tuple(array[row, 3]) for row in (0, 9, 15)] == expected
    grey_alpha = Image.fromarray(rgba[..., 0]).convert("LA")
    grey_alpha.putalpha(Image.fromarray(rgba[..., 3]))
    assert [int(value) for value in load_image(encode(grey_alpha))[[0, 9, 15], 3, 1]] == [100, 224, 255]


def test_cmyk_becomes_rgb_even_if_adobe_inverted_it() -> None:
    cmyk = Image.new("CMYK", (32, 24), (0, 255, 255, 0))  # red
    data = encode(cmyk, "JPEG", quality=95)
    assert b"Adobe" in data
    assert np.abs(load_image(data)[5, 5].astype(int) - (255, 0, 0)).max() < 8
    other_decoder = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))[..., ::-1]
    assert np.abs(load_image(data).astype(int) - other_decoder).max() < 8
    assert np.array_equal(load_image(encode(cmyk, "TIFF"))[5, 5], (255, 0, 0))


# ---- 16 bit and float


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("container", ["png", "tiff", "tiff-lzw", "pil", "pil-int32", "numpy"])
def test_16_bit_grey_keeps_the_high_byte(container: str, order: str) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (16, 20)).astype(order + "u2")
    source: Any = values
    if container == "png":  # PNG knows one byte order
        source = cv2.imencode(".png", values.astype("=u2"))[1].tobytes()
    elif container == "tiff":
        source = tiff(20, 16, values.tobytes(), {}, order)
    elif container == "tiff-lzw":
        source = cv2.imencode(".tif", values.astype("=u2"))[1].tobytes()
    elif container == "pil":
        source = Image.fromarray(values)
    elif container == "pil-int32":
        source = Image.fromarray(values.astype(np.int32))
    assert np.array_equal(load_image(source), grey((values >> 8).astype(np.uint8)))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_48_and_64_bit_files_equal_the_array_of_the_same_values(suffix: str, channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (16, 20, channels), dtype=np.uint16)
    if channels == 4:
        values[..., 3] = 65535
    blue_first = values[..., [2, 1, 0, 3][:channels]]
    data = cv2.imencode(suffix, blue_first)[1].tobytes()
    assert np.array_equal(load_image(data), (values[..., :3] >> 8).astype(np.uint8))
    assert np.array_equal(load_image(values), load_image(data))


def test_16_bit_scale_does_not_depend_on_the_rest_of_the_picture() -> None:
    dark = np.full((16, 16), 5000, np.uint16)
    bright = dark.copy()
    bright[0, 0] = 60000
    assert load_image(dark)[8, 8, 0] == load_image(bright)[8, 8, 0] == 5000 >> 8


def test_16_bit_container_of_a_12_bit_camera_warns() -> None:
    with pytest.warns(UserWarning, match="below 4096"):
        array = load_image(np.full((16, 16), 4095, np.uint16))
    assert (array == 15).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_image(np.full((16, 16), 16384, np.uint16))
        load_image(np.zeros((16, 16), np.uint16))


def test_tiff_depth_comes_from_its_bits_not_from_its_largest_value() -> None:
    values = np.random.default_rng(0).integers(0, 4096, (16, 20), dtype=np.uint16)
    first, second = values.reshape(-1, 2).T
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=1).astype(np.uint8)
    assert np.array_equal(load_image(tiff(20, 16, packed.tobytes(), {258: 12})), grey((values >> 4).astype(np.uint8)))
    wide = values * 16
    with_tag = load_image(tiff(20, 16, wide.tobytes(), {281: int(values.max())}))
    assert np.array_equal(with_tag, grey((wide >> 8).astype(np.uint8)))


def test_white_is_zero_tiff_of_16_bits_is_refused() -> None:
    values = np.full((16, 20), 9000, np.uint16)
    with pytest.raises(ImageError, match="white-is-zero"):
        load_image(tiff(20, 16, values.tobytes(), {262: 0}))
    eight = load_image(tiff(20, 16, values.astype(np.uint8).tobytes(), {258: 8, 262: 0}))
    assert (eight == 255 - 9000 % 256).all()


def test_32_bit_values_beyond_16_bits_are_refused() -> None:
    for value in (-1, 65536):
        with pytest.raises(ImageError, match="outside 0 to 65535"):
            load_image(Image.fromarray(np.full((16, 16), value, np.int32)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_in_0_to_1_is_scaled_by_255(dtype: type) -> None:
    values: np.ndarray = np.linspace(0, 1, 256).reshape(16, 16).astype(dtype)
    assert np.array_equal(load_image(values), grey(np.arange(256, dtype=np.uint8).reshape(16, 16)))


def test_float_tiff_is_scaled_by_255() -> None:
    values = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    expected = grey(np.arange(256, dtype=np.uint8).reshape(16, 16))
    assert np.array_equal(load_image(encode(values, "TIFF")), expected)
    assert np.array_equal(load_image(tiff(16, 16, values.astype(">f4").tobytes(), {258: 32, 339: 3}, ">")), expected)


def test_compressed_big_endian_float_tiff_is_refused() -> None:
    raw = zlib.compress(np.full((16, 16), 0.5, ">f4").tobytes())
    with pytest.raises(ImageError, match="big-endian"):
        load_image(tiff(16, 16, raw, {258: 32, 259: 8, 339: 3}, ">"))


@pytest.mark.parametrize("value", [255.0, 1.1, -0.1, np.nan, np.inf])
def test_float_outside_0_to_1_is_refused(value: float) -> None:
    values = np.full((16, 16), 0.5, np.float32)
    values[3, 4] = value
    for source in (values, encode(values, "TIFF"), Image.fromarray(values)):
        with pytest.raises(ImageError, match=r"not in \[0, 1\]; divide"):
            load_image(source)


# ---- arrays


def test_array_shapes_and_types() -> None:
    values = photo()
    assert np.array_equal(load_image(values[..., 0]), grey(values[..., 0]))
    assert np.array_equal(load_image(values[..., :1]), grey(values[..., 0]))
    assert np.array_equal(load_image(values[..., 0] > 100), grey((values[..., 0] > 100).astype(np.uint8) * 255))
    flipped = load_image(values[:, ::-1])
    assert_rgb_array(flipped)
    assert np.array_equal(flipped, values[:, ::-1])


@pytest.mark.parametrize("shape", [(16,), (3, 16, 16), (16, 16, 2), (1, 16, 16, 3), ()])
def test_arrays_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match="array of shape"):
        load_image(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("dtype", [np.int64, np.int16, np.uint32, np.complex64, object, "U1", "M8[s]"])
def test_arrays_of_other_types_are_refused(dtype: Any) -> None:
    with pytest.raises(ImageError, match="convert it to uint8, uint16 or float"):
        load_image(np.zeros((16, 16, 3), dtype))


def test_the_callers_data_is_not_modified_and_shares_no_memory_with_the_result() -> None:
    array = photo()
    result = load_image(array)
    result[:] = 0
    assert np.array_equal(array, photo())
    exif = Image.Exif()
    exif[0x0112] = 6
    opened = Image.open(io.BytesIO(encode(photo(), exif=exif)))
    info = dict(opened.info)
    assert load_image(opened).shape == (32, 24, 3)
    assert opened.size == (32, 24)
    assert opened.getexif()[0x0112] == 6
    assert opened.info == info
    assert np.array_equal(np.asarray(opened), photo())


def test_a_truncated_file_opened_by_the_caller_is_refused() -> None:
    data = encode(photo(200, 200), "JPEG")
    with pytest.raises(ImageError, match="The image is damaged or cut short"):
        load_image(Image.open(io.BytesIO(data[: len(data) // 2])))


def test_other_objects_are_refused() -> None:
    with pytest.raises(ImageError, match="is a list; pass a path"):
        load_image([[0]])  # type: ignore[arg-type]


# ---- damaged files, file names


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_truncated_files_are_refused_by_name(tmp_path: Path, format: str) -> None:
    file = tmp_path / "cut.png"
    data = encode(photo(200, 200), format)
    for share in (0.5, 0.9):
        file.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(ImageError, match=r"^cut\.png (is damaged|is not a PNG)"):
            load_image(file)


def test_empty_text_svg_folder_and_missing_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("This is not a picture.")
    (tmp_path / "drawing.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>')
    (tmp_path / "folder.png").mkdir()
    for name, sentence in (
        ("empty.png", "is empty"),
        ("text.png", "is not a PNG, JPEG"),
        ("drawing.svg", "is not a PNG, JPEG"),
        ("folder.png", "is a folder"),
    ):
        with pytest.raises(ImageError, match=f"^{name} {sentence}"):
            load_image(tmp_path / name)
    with pytest.raises(ImageError, match=r"There is no file .*missing\.png"):
        load_image(tmp_path / "missing.png")
    with pytest.raises(ImageError, match=r"^\. is a folder"):
        load_image(".")
    with pytest.raises(ImageError, match=r"^The image is empty"):
        load_image(b"")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match=r"pipe\.png is not an ordinary file"):
        load_image(tmp_path / "pipe.png")


@pytest.mark.parametrize("path", ["a\0b.png", "x" * 5000 + ".png"])
def test_impossible_paths_are_refused(path: str) -> None:
    with pytest.raises(ImageError) as caught:
        load_image(path)
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


def test_all_of_16_bits_in_32_is_read() -> None:
    values = np.linspace(0, 65535, 64, dtype=np.int32).reshape(8, 8)
    pixels = load_image(Image.fromarray(values))
    assert pixels[0, 0].tolist() == [0, 0, 0] and pixels[7, 7].tolist() == [255, 255, 255]


def test_what_the_system_says_is_passed_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ImageError, match=r"x\.png cannot be opened: Not a directory\.$"):
        load_image(tmp_path / "file" / "x.png")
    with pytest.raises(ImageError, match=r"cannot be read: Not a directory\.$"):
        list_images(tmp_path / "file" / "folder")


def test_names_that_count_the_same_are_in_order(tmp_path: Path) -> None:
    names = ["A1.png", "A01.png", "a1.png", "a001.png", "a01.png", "A001.png"]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == sorted(names)


def test_the_given_name_is_used_and_made_printable() -> None:
    with pytest.raises(ImageError, match=r"^upload\?\[31m 7 is empty"):
        load_image(b"", name="upload\x1b[31m 7")


def test_random_damage_gives_an_array_or_an_error_with_a_sentence() -> None:
    rng = np.random.default_rng(0)
    small = photo(16, 16)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x9286] = "comment"
    seeds = [
        encode(small, exif=exif),
        encode(Image.fromarray(small).quantize(8), transparency=1),
        encode(Image.fromarray(small[..., 0].astype(np.uint16) * 257)),
        encode(small, "JPEG", exif=exif),
        encode(Image.fromarray(small).convert("CMYK"), "JPEG"),
        encode(small, "TIFF", exif=exif),
        encode(small, "TIFF", compression="tiff_lzw"),
        encode(small[..., 0] / np.float32(255), "TIFF"),
        encode(small, "BMP"),
        encode(small, "WEBP"),
    ]
    outcomes = {"array": 0, "error": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in seeds:
            assert load_image(seed).shape == (16, 16, 3)
            for _ in range(120):
                data = bytearray(seed)
                for position in rng.integers(0, len(data), rng.integers(1, 6)):
                    data[position] = rng.integers(0, 256)
                if rng.random() < 0.3:
                    start = int(rng.integers(0, len(data)))
                    del data[start : start + int(rng.integers(1, 40))]
                try:
                    assert_rgb_array(load_image(bytes(data)))
                    outcomes["array"] += 1
                except ImageError as error:
                    assert str(error).isprintable()
                    outcomes["error"] += 1
    assert min(outcomes.values()) > 200


# ---- folders


def test_list_images_sorts_naturally_and_filters(tmp_path: Path) -> None:
    names = [
        "part10.png",
        "part2.PNG",
        "Part1.jpg",
        "notes.txt",
        "a.tiff",
        ".hidden.png",
        "._part2.png",
        "10.png",
        "9.png",
    ]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.webp").touch()
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "y.png").touch()
    (tmp_path / "folder.png").mkdir()
    flat = ["9.png", "10.png", "a.tiff", "Part1.jpg", "part2.PNG", "part10.png"]
    assert [path.name for path in list_images(tmp_path)] == flat
    recursive = [path.relative_to(tmp_path).as_posix() for path in list_images(str(tmp_path), recursive=True)]
    assert recursive == [*flat, "sub/x.webp"]


def test_list_images_follows_links_to_folders_and_visits_each_folder_once(tmp_path: Path) -> None:
    photos, other = tmp_path / "photos", tmp_path / "other"
    (photos / "deep").mkdir(parents=True)
    (other / "more").mkdir(parents=True)
    for path in (photos / "a.png", photos / "deep" / "b.png", other / "c.png", other / "more" / "d.png"):
        path.touch()
    for link, target in (
        (photos / "link", other),
        (photos / "0 twice", photos / "deep"),  # sorted before what it leads to, and yet the folder itself counts
        (photos / "deep" / "circle", photos),
        (other / "more" / "back", photos),
        (photos / "gone", tmp_path / "nowhere"),
        (photos / ".hidden", other),
    ):
        link.symlink_to(target, target_is_directory=True)
    found = [path.relative_to(photos).as_posix() for path in list_images(photos, recursive=True)]
    assert found == ["a.png", "deep/b.png", "link/c.png", "link/more/d.png"]
    assert [path.name for path in list_images(photos)] == ["a.png"]


def test_list_images_works_inside_a_hidden_folder(tmp_path: Path) -> None:
    folder = tmp_path / ".data"
    folder.mkdir()
    (folder / "a.png").touch()
    assert list_images(folder) == [folder / "a.png"]


def test_list_images_refuses_files_and_missing_folders(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.touch()
    with pytest.raises(ImageError, match=r"a\.png is a file; pass the folder"):
        list_images(file)
    with pytest.raises(ImageError, match=r"missing cannot be read"):
        list_images(tmp_path / "missing")


def test_every_listed_suffix_can_be_read() -> None:
    formats = {Image.registered_extensions()[suffix] for suffix in set(images.SUFFIXES) - set(HEIC_SUFFIXES)}
    assert formats == set(picture_file.FORMATS)
