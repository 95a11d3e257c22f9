"""The gate between a model and its export: what it measures, and what it lets pass."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from drawn import texture

from stlm_hub.errors import ConfigError
from stlm_hub.export.parity import check, compare, drawn_photographs
from stlm_hub.models.stlm.judging import Calibration, Judging
from stlm_hub.predict.verdicts import Inferred, ScoredMap
from stlm_hub.runtime.facts import Parity

SAME = Parity(4, 4, True, 1e-6, 1e-6, 0, 0.9, 0.9, 0.8, 0.8, 0.1, 0.2)


def judged_by_brightness(image: np.ndarray, shift: float = 0.0) -> Inferred:
    """A map of how dark each pixel is."""
    values = (0.8 * (1 - image.mean(axis=2) / 255) + shift).astype(np.float32)
    return Inferred({"aggregation": ScoredMap(values, float(values.max()))}, (0.5, 0.5))


def calibrated(threshold: float) -> Judging:
    return Judging(calibration=Calibration(threshold, threshold, 0.01, 4, 0.5, None, "order statistic", "2026-01-31"))


def test_two_that_are_equal_differ_in_nothing() -> None:
    images = [texture(64, 64, seed) for seed in range(4)]
    found = compare(judged_by_brightness, judged_by_brightness, images, calibrated(0.8), drawn=True)
    assert (found.photographs, found.map_difference, found.score_difference, found.changed_verdicts) == (4, 0, 0, 0)
    assert found.image_auroc == found.torch_image_auroc and found.aupro == found.torch_aupro
    check(found, "fp32")


def test_a_shift_is_measured_and_changes_verdicts() -> None:
    images = [texture(64, 64, seed) for seed in range(4)]
    highest = max(judged_by_brightness(image).maps["aggregation"].score for image in images)
    found = compare(
        judged_by_brightness,
        lambda image: judged_by_brightness(image, 0.05),
        images,
        calibrated(highest + 0.02),
        drawn=False,
    )
    assert found.map_difference == pytest.approx(0.05, abs=1e-6) and found.changed_verdicts > 0
    with pytest.raises(ConfigError, match=r"a map differs by 0\.05.*another verdict for \d+ of \d+ photographs"):
        check(found, "fp32")


def test_a_score_that_is_the_threshold_may_fall_on_either_side() -> None:
    image = texture(64, 64, 0)
    score = judged_by_brightness(image).maps["aggregation"].score
    found = compare(
        judged_by_brightness,
        _lower,
        [image],
        calibrated(score),
        drawn=True,
    )
    assert found.score_difference > 0 and found.changed_verdicts == 0


def _lower(image: np.ndarray) -> Inferred:
    """The same with a score that is a little lower."""
    seen = judged_by_brightness(image)
    scored = seen.maps["aggregation"]
    return Inferred({"aggregation": ScoredMap(scored.anomaly_map, scored.score - 1e-6)}, seen.distances)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_lower_precisions_may_round_but_not_rank_worse(precision: str) -> None:
    check(dataclasses.replace(SAME, map_difference=0.1, changed_verdicts=1), precision)
    for change in ({"image_auroc": 0.89}, {"aupro": 0.79}):
        with pytest.raises(ConfigError, match="falls from"):
            check(dataclasses.replace(SAME, **change), precision)


def test_drawn_photographs_are_the_same_each_time_and_differ_from_each_other() -> None:
    first, again = list(drawn_photographs((64, 64), 3)), list(drawn_photographs((64, 64), 3))
    assert all(image.shape == (64, 64, 3) and image.dtype == np.uint8 for image in first)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], first[1])
