"""What changes between two photographs of one good part: how much, from which bounds, and nothing where all are 0."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from drawn import grey, texture

from stlm_hub.errors import ConfigError
from stlm_hub.pseudo_anomalies.nuisance import (
    CAMERAS,
    LONGEST_SIDE,
    Nuisance,
    disturb,
    of_camera,
    photographed_again,
)

NOTHING = Nuisance(gain=0, colour=0, fall_off=0, blur=0, noise=0, jpeg_quality=100, shift=0, turn=0)


def disturbed(image: np.ndarray, n: int = 40, **bounds: Any) -> list[np.ndarray]:
    """Copies of an image under these disturbances alone."""
    rng = np.random.default_rng(0)
    return [disturb(image, rng, dataclasses.replace(NOTHING, **bounds)) for _ in range(n)]


def sharpness(image: np.ndarray) -> float:
    return float(np.abs(np.diff(image.astype(float), axis=1)).mean())


def test_without_any_disturbance_the_photograph_stays_as_it_is() -> None:
    image = texture(50, 70)
    for copy in disturbed(image, 5):
        np.testing.assert_array_equal(copy, image)
    assert of_camera("normal").scaled(0) == NOTHING


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Nuisance)])
def test_each_disturbance_alone_changes_a_photograph_and_keeps_its_shape(field: str) -> None:
    image = texture(60, 80)
    before = image.copy()
    copies = disturbed(image, 20, **{field: getattr(Nuisance().scaled(2), field)})
    assert all(copy.shape == image.shape and copy.dtype == np.uint8 for copy in copies)
    assert sum(not np.array_equal(copy, image) for copy in copies) >= 5
    np.testing.assert_array_equal(image, before)


def test_brightness_stays_within_its_bound() -> None:
    means = [copy.mean() / 100 for copy in disturbed(grey(100), 200, gain=0.2)]
    assert 0.79 < min(means) < 0.83 and 1.17 < max(means) < 1.21
    casts = np.array([copy.mean((0, 1)) / 100 for copy in disturbed(grey(100), 200, colour=0.1)])
    assert 0.89 < casts.min() < 0.92 and 1.08 < casts.max() < 1.11
    assert np.ptp(casts, axis=1).max() > 0.1  # each colour has a factor of its own


def test_light_falls_off_towards_a_side_and_not_in_the_middle() -> None:
    for copy in disturbed(grey(100, 65, 65), 20, fall_off=0.3):
        assert copy[32, 32].tolist() == [100, 100, 100]
        assert abs(copy[32, 0].mean() + copy[32, -1].mean() - 200) <= 1
        assert abs(copy[0, 32].mean() - 100) <= 31


def test_noise_has_at_most_its_bound_and_no_bias() -> None:
    copies = disturbed(grey(100, 100, 100), 100, noise=10.0)
    spreads = [copy.std() for copy in copies]
    assert max(spreads) < 10.5 and min(spreads) < 2 and np.mean(spreads) == pytest.approx(5, abs=1)
    assert max(abs(copy.mean() - 100) for copy in copies) < 0.5


def test_half_of_the_photographs_are_out_of_focus_and_none_gets_sharper() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    found = [sharpness(copy) / sharpness(image) for copy in disturbed(image, 200, blur=2.0)]
    assert 0.4 < np.mean(np.array(found) < 0.99) < 0.6 and max(found) == 1


def test_a_loose_fixture_moves_the_part_and_leaves_no_black_border() -> None:
    image = grey(200, 100, 100)
    image[40:60, 40:60] = 50
    places = []
    for copy in disturbed(image, 100, shift=0.1):
        rows, columns = np.nonzero(copy[..., 0] < 100)
        places.append((rows.mean() - 49.5, columns.mean() - 49.5))
        assert copy[0].min() == copy[-1].min() == 200 and copy[:, [0, -1]].min() == 200
    moved = np.abs(places)
    assert 5 < moved.max() <= 10.6 and 0.35 < (moved.max(1) < 0.1).mean() < 0.65
    turned = disturbed(texture(80, 80), 60, turn=10.0)
    assert all(copy.min() > 0 or texture(80, 80).min() == 0 for copy in turned)


def test_compression_takes_no_less_than_the_lowest_quality() -> None:
    image = texture(64, 64)
    errors = {
        q: np.mean([(c - image.astype(float)).std() for c in disturbed(image, 60, jpeg_quality=q)]) for q in (20, 90)
    }
    assert errors[20] > errors[90] > 0


def test_a_generator_decides_everything() -> None:
    image = texture(40, 50)
    copies = [disturb(image, np.random.default_rng(seed), Nuisance()) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(copies[0], copies[1])
    assert (copies[0] != copies[2]).any()


@pytest.mark.parametrize("shape", [(1, 1), (2, 500), (64, 64)])
def test_photographs_of_any_shape_can_be_disturbed(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        assert disturb(grey(90, *shape), rng, of_camera("rough")).shape == (*shape, 3)


def test_a_large_photograph_is_made_smaller_first_and_a_small_one_is_not() -> None:
    rng = np.random.default_rng(0)
    large = texture(600, 3 * LONGEST_SIDE)
    assert photographed_again(large, rng, NOTHING, (64, 320)).shape == (200, LONGEST_SIDE, 3)
    assert photographed_again(large, rng, NOTHING, (400, 2 * LONGEST_SIDE)).shape == (400, 2 * LONGEST_SIDE, 3)
    np.testing.assert_array_equal(photographed_again(texture(50, 60), rng, NOTHING, (64, 64)), texture(50, 60))


# ---------------------------------------------------------------- bounds


def test_a_rougher_camera_disturbs_more() -> None:
    assert of_camera("normal") == Nuisance() and set(CAMERAS) == {"fixed", "normal", "rough"}
    fixed, normal, rough = (dataclasses.asdict(of_camera(camera)) for camera in ("fixed", "normal", "rough"))
    for field in fixed:
        first, second, third = fixed[field], normal[field], rough[field]
        assert first < second < third or (field == "jpeg_quality" and first > second > third), field


def test_bounds_are_scaled_within_what_is_allowed() -> None:
    half = Nuisance().scaled(0.5)
    assert (half.gain, half.noise, half.turn) == (0.075, 3.0, 1.0) and half.jpeg_quality == 80
    most = Nuisance().scaled(1000)
    assert most.gain == 0.9 and most.jpeg_quality == 10 and most.turn == 45
    assert most.scaled(1000) == most


def test_an_unknown_camera_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match="camera must be one of fixed, normal, rough, not 'phone'"):
        of_camera("phone")


def test_bounds_are_read_back_as_written() -> None:
    rough = of_camera("rough")
    assert Nuisance.from_dict(dataclasses.asdict(rough)) == rough and Nuisance.from_dict({}) == Nuisance()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"gain": -0.1}, "nuisance gain must be a number from 0.0 to 0.9"),
        ({"noise": float("nan")}, "nuisance noise must be a number"),
        ({"blur": "1"}, "nuisance blur must be a number"),
        ({"shift": 0.4}, "nuisance shift must be a number from 0.0 to 0.3"),
        ({"jpeg_quality": 5}, "nuisance jpeg_quality must be a whole number from 10 to 100"),
        ({"jpeg_quality": 60.5}, "nuisance jpeg_quality must be a whole number"),
        ({"zoom": 1}, "nuisance has no field 'zoom'"),
        ([], "nuisance must be a JSON object"),
    ],
    ids=str,
)
def test_an_impossible_bound_is_refused_by_name(data: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Nuisance.from_dict(data)
