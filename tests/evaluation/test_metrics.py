"""Metrics equal slow implementations of their definitions, on maps with and without ties."""

from __future__ import annotations

import time
import tracemalloc

import cv2
import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import average_precision_score

from stlm_hub.errors import DataError
from stlm_hub.evaluation.metrics import MAX_CURVE_POINTS, compute_metrics, pro_points, roc_points
from stlm_hub.model_folder.figures import MapFigures

Maps = list[np.ndarray]
EXACT = 1e-9


def mann_whitney(scores: np.ndarray, labels: np.ndarray) -> float:
    """Probability that an anomalous one scores above a normal one; a tie counts one half."""
    positives, negatives = scores[labels][:, None], scores[~labels][None]
    return float(np.mean((positives > negatives) + 0.5 * (positives == negatives)))


def best_f1(scores: np.ndarray, labels: np.ndarray) -> float:
    best = 0.0
    for threshold in np.unique(scores):
        judged = scores >= threshold
        best = max(best, 2 * np.sum(judged & labels) / (judged.sum() + labels.sum()))
    return float(best)


def pro_area(maps: Maps, masks: Maps, limit: float) -> float:
    """AUPRO by a loop over all thresholds and regions, with trapezoids up to the limit."""
    regions = []
    for values, mask in zip(maps, masks, strict=True):
        labelled, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [values[labelled == k] for k in range(1, count + 1)]
    normal = np.concatenate([values[~mask] for values, mask in zip(maps, masks, strict=True)])
    area, x, y = 0.0, 0.0, 0.0
    for threshold in np.unique(np.concatenate([values.ravel() for values in maps]))[::-1]:
        next_x = float(np.mean(normal >= threshold))
        next_y = float(np.mean([np.mean(region >= threshold) for region in regions]))
        if next_x > limit:
            end_y = y + (next_y - y) * (limit - x) / (next_x - x)
            return (area + (limit - x) * (y + end_y) / 2) / limit
        area += (next_x - x) * (y + next_y) / 2
        x, y = next_x, next_y
    return area / limit


def rectangles(rng: np.random.Generator, shape: tuple[int, int], count: int) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for _ in range(count):
        top, left = rng.integers(0, shape[0] - 2), rng.integers(0, shape[1] - 2)
        mask[top : top + rng.integers(1, 5), left : left + rng.integers(1, 5)] = True
    return mask


def drawn(kind: str) -> tuple[np.ndarray, np.ndarray, Maps, Maps]:
    """Scores, labels, maps and masks of three normal and four anomalous images of two sizes."""
    rng = np.random.default_rng(3)
    shapes = [(10, 14), (13, 8)] * 3 + [(10, 14)]
    masks = [rectangles(rng, shape, 0 if i < 3 else 3) for i, shape in enumerate(shapes)]
    maps = []
    for mask in masks:
        noise = rng.normal(0.0, 1.0, mask.shape)
        values = {
            "smooth": 1 / (1 + np.exp(2 - 1.5 * mask - noise)),
            "ties": np.round(1 / (1 + np.exp(1 - mask - noise)), 1),
            "saturated": np.clip(0.5 + 2 * (mask - 0.4) + 2 * noise, 0, 1),
            "crowded at 0": 10 ** (-30 + 20 * mask + 5 * noise),
            "constant": np.full(mask.shape, 0.3),
            "perfect": 0.6 + 0.3 * mask + 0.01 * np.tanh(noise),
            "inverted": 0.6 - 0.3 * mask + 0.01 * np.tanh(noise),
        }[kind]
        maps.append(np.clip(values, 0, 1).astype(np.float32))
    scores = np.array([float(values.max()) for values in maps])
    return scores, np.array([0, 0, 0, 1, 1, 1, 1]), maps, masks


MAP_KINDS = ["smooth", "ties", "saturated", "crowded at 0", "constant", "perfect", "inverted"]


