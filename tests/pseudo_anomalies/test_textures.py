"""Textures: many looks, reproducible, from the built-in source or a folder."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from stlm_hub.errors import ConfigError, DataError
from stlm_hub.pseudo_anomalies import textures
from stlm_hub.pseudo_anomalies.texture_looks import LOOKS, draw_look
from stlm_hub.pseudo_anomalies.textures import TextureSource, augment


def statistics(image: np.ndarray) -> np.ndarray:
    """Edge density, spread of brightness, share of flat pixels, and the spectrum's centre, width and peak."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)
    grey = (grey - grey.min()) / max(np.ptp(grey), 1e-6)
    steps = np.hypot(np.diff(grey, axis=0)[:, :-1], np.diff(grey, axis=1)[:-1])
    power = np.abs(np.fft.rfft2((grey - grey.mean()) * np.outer(np.hanning(len(grey)), np.hanning(len(grey))))) ** 2
    radius = np.hypot(np.fft.fftfreq(len(grey))[:, None], np.fft.rfftfreq(len(grey))[None])
    share = power / power.sum()
    centre = (share * radius).sum()
    width = np.sqrt((share * (radius - centre) ** 2).sum())
    return np.array(
        [(steps > 0.15).mean(), grey.std(), (steps < 0.005).mean(), centre * 3, width * 5, np.sqrt(share.max()) * 2]
    )


def test_looks_are_clearly_different_from_one_another() -> None:
    means = {}
    for name in LOOKS:
        rng = np.random.default_rng(0)
        means[name] = np.mean([statistics(draw_look(name, 128, rng)) for _ in range(24)], axis=0)
    distances = {(a, b): np.linalg.norm(means[a] - means[b]) for a, b in itertools.combinations(means, 2)}
    assert len(LOOKS) >= 14
    assert min(distances.values()) > 0.12, min(distances, key=lambda pair: distances[pair])
    assert np.median(list(distances.values())) > 0.4


def test_noise_is_not_the_only_kind() -> None:
    rng = np.random.default_rng(1)
    flat = {name: np.mean([statistics(draw_look(name, 128, rng))[2] for _ in range(12)]) for name in LOOKS}
    assert sum(share > 0.5 for share in flat.values()) >= 4  # plain areas with sharp borders
    assert flat["fractal"] < 0.4 and flat["grain"] < 0.3


@pytest.mark.parametrize("name", list(LOOKS))
@pytest.mark.parametrize("size", [32, 101, 256])
def test_a_look_is_a_visible_reproducible_picture_of_any_size(name: str, size: int) -> None:
    for seed in range(4):
        image = draw_look(name, size, np.random.default_rng(seed))
        assert image.shape == (size, size, 3) and image.dtype == np.uint8
        assert image.std(axis=(0, 1)).max() > 1.0
        np.testing.assert_array_equal(image, draw_look(name, size, np.random.default_rng(seed)))
    assert (draw_look(name, size, np.random.default_rng(0)) != draw_look(name, size, np.random.default_rng(9))).any()


def test_looks_come_in_colour_and_in_grey() -> None:
    rng = np.random.default_rng(0)
    colourful = [np.ptp(draw_look("cells", 32, rng).astype(int), axis=2).max() > 20 for _ in range(200)]
    assert 0.5 < np.mean(colourful) < 0.9


def test_builtin_source_has_photographs_but_never_the_parts_of_the_demo() -> None:
    pytest.importorskip("skimage")
    source = TextureSource.builtin()
    names = {path.stem for path in source.photographs}
    assert len(names) >= 8 and set(source.looks) == set(LOOKS)
    assert not names & {"brick", "grass", "gravel"}
    assert 0.0 < source.photograph_share < 1.0
    for path in source.photographs:
        image = textures._read(path, 1.0)
        assert image.ndim == 3 and max(image.shape) <= textures.MAX_SIDE


def test_builtin_source_samples_reproducibly_and_variedly() -> None:
    pytest.importorskip("skimage")
    source = TextureSource.builtin()
    first, again = ([source.sample(96, rng) for _ in range(40)] for rng in map(np.random.default_rng, (5, 5)))
    for a, b in zip(first, again, strict=True):
        assert a.shape == (96, 96, 3) and a.dtype == np.uint8
        np.testing.assert_array_equal(a, b)
    means = np.array([texture.mean(axis=(0, 1)) for texture in first])
    assert (means.std(axis=0) > 25).all()
    assert len({texture.tobytes() for texture in first}) == len(first)


