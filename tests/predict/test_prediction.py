"""What a detector says of one photograph: verdict, mask, plain data, panel."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from drawn import grey, texture
from PIL import Image

from stlm_hub.errors import ConfigError, ImageError
from stlm_hub.predict.prediction import Prediction, found_mask, moved_review


def drawn_prediction(threshold: float = 0.5) -> Prediction:
    """Of a photograph of 40 x 60 px whose map rises from left to right."""
    anomaly_map = np.tile(np.linspace(0.1, 0.9, 60, dtype=np.float32), (40, 1))
    return Prediction(texture(40, 60), anomaly_map, 0.8, threshold)


def judged(score: float, threshold: float) -> Prediction:
    anomaly_map = np.array([[0.1, 0.5], [0.6, 0.9]], np.float32)
    return Prediction(grey(0, 2, 2), anomaly_map, score, threshold)


def test_a_score_at_the_threshold_is_anomalous() -> None:
    assert judged(0.5, 0.5).is_anomalous
    assert not judged(float(np.nextafter(0.5, 0)), 0.5).is_anomalous


def test_the_mask_is_where_the_map_reaches_the_threshold_and_empty_for_a_normal_photograph() -> None:
    anomalous = judged(0.7, 0.5)
    assert anomalous.mask.dtype == np.bool_ and anomalous.mask.tolist() == [[False, True], [True, True]]
    normal = judged(0.4, 0.5)
    assert normal.mask.dtype == np.bool_ and normal.mask.shape == (2, 2) and not normal.mask.any()


# ---------------------------------------------------------------- verdicts


def test_the_verdict_has_a_zone_in_which_a_second_look_is_worth_it() -> None:
    zones = {0.0: "pass", 0.39: "pass", 0.4: "review", 0.59: "review", 0.6: "reject", 1.0: "reject"}
    for score, verdict in zones.items():
        prediction = dataclasses.replace(judged(score, 0.6), review_threshold=0.4)
        assert prediction.verdict == verdict == prediction.to_dict()["verdict"]
        assert prediction.is_anomalous == (verdict == "reject")


def test_without_a_review_threshold_there_are_two_verdicts() -> None:
    assert [judged(score, 0.6).verdict for score in (0.59, 0.6)] == ["pass", "reject"]
    same = [dataclasses.replace(judged(score, 0.6), review_threshold=0.6) for score in (0.59, 0.6)]
    assert [prediction.verdict for prediction in same] == ["pass", "reject"]


@pytest.mark.parametrize("score", [0.1, 0.5, 0.9])
def test_what_is_no_photograph_of_the_part_is_unfamiliar_whatever_its_score(score: float) -> None:
    prediction = dataclasses.replace(judged(score, 0.6), review_threshold=0.4)
    assert dataclasses.replace(prediction, unfamiliarity=1.0).verdict == prediction.verdict != "unfamiliar"
    far = dataclasses.replace(prediction, unfamiliarity=1.001)
    assert far.verdict == "unfamiliar" == far.with_threshold(0.95).verdict
    assert far.is_anomalous == prediction.is_anomalous


def test_another_threshold_takes_the_review_threshold_with_it_in_limits() -> None:
    prediction = dataclasses.replace(judged(0.7, 0.5), review_threshold=1 / 3)  # 1 limit and half a limit
    moved = prediction.with_threshold(0.75)  # 3 limits
    assert moved.threshold == 0.75 and moved.review_threshold == pytest.approx(0.6)  # 1.5 limits
    assert moved.verdict == "review"
    back = moved.with_threshold(0.5)
    assert back.review_threshold == pytest.approx(1 / 3) and back.verdict == "reject"
    assert judged(0.7, 0.5).with_threshold(0.75).review_threshold is None


def test_a_review_threshold_of_ones_own_is_taken_as_it_is() -> None:
    own = dataclasses.replace(judged(0.7, 0.5), review_threshold=0.25).with_threshold(0.9, 0.6)
    assert (own.threshold, own.review_threshold, own.verdict) == (0.9, 0.6, "review")
    assert judged(0.7, 0.5).with_threshold(0.8, 0.8).verdict == "pass"


@pytest.mark.parametrize("threshold", [0.0, 1e-6, 0.3, 0.999, 1.0])
@pytest.mark.parametrize("before, review", [(0.0, 0.0), (0.5, 0.0), (0.5, 0.5), (0.6, 0.2), (1.0, 0.4)])
def test_a_moved_review_threshold_is_never_above_the_threshold(threshold: float, before: float, review: float) -> None:
    moved = moved_review(review, before, threshold)
    assert 0 <= moved <= threshold
    if threshold == before:
        assert moved == pytest.approx(review)


def test_a_review_threshold_above_the_threshold_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match=r"review threshold 0\.7 lies above the threshold 0\.6; name one below it"):
        judged(0.5, 0.5).with_threshold(0.6, 0.7)
    with pytest.raises(ConfigError, match="must be a number from 0 to 1"):
        judged(0.5, 0.5).with_threshold(0.6, -0.1)


# ---------------------------------------------------------------- mask and data


def test_the_mask_is_kept_and_not_computed_each_time() -> None:
    prediction = judged(0.7, 0.5)
    assert prediction.mask is prediction.mask
    assert "mask" in {field.name for field in dataclasses.fields(prediction)}
    np.testing.assert_array_equal(prediction.mask, found_mask(prediction.anomaly_map, 0.7, 0.5))


def test_a_detector_may_hand_in_a_mask_of_its_own_which_another_threshold_replaces() -> None:
    mask = np.array([[True, False], [False, False]])
    own = Prediction(grey(0, 2, 2), np.full((2, 2), 0.75, np.float32), 0.75, 0.5, mask)
    assert own.mask is mask and own.to_dict()["anomalous_area"] == 0.25
    assert own.with_threshold(0.6).mask.all() and not own.with_threshold(0.8).mask.any()


def test_a_prediction_as_plain_data() -> None:
    prediction = dataclasses.replace(drawn_prediction(threshold=0.3), review_threshold=0.2, unfamiliarity=0.5)
    data = json.loads(json.dumps(prediction.to_dict()))
    assert data == {
        "verdict": "reject",
        "is_anomalous": prediction.is_anomalous,
        "score": prediction.score,
        "threshold": 0.3,
        "review_threshold": 0.2,
        "unfamiliarity": 0.5,
        "width": 60,
        "height": 40,
        "map_max": pytest.approx(prediction.anomaly_map.max(), abs=1e-9),
        "anomalous_area": pytest.approx((prediction.anomaly_map >= 0.3).mean(), abs=1e-9),
        "backend": "torch",
        "calibrated": True,
        "notes": [],
    }
    assert data["is_anomalous"] is True and 0 < data["anomalous_area"] < 1
    assert json.loads(str(prediction)) == data
    assert judged(0.4, 0.5).to_dict()["anomalous_area"] == 0


def test_predictions_can_be_kept_in_lists_and_sets() -> None:
    first, second = judged(0.7, 0.5), judged(0.7, 0.5)
    assert first in [second, first] and len({first, second}) == 2


@pytest.mark.parametrize("name, kind", [("panel.png", "PNG"), ("deep/er/panel.jpg", "JPEG")])
def test_the_panel_is_saved(tmp_path: Path, name: str, kind: str) -> None:
    prediction = drawn_prediction()
    path = prediction.save(tmp_path / name, title="bottle")
    assert path == tmp_path / name
    with Image.open(path) as image:
        assert image.format == kind
        height, width = prediction.panel("bottle").shape[:2]
        assert image.size == (width, height) and width > 3 * 80
        if kind == "PNG":
            assert np.array_equal(np.asarray(image), prediction.panel("bottle"))


@pytest.mark.parametrize("name", ["panel", "panel.xyz", "file/panel.png"])
def test_a_panel_that_cannot_be_written_is_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ImageError, match="cannot be written"):
        drawn_prediction().save(tmp_path / name)


def test_show_opens_the_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Image.Image] = []
    monkeypatch.setattr(Image.Image, "show", lambda self: shown.append(self))
    prediction = drawn_prediction()
    prediction.show()
    assert len(shown) == 1 and np.array_equal(np.asarray(shown[0]), prediction.panel())