@pytest.mark.parametrize("kind", MAP_KINDS)
def test_metrics_equal_their_definitions(kind: str) -> None:
    scores, labels, maps, masks = drawn(kind)
    metrics = compute_metrics(scores, labels, maps, masks, threshold=0.5)
    pixels = np.concatenate([values.ravel() for values in maps])
    truth = np.concatenate([mask.ravel() for mask in masks])
    assert metrics.i_auroc == pytest.approx(mann_whitney(scores, labels == 1), abs=EXACT)
    assert metrics.p_auroc == pytest.approx(mann_whitney(pixels, truth), abs=EXACT)
    assert metrics.ap == pytest.approx(average_precision_score(truth, pixels), abs=EXACT)
    assert metrics.f1_max == pytest.approx(best_f1(pixels, truth), abs=EXACT)
    assert metrics.aupro == pytest.approx(pro_area(maps, masks, 0.3), abs=EXACT)


@pytest.mark.parametrize("limit", [0.05, 1.0])
@pytest.mark.parametrize("kind", ["ties", "saturated", "constant"])
def test_aupro_ends_at_the_limit_of_the_false_positive_rate(kind: str, limit: float) -> None:
    scores, labels, maps, masks = drawn(kind)
    metrics = compute_metrics(scores, labels, maps, masks, threshold=0.5, fpr_limit=limit)
    assert metrics.aupro == pytest.approx(pro_area(maps, masks, limit), abs=EXACT)
    assert pro_points(maps, masks, limit)["fpr"][-1] == limit


def test_perfect_maps_score_one_and_inverted_maps_zero() -> None:
    _, labels, maps, masks = drawn("perfect")
    assert compute_metrics(labels * 0.9, labels, maps, masks, threshold=0.5) == MapFigures(1.0, 1.0, 1.0, 1.0, 1.0, 0.0)
    _, labels, maps, masks = drawn("inverted")
    metrics = compute_metrics(1 - labels * 0.9, labels, maps, masks, threshold=0.5)
    assert (metrics.i_auroc, metrics.p_auroc, metrics.aupro, metrics.fnr) == (0.0, 0.0, 0.0, 1.0)


def test_constant_maps_score_as_random_guessing_does() -> None:
    _, labels, maps, masks = drawn("constant")
    metrics = compute_metrics(np.full(7, 0.3), labels, maps, masks, threshold=0.5)
    share = sum(mask.sum() for mask in masks) / sum(mask.size for mask in masks)
    assert (metrics.i_auroc, metrics.p_auroc) == (0.5, 0.5)
    assert metrics.aupro == pytest.approx(0.15)  # the diagonal up to 0.3
    assert metrics.ap == pytest.approx(share)
    assert metrics.f1_max == pytest.approx(2 * share / (1 + share))


def test_pixels_that_touch_at_a_corner_are_one_region() -> None:
    mask = np.zeros((6, 6), bool)
    mask[0, 0] = mask[1, 1] = mask[4, 4] = True
    values = np.full((6, 6), 0.5, np.float32)
    values[0, 0] = values[4, 4] = 1.0  # half of the first region and all of the second
    values[1, 1] = 0.0
    metrics = compute_metrics([0.1, 0.9], [0, 1], [values * 0 + 0.5, values], [mask & False, mask], threshold=0.5)
    assert metrics.aupro == pytest.approx(0.75)


def test_each_region_weighs_the_same_whatever_its_size() -> None:
    mask = np.zeros((20, 20), bool)
    mask[:10, :10] = True  # 100 pixels, missed
    mask[15, 15] = True  # 1 pixel, found
    values = np.where(mask, 0.0, 0.5).astype(np.float32)
    values[15, 15] = 1.0
    assert compute_metrics([0.9], [1], [values], [mask], threshold=0.5).aupro == pytest.approx(0.5)


def test_false_positives_on_anomalous_images_count() -> None:
    mask = np.zeros((10, 10), bool)
    mask[0, 0] = True
    values = np.where(mask, 0.5, 0.9).astype(np.float32)  # all normal pixels of the anomalous image are false positives
    clean = np.full((10, 10), 0.1, np.float32)
    metrics = compute_metrics([0.1, 0.9], [0, 1], [clean, values], [mask & False, mask], threshold=0.5)
    assert metrics.p_auroc == pytest.approx(100 / 199)
    assert metrics.aupro == 0.0


def test_a_score_equal_to_the_threshold_is_judged_anomalous() -> None:
    _, labels, maps, masks = drawn("smooth")
    scores = [0.9, 0.9, 0.9, 0.2, 0.5, 0.49999, 0.8]  # scores of normal images do not matter
    assert compute_metrics(scores, labels, maps, masks, threshold=0.5).fnr == 0.5
    assert compute_metrics(scores, labels, maps, masks, threshold=0.0).fnr == 0.0
    assert compute_metrics(scores, labels, maps, masks, threshold=1.0).fnr == 1.0