def test_builtin_source_without_scikit_image_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install"):
        TextureSource.builtin()


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image[..., ::-1])[1].tobytes())


def test_folder_source_reads_subfolders_in_rgb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textures, "augment", lambda texture, rng: texture)
    red, blue = np.zeros((2, 60, 80, 3), np.uint8)
    red[..., 0], blue[..., 2] = 200, 200
    write(tmp_path / "a" / "red.png", red)
    write(tmp_path / "b" / "deep" / "blue ü.PNG", blue)
    (tmp_path / "notes.txt").write_text("not a photograph")
    (tmp_path / ".hidden.png").write_bytes(b"not one either")
    source = TextureSource.from_folder(tmp_path)
    assert [path.name for path in source.photographs] == ["red.png", "blue ü.PNG"]
    rng = np.random.default_rng(0)
    colours = {tuple(source.sample(32, rng)[0, 0].tolist()) for _ in range(20)}
    assert colours == {(200, 0, 0), (0, 0, 200)}


def test_crops_differ_in_place_and_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textures, "augment", lambda texture, rng: texture)
    ramp = np.zeros((100, 100, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(100)[None, :], np.arange(100)[:, None]
    write(tmp_path / "ramp.png", ramp)
    rng = np.random.default_rng(0)
    spans, flipped = [], []
    for _ in range(60):
        red = TextureSource.from_folder(tmp_path).sample(50, rng)[..., 0].astype(int)
        spans.append(np.ptp(red))
        flipped.append(red[0, 0] > red[0, -1])
    assert 35 < min(spans) < 55 and 85 < max(spans) < 100
    assert 15 < sum(flipped) < 45


def test_middle_leaves_out_a_black_border(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textures, "augment", lambda texture, rng: texture)
    framed = np.zeros((100, 120, 3), np.uint8)
    framed[10:-10, 12:-12] = 180
    write(tmp_path / "framed.png", framed)
    rng = np.random.default_rng(0)
    assert min(TextureSource.from_folder(tmp_path).sample(64, rng).min() for _ in range(20)) == 0
    inside = TextureSource.from_folder(tmp_path, middle=0.8)
    assert min(inside.sample(64, rng).min() for _ in range(20)) == 180


def test_augmentation_changes_the_picture_and_keeps_its_shape() -> None:
    rng = np.random.default_rng(0)
    texture = cv2.resize(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8), (64, 64), interpolation=cv2.INTER_CUBIC)
    before = texture.copy()
    results = [augment(texture, rng) for _ in range(60)]
    assert all(result.shape == texture.shape and result.dtype == np.uint8 for result in results)
    assert sum((result != texture).any() for result in results) >= 58
    assert len({result.tobytes() for result in results}) >= 58
    np.testing.assert_array_equal(texture, before)


def test_samples_are_augmented(tmp_path: Path) -> None:
    write(tmp_path / "plain.png", np.full((40, 40, 3), (90, 120, 60), np.uint8))
    source, rng = TextureSource.from_folder(tmp_path), np.random.default_rng(0)
    colours = {tuple(source.sample(16, rng)[8, 8].tolist()) for _ in range(40)}
    assert len(colours) > 25


@pytest.mark.parametrize("operation", textures._OPERATIONS, ids=lambda operation: operation.__name__)
def test_each_augmentation_does_something(operation: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    texture = draw_look("cells", 64, rng)
    assert max(np.abs(operation(texture, rng).astype(int) - texture).mean() for _ in range(5)) > 0.2


def test_empty_missing_and_broken_folders_are_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        TextureSource.from_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no photograph"):
        TextureSource.from_folder(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"broken\.png is not a readable image"):
        TextureSource.from_folder(tmp_path).sample(32, np.random.default_rng(0))


def test_a_source_of_nothing_or_of_unknown_looks_is_refused() -> None:
    with pytest.raises(ConfigError, match="photographs or looks"):
        TextureSource()
    with pytest.raises(ConfigError, match="velvet"):
        TextureSource(looks=("velvet",))
    with pytest.raises(ConfigError, match="middle"):
        TextureSource(looks=("grid",), middle=0.0)
