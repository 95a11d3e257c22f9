"""Evaluation: the predictor's own maps and scores go into the figures, in the frame of each photograph."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from stlm_hub.errors import DataError, ImageError
from stlm_hub.evaluation.evaluate import TestSet, curves, evaluate
from stlm_hub.evaluation.masks import read_mask
from stlm_hub.evaluation.metrics import compute_metrics
from stlm_hub.models.stlm.anomaly_maps import AnomalyMaps
from stlm_hub.models.stlm.config import NetworkConfig, STLMConfig
from stlm_hub.models.stlm.judging import Judging
from stlm_hub.predict.images import load_image
from stlm_hub.predict.predictor import infer, predict

SHAPES = [(64, 64), (80, 120), (50, 40), (64, 64), (96, 72)]  # two good ones, three with a defect


@pytest.fixture(scope="module")
def model() -> AnomalyMaps:
    config = STLMConfig(NetworkConfig(input_size=(64, 64), aggregation_channels=8))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AnomalyMaps(config, Judging(score_top_k=10)).eval()


@pytest.fixture
def test_set(tmp_path: Path) -> TestSet:
    """Noise with, on three of five, a painted bar and its mask; one mask is of 1 and not of 255."""
    rng = np.random.default_rng(0)
    photographs, masks = [], []
    for i, shape in enumerate(SHAPES):
        image = rng.integers(90, 150, (*shape, 3), dtype=np.uint8)
        mask = np.zeros(shape, np.uint8)
        if i >= 2:
            mask[10 : 20 + i, 5:30] = 1 if i == 3 else 255
            image[mask > 0] = (230, 40, 20)
            masks.append(tmp_path / f"{i}_mask.png")
            Image.fromarray(mask).save(masks[-1])
        photographs.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(photographs[-1])
    return TestSet(good=photographs[:2], anomalous=photographs[2:], masks=masks)


@pytest.mark.parametrize("anomaly_map", ["aggregation", "cosine"])
def test_figures_are_those_of_the_predictors_maps(model: AnomalyMaps, test_set: TestSet, anomaly_map: str) -> None:
    judging = model.judging.replace(judge_by=anomaly_map)
    model = AnomalyMaps(model.config, judging, model.network).eval()
    images = [load_image(path) for path in test_set.photographs]
    found = [inferred.maps for inferred in infer(model, images, ("aggregation", "cosine"))]
    masks = [np.zeros(shape, bool) for shape in SHAPES]
    for i in (2, 3, 4):
        masks[i][10 : 20 + i, 5:30] = True
    thresholds = {name: sorted(maps[name].score for maps in found[2:])[1] for name in ("aggregation", "cosine")}
    expected = {
        name: compute_metrics(
            [maps[name].score for maps in found],
            [0, 0, 1, 1, 1],
            [maps[name].anomaly_map for maps in found],
            masks,
            threshold=thresholds[name],
        )
        for name in thresholds
    }
    result = evaluate(model, test_set, thresholds)
    assert result.figures.keys() == expected.keys()
    for name, figures in result.figures.items():
        assert figures.to_dict() == pytest.approx(asdict(expected[name]))
        assert figures.fnr == pytest.approx(1 / 3)
    assert result.figures["aggregation"].p_auroc != result.figures["cosine"].p_auroc

    assert result.labels == [0, 0, 1, 1, 1]
    assert result.good_scores + result.anomalous_scores == result.scores
    assert len(result.good_scores) == 2
    assert result.seconds > 0
    for i, prediction in enumerate(predict(model, images)):  # what a user sees is what was evaluated
        assert result.scores[i] == pytest.approx(prediction.score, abs=1e-6)
        np.testing.assert_allclose(result.maps[i], prediction.anomaly_map, atol=1e-6)
        np.testing.assert_array_equal(result.masks[i], masks[i])
        assert result.maps[i].shape == SHAPES[i]


def test_without_masks_only_whole_photographs_are_compared(model: AnomalyMaps, test_set: TestSet) -> None:
    marked = evaluate(model, test_set, {"aggregation": 0.5})
    result = evaluate(model, dataclasses.replace(test_set, masks=[]), {"aggregation": 0.5})
    assert marked.has_masks and not result.has_masks and result.scores == marked.scores
    for name, figures in result.figures.items():
        assert (figures.i_auroc, figures.fnr) == (marked.figures[name].i_auroc, marked.figures[name].fnr)
        assert (figures.p_auroc, figures.aupro, figures.ap, figures.f1_max) == (None, None, None, None)
    assert set(curves(result)) == {"image_roc"} and set(curves(marked)) == {"image_roc", "pixel_roc", "pro"}
    with pytest.raises(DataError, match="For 3 defective photographs there are 2 masks"):
        evaluate(model, dataclasses.replace(test_set, masks=test_set.masks[:2]), {})


def test_thresholds_decide_the_false_negative_rate_only(model: AnomalyMaps, test_set: TestSet) -> None:
    thresholds = ({"aggregation": 0.0, "cosine": 1.0}, {"aggregation": 1.0})
    low, high = (evaluate(model, test_set, chosen).figures for chosen in thresholds)
    assert (low["aggregation"].fnr, low["cosine"].fnr) == (0.0, 1.0)
    assert (high["aggregation"].fnr, high["cosine"].fnr) == (1.0, None)  # no threshold, so no rate
    assert dataclasses.replace(low["aggregation"], fnr=None) == dataclasses.replace(high["aggregation"], fnr=None)


def test_progress_is_told_after_each_photograph_in_order(model: AnomalyMaps, test_set: TestSet) -> None:
    told: list[tuple[int, int]] = []
    evaluate(model, test_set, {}, lambda done, total: told.append((done, total)))
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize("buffering", [0, -1])  # it shows at the write, or when what is buffered is written out
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_ends_in_a_sentence(
    buffering: int, model: AnomalyMaps, test_set: TestSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def full(path: Path, mode: str = "r", *rest: Any) -> Any:
        if path.name == "cosine" and mode == "wb":
            return opened(Path("/dev/full"), mode, buffering)
        return opened(path, mode, *rest)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(DataError, match=r"do not fit into .* \(No space left on device\); make room there"):
        evaluate(model, test_set, {})


@pytest.mark.parametrize("missing", ["good", "anomalous"])
def test_a_missing_kind_is_refused(model: AnomalyMaps, test_set: TestSet, missing: str) -> None:
    kinds = {"good": test_set.good, "anomalous": test_set.anomalous, "masks": test_set.masks} | {missing: []}
    with pytest.raises(DataError, match=r"holds no .* test photographs"):
        evaluate(model, TestSet(**kinds), {})


def test_a_mask_of_another_size_is_refused_by_name(model: AnomalyMaps, test_set: TestSet) -> None:
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(test_set.masks[0])  # its photograph is 50 high and 40 wide
    with pytest.raises(DataError, match=r"2_mask\.png is 50x40 px, its photograph 40x50"):
        evaluate(model, test_set, {})


def test_a_mask_that_cannot_be_read_is_refused_by_name(model: AnomalyMaps, test_set: TestSet) -> None:
    test_set.masks[1].write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"3_mask\.png cannot be read"):
        evaluate(model, test_set, {})
    test_set.masks[1].unlink()
    with pytest.raises(DataError, match=r"3_mask\.png cannot be read"):
        evaluate(model, test_set, {})


def test_a_photograph_that_cannot_be_read_is_refused_by_name(model: AnomalyMaps, test_set: TestSet) -> None:
    test_set.good[1].write_bytes(b"not a picture")
    with pytest.raises(ImageError, match=r"1\.png"):
        evaluate(model, test_set, {})


def test_every_pixel_of_a_mask_above_zero_is_a_defect(tmp_path: Path) -> None:
    values = np.array([[0, 1, 127], [128, 255, 0]], np.uint8)
    assert cv2.imwrite(str(tmp_path / "mask.png"), values)
    mask = read_mask(tmp_path / "mask.png", (2, 3))
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, [[False, True, True], [True, True, False]])


def test_small_label_values_of_any_depth_and_colour_are_defects(tmp_path: Path) -> None:
    expected = np.array([[False, True], [True, False]])
    deep = np.where(expected, 1, 0).astype(np.uint16)
    blue = np.zeros((2, 2, 3), np.uint8)
    blue[expected] = (1, 0, 0)
    for values in (deep, blue, deep.astype(np.uint8)):
        assert cv2.imwrite(str(tmp_path / "mask.png"), values)
        np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", (2, 2)), expected)
    Image.fromarray(expected).save(tmp_path / "mask.png")  # 1 bit per pixel
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", (2, 2)), expected)
