"""A model folder predicts today what it predicted when it was written; the same call gives the same numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from golden.measure import FOLDER, measure, pictures

from stlm_hub.model_folder.zoo import list_models
from stlm_hub.stlm import STLM

TOLERANCE = 2e-4
"""Of scores and maps in [0, 1]: processors and versions of torch round differently, what a model says is the same."""

ZOO = {entry.alias: entry for entry in list_models()}


def test_every_model_of_the_zoo_has_a_golden_file() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(ZOO)


@pytest.mark.parametrize("alias", sorted(ZOO))
def test_a_model_of_the_zoo_predicts_what_it_did(alias: str) -> None:
    known = json.loads((FOLDER / f"{alias}.json").read_text(encoding="utf-8"))
    assert known.pop("sha256") == ZOO[alias].sha256, f"{alias} is another model now: make golden"
    found = measure(alias)
    thresholds = [known.pop(name) for name in ("threshold", "review_threshold")]
    assert thresholds == [found["threshold"], found["review_threshold"]]
    assert known["pictures"].keys() == found["pictures"].keys()
    for name, before in known["pictures"].items():
        now = found["pictures"][name]
        assert now["score"] == pytest.approx(before["score"], abs=TOLERANCE), name
        assert now["unfamiliarity"] == pytest.approx(before["unfamiliarity"], rel=1e-3), name
        for figure in ("mean", "max", "std"):
            assert now["map"][figure] == pytest.approx(before["map"][figure], abs=TOLERANCE), (name, figure)
        np.testing.assert_allclose(now["map"]["cells"], before["map"]["cells"], atol=TOLERANCE, err_msg=name)
        edges = [abs(now["score"] - threshold) for threshold in thresholds] + [abs(now["unfamiliarity"] - 1)]
        assert now["verdict"] == before["verdict"] or min(edges) < 2 * TOLERANCE, name


@pytest.fixture(scope="module")
def brick() -> STLM:
    return STLM.from_pretrained("sample-brick", device="cpu", backend="torch")


def test_predict_gives_the_same_bits_each_time(brick: STLM) -> None:
    image = pictures()["bricks with a stain"]
    first, again = brick.predict(image), brick.predict(image)
    other = STLM.from_pretrained("sample-brick", device="cpu", backend="torch").predict(image)
    for prediction in (again, other):
        assert (prediction.score, prediction.unfamiliarity) == (first.score, first.unfamiliarity)
        assert np.array_equal(prediction.anomaly_map, first.anomaly_map)


def test_the_number_of_threads_changes_nothing(brick: STLM) -> None:
    image, before = pictures()["bricks with a stain"], torch.get_num_threads()
    try:
        predictions = []
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            predictions.append(brick.predict(image))
    finally:
        torch.set_num_threads(before)
    for prediction in predictions[1:]:
        np.testing.assert_allclose(prediction.anomaly_map, predictions[0].anomaly_map, atol=1e-5)
        assert prediction.score == pytest.approx(predictions[0].score, abs=1e-5)


def test_a_batch_of_one_equals_a_batch_of_eight(brick: STLM) -> None:
    images = list(pictures().values())
    eight = [*images, *(image[::-1].copy() for image in images)]
    assert 2**20 // (brick.input_size[0] * brick.input_size[1]) >= 8  # they are one batch, see `predictor.batch_size`
    for together, image in zip(brick.predict(eight), eight, strict=True):
        alone = brick.predict(image)
        np.testing.assert_allclose(together.anomaly_map, alone.anomaly_map, atol=1e-5)
        assert together.score == pytest.approx(alone.score, abs=1e-5)
