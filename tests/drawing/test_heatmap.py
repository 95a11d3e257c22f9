"""Heatmaps keep one meaning for each colour, outlines do not cover defects, panels show verdict, score and scale."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stlm_hub.drawing import heatmap
from stlm_hub.drawing.heatmap import draw_contour, overlay
from stlm_hub.drawing.panel import BADGES, INK, panel, tile_size
from stlm_hub.errors import ConfigError, ImageError

THRESHOLDS = [0.0, 1e-7, 0.001, 0.01, 0.3, 0.5, 0.9, 0.999, 1.0]


def values(threshold: float, count: int = 2000) -> np.ndarray:
    """1xN map that rises from 0 to 1 and contains the threshold and its nearest neighbours."""
    near = np.float32(threshold) + np.array([-1e-6, 0, 1e-6], np.float32)
    odds = 1 / (1 + np.exp(-np.linspace(-16, 16, count)))
    return np.unique(np.clip(np.concatenate([[0, 1], near, odds]), 0, 1).astype(np.float32))[None]


def colorize(anomaly_map: np.ndarray, threshold: float) -> np.ndarray:
    """The colours that are laid over a photograph, alone: HxWx3 uint8 RGB."""
    return np.asarray(np.rint(heatmap.COLOURS).astype(np.uint8)[heatmap._scale_index(anomaly_map, threshold)])


def lightness(colours: np.ndarray) -> np.ndarray:
    """CIE L* of RGB uint8, 0-100."""
    return cv2.cvtColor((colours / 255).astype(np.float32), cv2.COLOR_RGB2Lab)[..., 0]


def is_calm(colours: np.ndarray) -> np.ndarray:
    return colours[..., 2].astype(int) > colours[..., 0]


def photo(height: int = 120, width: int = 160) -> np.ndarray:
    noise = np.random.default_rng(0).integers(60, 200, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def blob(height: int = 120, width: int = 160, peak: float = 0.95) -> np.ndarray:
    y, x = (np.exp(-((np.linspace(-4, 4, side, dtype=np.float32)) ** 2)) for side in (height, width))
    return np.float32(0.01) + np.float32(peak - 0.01) * np.outer(y, x)


def picture(**changes: object) -> np.ndarray:
    arguments = {
        "image": photo(),
        "anomaly_map": blob(),
        "threshold": 0.3,
        "mask": blob() >= 0.3,
        "score": 0.8,
        "verdict": "reject",
    }
    return panel(**{**arguments, **changes})  # type: ignore[arg-type]


# ---- colour scale


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_upper_half_of_the_scale_is_exactly_the_values_at_or_above_the_threshold(threshold: float) -> None:
    row = values(threshold)
    assert np.array_equal(is_calm(colorize(row, threshold)), row < threshold)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_lightness_never_falls_and_steps_at_the_threshold(threshold: float) -> None:
    row = values(threshold)
    light = lightness(colorize(row, threshold))[0]
    assert (np.diff(light) > -0.35).all()  # 8-bit rounding
    below, above = light[row[0] < threshold], light[row[0] >= threshold]
    if below.size and above.size:
        assert above.min() - below.max() > 10


def test_colour_depends_on_value_and_threshold_only() -> None:
    alone = colorize(np.full((4, 4), 0.2, np.float32), 0.3)
    assert (alone == alone[0, 0]).all()
    for company in (0.0, 0.19, 0.21, 1.0):
        mixed = np.full((4, 4), company, np.float32)
        mixed[2, 1] = 0.2
        assert np.array_equal(colorize(mixed, 0.3)[2, 1], alone[0, 0])


def test_colour_is_relative_to_the_threshold_in_odds() -> None:
    def value(threshold: float, odds: float) -> np.ndarray:
        ratio = odds * threshold / (1 - threshold)
        return np.full((1, 1), ratio / (1 + ratio))

    for odds in (1 / 3, 2 / 3, 3 / 2, 3):
        colours = [colorize(value(threshold, odds), threshold)[0, 0].astype(int) for threshold in (0.001, 0.3, 0.99)]
        assert np.abs(np.diff(colours, axis=0)).max() <= 3
    distinct = {tuple(colorize(value(0.001, odds), 0.001)[0, 0]) for odds in (1 / 3, 2 / 3, 1, 3 / 2, 3)}
    assert len(distinct) == 5


def test_the_scale_ends_at_three_and_a_half_times_the_limits_of_the_threshold() -> None:
    assert np.exp(heatmap.SPAN) == pytest.approx(3.49, abs=0.01)
    limits = np.array([[0.25, 3.6]])  # of a threshold of one limit
    assert np.array_equal(colorize(limits / (1 + limits), 0.5)[0], [heatmap._CALM[0], heatmap._HOT[-1]])


def test_values_of_0_and_1_have_the_colours_at_the_ends_of_the_scale() -> None:
    for threshold in (0.001, 0.3, 0.999):
        ends = colorize(np.array([[0.0, 1.0]]), threshold)[0]
        assert np.array_equal(ends, [heatmap._CALM[0], heatmap._HOT[-1]])


# ---- overlay


def test_overlay_leaves_the_photograph_of_a_normal_part_unchanged() -> None:
    image = photo()
    assert np.array_equal(overlay(image, np.full(image.shape[:2], 0.002, np.float32), 0.3), image)


def test_opacity_grows_with_the_value_up_to_the_strength() -> None:
    image = np.full((1, 4, 3), 128, np.uint8)
    row = np.array([[0.1, 0.2, 0.29, 1.0]], np.float32)
    result = overlay(image, row, 0.3, strength=0.6).astype(int)
    share = np.abs(result - 128).sum(2) / np.abs(colorize(row, 0.3).astype(int) - 128).sum(2)
    assert (np.diff(share[0]) > 0.02).all()
    assert share[0, 3] == pytest.approx(0.6, abs=0.01)
    assert share[0, 0] < 0.01
    assert np.array_equal(overlay(image, row, 0.3, strength=0), image)


def test_overlay_changes_only_where_the_map_is_high() -> None:
    image, anomaly_map = photo(), blob()
    changed = np.abs(overlay(image, anomaly_map, 0.3).astype(int) - image).max(2)
    assert changed[anomaly_map < 0.011].max() <= 1
    assert np.median(changed[anomaly_map >= 0.3]) > 30


# ---- outline


def ring(mask: np.ndarray, width: float) -> np.ndarray:
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return ~mask & (distance < width + 0.5)


@pytest.mark.parametrize("side", [64, 400, 1000])
def test_outline_lies_next_to_the_mask_and_changes_nothing_else(side: int) -> None:
    image = photo(side, side)
    mask = np.zeros((side, side), bool)
    mask[side // 4 : side // 2, side // 3 : side // 2] = True
    mask[side * 3 // 4, side * 3 // 4] = True  # a defect of one pixel
    before = mask.copy()
    result = draw_contour(image, mask)
    line = max(1, round(side / 200))
    bright, both = ring(mask, line), ring(mask, 2 * line)
    assert (result[bright] == heatmap._OUTLINE_BRIGHT).all()
    assert (result[both & ~bright] == heatmap._OUTLINE_DARK).all()
    assert np.array_equal(result[~both], image[~both])
    assert np.array_equal(mask, before)
    assert np.array_equal(image, photo(side, side))


def test_outline_turns_inwards_at_the_edge_of_the_photograph() -> None:
    image = photo(64, 64)
    everything = draw_contour(image, np.ones((64, 64), bool))
    assert (everything[0] == heatmap._OUTLINE_BRIGHT).all()
    assert (everything[:, -1] == heatmap._OUTLINE_BRIGHT).all()
    assert (everything[1, 1:-1] == heatmap._OUTLINE_DARK).all()
    assert np.array_equal(everything[2:-2, 2:-2], image[2:-2, 2:-2])


def test_an_empty_mask_has_no_outline() -> None:
    image = photo()
    result = draw_contour(image, np.zeros(image.shape[:2], bool))
    assert np.array_equal(result, image)
    assert not np.shares_memory(result, image)


# ---- panel


@pytest.mark.parametrize(
    ("height", "width"), [(8, 8), (64, 64), (480, 640), (3000, 4000), (100, 4000), (4000, 100), (1, 900), (380, 380)]
)
def test_panel_has_a_sensible_size_for_every_photograph(height: int, width: int) -> None:
    result = picture(image=photo(height, width), anomaly_map=blob(height, width), mask=blob(height, width) >= 0.3)
    assert result.dtype == np.uint8
    assert 250 < result.shape[0] < 1300
    assert 640 < result.shape[1] < 1800


def test_the_verdict_changes_the_header_only() -> None:
    pictures = {verdict: picture(verdict=verdict) for verdict in BADGES}
    assert set(pictures) == {"pass", "review", "reject", "unfamiliar"}
    for verdict, drawn in pictures.items():
        assert drawn.shape == pictures["pass"].shape and np.array_equal(drawn[72:], pictures["pass"][72:])
        assert drawn[22, 40].tolist() == list(BADGES[verdict])
    assert len({tuple(drawn[22, 40]) for drawn in pictures.values()}) == 4
    reject, calm = pictures["reject"][22, 40].astype(int), pictures["pass"][22, 40].astype(int)
    assert reject[0] > reject[2] + 100 and calm[2] > calm[0] + 100


def test_header_shows_score_threshold_and_title() -> None:
    plain = picture()
    assert not np.array_equal(plain[:72], picture(score=0.7)[:72])
    assert not np.array_equal(plain[:72], picture(threshold=0.31)[:72])
    titled = picture(title="part_0012.png")
    assert titled.shape[0] == plain.shape[0] + 32
    assert np.array_equal(titled[104:], plain[72:])
    assert not np.array_equal(titled, picture(title="part_0013.png"))


def test_long_titles_are_shortened_and_foreign_letters_replaced() -> None:
    long = picture(title="a very long name " * 40)
    assert long.shape == picture(title="a").shape
    assert (long[:50, -20:] == 255).all()
    assert np.array_equal(picture(title="Prüfung"), picture(title="Prufung"))
    assert np.array_equal(picture(title="\n试"), picture(title="??"))


def test_heatmap_and_outline_of_a_normal_part_look_like_its_photograph() -> None:
    quiet = np.full((120, 160), 0.005, np.float32)
    result = picture(anomaly_map=quiet, mask=quiet >= 0.3, score=0.01, verdict="pass")
    width, height = tile_size(120, 160)
    first, second, third = (
        result[96 : 96 + height, left : left + width] for left in (20 + n * (width + 20) for n in range(3))
    )
    assert np.array_equal(first, second)
    assert np.array_equal(first, third)
    loud = picture()
    assert not np.array_equal(
        loud[96 : 96 + height, 20 : 20 + width], loud[96 : 96 + height, 40 + width : 40 + 2 * width]
    )


@pytest.mark.parametrize("top", range(600, 605))
def test_a_defect_of_one_pixel_survives_in_a_large_photograph(top: int) -> None:
    image = np.full((1500, 1500, 3), 128, np.uint8)
    anomaly_map = np.zeros((1500, 1500), np.float32)
    anomaly_map[top, 1000] = 0.9
    result = picture(image=image, anomaly_map=anomaly_map, mask=anomaly_map >= 0.3)
    side = tile_size(1500, 1500)[0]
    hot = result[..., 0] > result[..., 2].astype(int) + 60
    rows, columns = np.nonzero(hot[96 : 96 + side, 40 + side : 40 + 2 * side])
    assert 1 <= rows.size <= 9
    assert abs(rows.mean() - top * side / 1500) < 2
    assert abs(columns.mean() - 1000 * side / 1500) < 2
    assert hot[96 : 96 + side, 60 + 2 * side :].any()


def test_colour_bar_has_the_threshold_in_the_middle() -> None:
    for threshold in THRESHOLDS:
        result = picture(threshold=threshold)
        bar = result[-76 + 24 + 7, 20:-20]
        half = len(bar) // 2
        assert is_calm(bar[: half - 3]).all()
        assert not is_calm(bar[half + 3 :]).any()
        assert (bar[half] == INK).all()


def test_different_numbers_never_look_equal() -> None:
    assert heatmap.distinct([0.2996, 0.3]) == ["0.2996", "0.3"]
    assert heatmap.distinct([0.99996, 1.0]) == ["0.99996", "1"]
    assert heatmap.distinct([0.3, 0.3]) == ["0.3", "0.3"]
    assert heatmap.distinct([0.81234, 0.3]) == ["0.812", "0.3"]


# ---- wrong input


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_threshold_and_strength_outside_0_to_1_are_refused(threshold: float) -> None:
    with pytest.raises(ConfigError, match="threshold must be a number from 0 to 1"):
        overlay(photo(), blob(), threshold)
    with pytest.raises(ConfigError, match="threshold"):
        picture(threshold=threshold)
    with pytest.raises(ConfigError, match="strength must be"):
        overlay(photo(), blob(), 0.5, strength=threshold)


@pytest.mark.parametrize("value", [-0.01, 1.01, np.nan, np.inf])
def test_map_values_outside_0_to_1_are_refused(value: float) -> None:
    anomaly_map = blob()
    anomaly_map[3, 4] = value
    for draw in (lambda: overlay(photo(), anomaly_map, 0.5), lambda: picture(anomaly_map=anomaly_map)):
        with pytest.raises(ImageError, match=r"outside \[0, 1\]"):
            draw()


def test_arrays_of_other_sizes_or_types_are_refused() -> None:
    with pytest.raises(ImageError, match="same height and width"):
        overlay(photo(), blob(60, 80), 0.5)
    with pytest.raises(ImageError, match="same height and width"):
        draw_contour(photo(), np.zeros((60, 80), bool))
    with pytest.raises(ImageError, match="mask is"):
        picture(mask=np.zeros((60, 80), bool))
    with pytest.raises(ImageError, match="pass a bool array"):
        draw_contour(photo(), np.zeros((120, 160), np.uint8))
    with pytest.raises(ImageError, match="pass HxWx3 uint8 RGB"):
        overlay(photo().astype(np.float32), blob(), 0.5)
    with pytest.raises(ImageError, match="HxW float array"):
        overlay(photo(), np.zeros((120, 160), np.uint8), 0.5)


def test_a_map_that_shrinks_keeps_every_peak_at_its_place() -> None:
    rng = np.random.default_rng(0)
    for height, width, size in ((3000, 2000, (933, 1400)), (50, 70, (69, 50)), (9, 9, (2, 4)), (7, 5, (5, 7))):
        for row, column in ((0, 0), (height - 1, width - 1), (int(rng.integers(height)), int(rng.integers(width)))):
            values = np.zeros((height, width), np.float32)
            values[row, column] = 0.9
            small = heatmap.resize_map(values, size)
            assert small.shape == (size[1], size[0]) and small.max() == np.float32(0.9), (height, width, row, column)
            y, x = np.argwhere(small == np.float32(0.9)).mean(0)
            assert abs((y + 0.5) / size[1] - (row + 0.5) / height) < 1 / size[1]
            assert abs((x + 0.5) / size[0] - (column + 0.5) / width) < 1 / size[0]