def test_metrics_without_anomalous_images_are_undefined() -> None:
    scores, labels, maps, masks = drawn("smooth")
    metrics = compute_metrics(scores[:3], labels[:3], maps[:3], masks[:3], threshold=0.5)
    assert metrics == MapFigures()
    assert roc_points(scores[:3], labels[:3]) == {"fpr": [], "tpr": []}
    assert pro_points(maps[:3], masks[:3]) == {"fpr": [], "pro": []}


def test_without_normal_images_only_the_metrics_that_need_them_are_undefined() -> None:
    scores, labels, maps, masks = drawn("smooth")
    metrics = compute_metrics(scores[3:], labels[3:], maps[3:], masks[3:], threshold=0.0)
    assert metrics.i_auroc is None
    assert metrics.fnr == 0.0
    assert metrics.p_auroc == pytest.approx(
        mann_whitney(np.concatenate([m.ravel() for m in maps[3:]]), np.concatenate([m.ravel() for m in masks[3:]]))
    )
    full = [np.ones_like(mask) for mask in masks[3:]]  # no normal pixel
    metrics = compute_metrics(scores[3:], labels[3:], maps[3:], full, threshold=0.0)
    assert (metrics.p_auroc, metrics.aupro, metrics.ap, metrics.f1_max) == (None, None, 1.0, 1.0)


def test_an_anomalous_image_with_an_empty_mask_has_no_region() -> None:
    scores, labels, maps, masks = drawn("smooth")
    masks[3] = masks[3] & False
    metrics = compute_metrics(scores, labels, maps, masks, threshold=0.5)
    assert metrics.aupro == pytest.approx(pro_area(maps, masks, 0.3), abs=EXACT)


