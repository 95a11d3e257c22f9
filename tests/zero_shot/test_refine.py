"""SAM on real weights: a click, drawn defects with blurred maps; and maps that leave nothing to refine."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from skimage import data

from stlm_hub.errors import ImageError, WeightsError
from stlm_hub.predict.prediction import Prediction
from stlm_hub.zero_shot import refine
from stlm_hub.zero_shot.cascade import overlap
from stlm_hub.zero_shot.point_prompts import point_prompts
from stlm_hub.zero_shot.refine import _core, _Scaled, cascade, refine_map, refined
from stlm_hub.zero_shot.segment import SegmentAnything, segment_embedded
from stlm_hub.zero_shot.windows import SMALLEST, regions_of, window_around


def test_a_click_on_a_part_gives_its_mask(sam: SegmentAnything) -> None:
    """Skimage's photograph of a coffee cup; the click is on its rim's inside."""
    embedded = sam.embed(data.coffee())
    found = segment_embedded(embedded, (300, 200))
    assert found.mask.shape == (400, 600) and found.mask[200, 300]
    assert found.predicted_iou >= 0.9 and 0.02 < found.mask.mean() < 0.9
    with pytest.raises(ImageError, match="outside the photograph"):
        segment_embedded(embedded, (600, 10))


def test_the_cascade_raises_the_iou_of_drawn_defects(sam: SegmentAnything) -> None:
    """20 ellipses on brick in one photograph, so that the encoder runs once; each map is a blurred mask."""
    image = np.repeat(data.brick()[..., None], 3, axis=2)
    rng, masks = np.random.default_rng(0), []
    for i in range(20):
        mask = np.zeros(image.shape[:2], np.uint8)
        centre = (60 + 98 * (i % 5), 70 + 124 * (i // 5))
        axes = (int(rng.integers(14, 30)), int(rng.integers(10, 26)))
        cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
        masks.append(mask > 0)
        image[masks[-1]] = rng.integers(0, 256, 3)
    embedded, before, after = sam.embed(image), [], []
    for mask in masks:
        anomaly_map = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 12) * 0.9
        small = cv2.resize(anomaly_map, (256, 256), interpolation=cv2.INTER_AREA)
        truth = cv2.resize(mask.astype(np.uint8), (256, 256), interpolation=cv2.INTER_NEAREST) > 0
        region = small >= 0.25 * small.max()
        prompts = point_prompts(small, region, embedded.features)
        found = cascade(_Scaled(embedded, (256, 256)), prompts, _core(small, region))
        before.append(overlap(region, truth))
        after.append(overlap(found.mask, truth))
    assert np.mean(after) > np.mean(before) + 0.2
    assert sum(a > b for a, b in zip(after, before, strict=True)) >= 18


def test_nothing_is_outlined_where_a_map_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside the region of a model it is."""
    anomaly_map = np.zeros((60, 80), np.float32)
    anomaly_map[20:40, :40] = 0.9

    def everywhere(result: np.ndarray, before: np.ndarray, one: object) -> None:
        result[:] = 0.5

    monkeypatch.setattr(refine, "refinements", lambda *args: iter([SimpleNamespace(is_trusted=True)]))
    monkeypatch.setattr(refine, "_fuse", everywhere)
    found = refine.refine_map(np.zeros((60, 80, 3), np.uint8), anomaly_map, 0.5)
    assert found.dtype == np.float32 and np.array_equal(found > 0, anomaly_map > 0)


@pytest.mark.parametrize("value", [0.0, 0.9])
def test_an_empty_and_a_full_map_come_back_as_they_are(value: float) -> None:
    image, anomaly_map = np.zeros((32, 48, 3), np.uint8), np.full((32, 48), value, np.float32)
    assert np.array_equal(refine_map(image, anomaly_map, 0.5), anomaly_map)  # no weights are asked for
    prediction = Prediction(image, anomaly_map, value, 0.5)
    assert np.array_equal(refined(prediction).mask, prediction.mask)


@pytest.mark.parametrize("shape", [(1, 1), (9, 400)])
def test_the_smallest_photographs_have_a_window(shape: tuple[int, int]) -> None:
    anomaly_map = np.zeros(shape, np.float32)
    anomaly_map[0, : shape[1] // 8 + 1] = 0.9
    for region in regions_of(anomaly_map, anomaly_map > 0.5)[1]:
        window = window_around(region, shape)
        assert window.top + window.height <= shape[0] and window.left + window.width <= shape[1]
        assert max(window.height, window.width) >= SMALLEST * max(shape)


def test_weights_without_prompts_say_what_to_do() -> None:
    from random_weights import random_weights

    weights = random_weights(0)
    object.__setattr__(weights, "prompts", None)
    with pytest.raises(WeightsError, match="stlm weights fetch --force"):
        SegmentAnything(weights)
