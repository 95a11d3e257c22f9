"""What a detector says of one photograph: verdict, mask, plain data, panel."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from drawn import grey, texture
from PIL import Image

from stlm_hub.errors import ImageError
from stlm_hub.predict.prediction import Prediction, found_mask


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
    prediction = drawn_prediction(threshold=0.3)
    data = json.loads(json.dumps(prediction.to_dict()))
    assert data == {
        "is_anomalous": prediction.is_anomalous,
        "score": prediction.score,
        "threshold": 0.3,
        "width": 60,
        "height": 40,
        "map_max": pytest.approx(prediction.anomaly_map.max(), abs=1e-9),
        "anomalous_area": pytest.approx((prediction.anomaly_map >= 0.3).mean(), abs=1e-9),
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
    with pytest.raises(ImageError, match=r"cannot be written.*\.png or \.jpg"):
        drawn_prediction().save(tmp_path / name)


def test_show_opens_the_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Image.Image] = []
    monkeypatch.setattr(Image.Image, "show", lambda self: shown.append(self))
    prediction = drawn_prediction()
    prediction.show()
    assert len(shown) == 1 and np.array_equal(np.asarray(shown[0]), prediction.panel())