def test_inputs_are_not_modified() -> None:
    scores, labels, maps, masks = drawn("smooth")
    before = [scores.copy(), labels.copy(), *(m.copy() for m in maps), *(m.copy() for m in masks)]
    compute_metrics(scores, labels, maps, masks, threshold=0.5)
    roc_points(scores, labels)
    pro_points(maps, masks)
    for old, new in zip(before, [scores, labels, *maps, *masks], strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("kind", MAP_KINDS)
def test_curve_points_rise_and_integrate_to_the_metrics(kind: str) -> None:
    scores, labels, maps, masks = drawn(kind)
    metrics = compute_metrics(scores, labels, maps, masks, threshold=0.5)
    pixels = np.concatenate([values.ravel() for values in maps])
    truth = np.concatenate([mask.ravel() for mask in masks])
    for points, name, limit, figure in [
        (roc_points(scores, labels), "tpr", 1.0, metrics.i_auroc),
        (roc_points(pixels, truth), "tpr", 1.0, metrics.p_auroc),
        (pro_points(maps, masks), "pro", 0.3, metrics.aupro),
    ]:
        fpr, y = np.array(points["fpr"]), np.array(points[name])
        assert len(fpr) == len(y) <= MAX_CURVE_POINTS
        assert (np.diff(fpr) >= 0).all()
        assert (np.diff(y) >= 0).all()
        assert (fpr[0], y[0], fpr[-1]) == (0, 0, limit)
        assert np.sum(np.diff(fpr) * (y[1:] + y[:-1]) / 2) / limit == pytest.approx(figure, abs=1e-4)
        assert all(value == round(value, 5) for value in points["fpr"] + points[name])


def test_curves_of_a_few_images_have_a_point_at_every_bend_and_no_other() -> None:
    points = roc_points(np.array([0.1, 0.4, 0.4, 0.8, 0.9]), np.array([0, 0, 1, 1, 1]))
    assert points == {"fpr": [0.0, 0.0, 0.5, 1.0], "tpr": [0.0, 0.66667, 1.0, 1.0]}


def test_long_curves_lose_points_where_they_are_straight() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(200_000) < 0.05
    scores = 1 / (1 + np.exp(3 - 2 * labels - rng.normal(size=len(labels))))
    scores[labels & (rng.random(len(labels)) < 0.1)] = 0.0  # missed: the curve ends in one long straight piece
    points = roc_points(scores.astype(np.float32), labels)
    assert len(points["fpr"]) == MAX_CURVE_POINTS
    normal, ranks = np.sort(scores[~labels]), scores[labels]
    below = np.searchsorted(normal, ranks, "left") + np.searchsorted(normal, ranks, "right")
    area = np.sum(np.diff(points["fpr"]) * (np.array(points["tpr"])[1:] + points["tpr"][:-1]) / 2)
    assert area == pytest.approx(below.mean() / 2 / len(normal), abs=2e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scores": [0.1, 0.9, 0.9]}, "same length"),
        ({"labels": [0, 2]}, "0 (normal) or 1"),
        ({"labels": [1, 1, 1]}, "same length"),
        ({"scores": [0.1, float("nan")]}, "scores"),
        ({"scores": [0.1, 1.5]}, "scores"),
        ({"scores": [], "labels": []}, "same length"),
        ({"maps": [np.zeros((4, 4), np.float32)]}, "2 scores, but 1 maps"),
        ({"masks": [np.zeros((4, 4), bool)]}, "2 maps and 1 masks"),
        ({"maps": [np.zeros((4, 4), np.float32), np.zeros((4, 5), np.float32)]}, "Mask 1"),
        ({"maps": [np.zeros((4, 4), np.float32), np.full((4, 4), np.nan, np.float32)]}, "map 1"),
        ({"maps": [np.full((4, 4), -3, np.float32), np.zeros((4, 4), np.float32)]}, "map 0"),
        ({"maps": [np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)]}, "Map 0"),
        ({"maps": [np.zeros((1, 4, 4), np.float32)] * 2}, "Map 0"),
        ({"masks": [np.zeros((4, 4), np.uint8)] * 2}, "Mask 0"),
        ({"masks": [np.ones((4, 4), bool)] * 2}, "Image 0 is labelled normal"),
        ({"threshold": float("nan")}, "threshold"),
        ({"threshold": 2.0}, "threshold"),
        ({"fpr_limit": 0.0}, "limit"),
        ({"fpr_limit": 30}, "limit"),
    ],
)
def test_inconsistent_or_invalid_arguments_are_refused(change: dict[str, object], words: str) -> None:
    mask = np.zeros((4, 4), bool)
    arguments = {
        "scores": [0.1, 0.9],
        "labels": [0, 1],
        "maps": [np.zeros((4, 4), np.float32)] * 2,
        "masks": [mask, ~mask],
        "threshold": 0.5,
    }
    compute_metrics(**arguments)  # type: ignore[arg-type]
    with pytest.raises(DataError) as error:
        compute_metrics(**(arguments | change))  # type: ignore[arg-type]
    assert words in str(error.value)


def test_values_that_an_interpolation_rounded_above_one_are_accepted() -> None:
    values = np.full((4, 4), np.nextafter(np.float32(1), np.float32(2)))
    metrics = compute_metrics([0.1, 1.0], [0, 1], [values, values], [values < 0, values > 0], threshold=0.5)
    assert metrics.p_auroc == 0.5


@pytest.mark.slow
def test_300_maps_of_512_px_take_less_than_a_minute_and_4_gb() -> None:
    rng = np.random.default_rng(0)
    maps, masks = [], []
    for i in range(300):
        mask = np.zeros((512, 512), np.uint8)
        for x, y in rng.integers(0, 512, (3 if i >= 100 else 0, 2)).tolist():
            cv2.circle(mask, (x, y), int(rng.integers(5, 60)), 1, -1)
        noise = 8 * cv2.GaussianBlur(rng.normal(size=(512, 512)).astype(np.float32), (0, 0), 4)
        maps.append((1 / (1 + np.exp(4 - 2.5 * mask - noise))).astype(np.float32))
        masks.append(mask.astype(bool))
    scores, labels = [float(values.max()) for values in maps], [int(mask.any()) for mask in masks]
    tracemalloc.start()
    started = time.process_time()
    compute_metrics(scores, labels, maps, masks, threshold=0.5)
    seconds = time.process_time() - started
    gigabytes = (tracemalloc.get_traced_memory()[1] + sum(values.nbytes for values in maps + masks)) / 1e9
    tracemalloc.stop()
    print(f"{seconds:.1f} s of processor time, {gigabytes:.2f} GB with the maps")
    assert seconds < 60
    assert gigabytes < 4
