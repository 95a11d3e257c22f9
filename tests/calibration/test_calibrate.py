"""How a model judges, out of held-out photographs: scales, a threshold for each map, and which of them stays."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from drawn import judging_by

from stlm_hub.calibration.calibrate import calibrate
from stlm_hub.calibration.map_scales import measure_scales
from stlm_hub.calibration.threshold import choose_threshold
from stlm_hub.errors import DataError, ImageError
from stlm_hub.models.stlm.judging import ANOMALY_MAPS, Judging
from stlm_hub.predict.images import load_image
from stlm_hub.predict.predictor import infer
from stlm_hub.stlm import STLM

pytestmark = pytest.mark.usefixtures("toy_streams")


def scores_of(model: STLM, photographs: list[Path], name: str) -> list[float]:
    return [maps[name].score for maps in infer(model, map(load_image, photographs), (name,))]


def test_each_map_gets_a_threshold_and_the_one_that_judges_is_set(toy_model: STLM, good_parts: list[Path]) -> None:
    model = copy.deepcopy(toy_model)
    told: list[tuple[int, int]] = []
    found = calibrate(model, good_parts, 0.1, on_image=lambda *progress: told.append(progress))
    assert told == [(done, 6) for done in range(1, 7)]
    assert list(found) == ["aggregation", "cosine"]
    for name, calibration in found.items():
        assert calibration == choose_threshold(scores_of(model, good_parts, name), 0.1)
    assert found["aggregation"] != found["cosine"]
    scores = tuple(scores_of(model, good_parts, "aggregation"))
    assert model.judging == Judging(calibration=found["aggregation"], held_out_scores=scores)
    assert toy_model.judging == Judging()


def test_the_combined_map_is_measured_before_it_is_scored(toy_memory_model: STLM, good_parts: list[Path]) -> None:
    model = judging_by(toy_memory_model, scales=(), calibration=None, held_out_scores=())
    told: list[tuple[int, int]] = []
    found = calibrate(model, good_parts, 0.05, ANOMALY_MAPS, lambda *progress: told.append(progress))
    assert told == [(done, 12) for done in range(1, 13)]
    assert tuple(found) == ANOMALY_MAPS and model.judging.judge_by == "combined"
    assert model.judging.scales == measure_scales(model, map(load_image, good_parts))
    assert found["combined"] == model.calibration == choose_threshold(model.judging.normal_scores, 0.05)
    assert list(model.judging.normal_scores) == scores_of(model, good_parts, "combined")


def test_only_the_wanted_maps_are_scored(toy_memory_model: STLM, good_parts: list[Path]) -> None:
    model = judging_by(toy_memory_model, anomaly_map="memory")
    scales = model.judging.scales
    assert list(calibrate(model, good_parts, 0.05, ("memory",))) == ["memory"]
    assert model.judging.scales == scales  # those of a map that does not judge stay


def test_what_cannot_be_calibrated_changes_nothing(toy_model: STLM, good_parts: list[Path], tmp_path: Path) -> None:
    model = copy.deepcopy(toy_model)
    (tmp_path / "broken.png").write_bytes(b"")
    with pytest.raises(DataError, match="got 3"):
        calibrate(model, good_parts[:3], 0.01)
    with pytest.raises(DataError, match="false-alarm rate"):
        calibrate(model, good_parts, 0.7)
    with pytest.raises(ImageError, match=r"broken\.png"):
        calibrate(model, [*good_parts, tmp_path / "broken.png"], 0.01)
    assert model.judging == toy_model.judging
