"""From an image to a verdict: frames, scores, thresholds, batches; mostly on a network whose map is the brightness."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from torch import Tensor, nn
from torch.nn import functional as F

from stlm_hub.errors import ConfigError, ImageError
from stlm_hub.models.stlm.config import Calibration, STLMConfig
from stlm_hub.models.stlm.network import STLMOutput
from stlm_hub.predict import predictor
from stlm_hub.predict.images import ImageInput
from stlm_hub.predict.predictor import DEFAULT_THRESHOLD, Prediction, infer, predict, resize_image
from stlm_hub.stlm import STLM


class Brightness(nn.Module):
    """Stands in for the network: the map of the aggregation is the brightness in [0, 1], the cosine map half of it."""

    def __init__(self, **fields: Any) -> None:
        super().__init__()
        self.config = STLMConfig(**{"image_size": 64, **fields})
        self.weight = nn.Parameter(torch.ones(1))
        self.batches: list[int] = []
        self.modes: list[tuple[bool, bool]] = []

    def forward(self, image: Tensor) -> STLMOutput:
        assert image.dtype == torch.float32 and image.shape[1:] == (3, *[self.config.image_size] * 2)
        self.batches.append(len(image))
        self.modes.append((self.training, torch.is_grad_enabled()))
        brightness = F.avg_pool2d(image.mean(1, keepdim=True), 16) / 255 * self.weight
        cosine = 1 - brightness
        denoising = torch.cat([cosine, (1 - cosine**2).clamp(min=0).sqrt()], dim=1)
        plain = torch.cat([torch.ones_like(cosine), torch.zeros_like(cosine)], dim=1)
        return STLMOutput(torch.logit(brightness), {"embedding": plain}, {"embedding": denoising})


def network(**fields: Any) -> Any:
    return Brightness(**fields).eval()


def grey(value: int, height: int = 64, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


# ---------------------------------------------------------------- inputs and batches


def test_one_in_one_out_a_list_in_a_list_out(tmp_path: Path) -> None:
    model = network()
    single = predict(model, grey(51))
    assert isinstance(single, Prediction) and single.score == pytest.approx(0.2, abs=1e-6)
    lists: list[Any] = [[grey(51)], (grey(51),)]
    for many in lists:
        result = predict(model, many)
        assert isinstance(result, list) and [p.score for p in result] == [single.score]
    assert predict(model, []) == []


def test_every_kind_of_input_is_the_same_photograph(tmp_path: Path) -> None:
    pixels = texture(50, 70)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    inputs: list[ImageInput] = [
        tmp_path / "photo.png",
        str(tmp_path / "photo.png"),
        (tmp_path / "photo.png").read_bytes(),
        Image.fromarray(pixels),
        pixels,
        pixels.astype(np.uint16) * 257,
        pixels / 255,
    ]
    predictions = predict(network(), inputs)
    for prediction in predictions:
        assert np.array_equal(prediction.image, pixels)
        assert prediction.score == pytest.approx(predictions[0].score, abs=1e-6)
        np.testing.assert_allclose(prediction.anomaly_map, predictions[0].anomaly_map, rtol=0, atol=1e-6)


def test_the_order_is_kept_over_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor, "BATCH_PIXELS", 2 * 64 * 64 + 100)
    model = network()
    values = [200, 10, 90, 250, 40]
    predictions = predict(model, [grey(value, 20 + value, 64) for value in values])
    assert [p.score for p in predictions] == pytest.approx([value / 255 for value in values], abs=1e-6)
    assert [p.anomaly_map.shape for p in predictions] == [(20 + value, 64) for value in values]
    assert model.batches == [2, 2, 1]


def test_a_large_network_takes_one_image_at_a_time() -> None:
    model = network(image_size=1088)  # more than BATCH_PIXELS
    predict(model, [grey(1), grey(2)])
    assert model.batches == [1, 1]


def test_images_of_mixed_sizes_in_one_batch_are_judged_as_alone(tiny_model: STLM) -> None:
    images = [texture(64, 64), texture(100, 40, 1), texture(33, 129, 2), texture(64, 64, 3)]
    for which in ("aggregation", "cosine"):
        together = [maps[which] for maps in infer(tiny_model, images)]
        assert len({scored.score for scored in together}) == 4
        for image, scored in zip(images, together, strict=True):
            (alone,) = infer(tiny_model, [image])
            assert scored.anomaly_map.shape == image.shape[:2]
            np.testing.assert_allclose(scored.anomaly_map, alone[which].anomaly_map, rtol=0, atol=1e-5)
            assert scored.score == pytest.approx(alone[which].score, abs=1e-5)


def test_the_model_predicts_by_the_same_path(tiny_model: STLM) -> None:
    first, second = tiny_model.predict(texture(40, 50)), predict(tiny_model, texture(40, 50))
    assert first.to_dict() == second.to_dict() and np.array_equal(first.anomaly_map, second.anomaly_map)


def test_inference_reads_no_further_than_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor, "BATCH_PIXELS", 2 * 64 * 64)
    read: list[int] = []

    def photographs() -> Iterator[np.ndarray]:
        for i in range(5):
            read.append(i)
            yield grey(50 * i)

    results = infer(network(), photographs())
    assert not read
    next(results)
    assert read == [0, 1]
    assert len(list(results)) == 4


def test_an_image_that_cannot_be_used_is_reported_before_the_model_runs(tmp_path: Path) -> None:
    model = network()
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for bad in (tmp_path / "broken.png", tmp_path / "missing.png", b"", np.zeros((4, 4), np.uint8), 5):
        with pytest.raises(ImageError):
            predict(model, [grey(10), bad])  # type: ignore[list-item]
    assert model.batches == []


# ---------------------------------------------------------------- the map


def test_the_map_is_float32_between_0_and_1_in_the_frame_of_the_image() -> None:
    for shape in ((64, 64), (31, 200), (300, 90)):
        prediction = predict(network(), texture(*shape))
        assert prediction.anomaly_map.shape == shape == prediction.image.shape[:2]
        assert prediction.anomaly_map.dtype == np.float32
        assert prediction.anomaly_map.min() >= 0 and prediction.anomaly_map.max() <= 1


STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", STORED)
def test_the_map_lies_on_the_photograph_as_it_is_displayed(orientation: int) -> None:
    displayed = grey(20, 120, 200)
    displayed[:30, 150:] = 230  # the network's upper right cell out of 4 x 4
    stored = Image.fromarray(displayed)
    turn = STORED[orientation]
    if turn is not None:
        stored = stored.transpose(turn)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    file = io.BytesIO()
    stored.save(file, "JPEG", quality=95, exif=exif)
    prediction = predict(network(), file.getvalue())
    assert prediction.image.shape == (120, 200, 3) and prediction.anomaly_map.shape == (120, 200)
    assert prediction.anomaly_map[:15, 178:].min() > 0.85
    assert prediction.anomaly_map[50:].max() < 0.1 and prediction.anomaly_map[:, :120].max() < 0.1


def test_maps_are_not_stretched_per_image() -> None:
    for value in (26, 128, 230):
        flat = predict(network(), grey(value)).anomaly_map
        np.testing.assert_allclose(flat, value / 255, rtol=0, atol=1e-6)


@pytest.mark.parametrize("which, scale", [("aggregation", 1.0), ("cosine", 0.5)])
def test_the_config_says_which_map_is_judged(which: str, scale: float) -> None:
    prediction = predict(network(anomaly_map=which), grey(204))
    assert prediction.score == pytest.approx(0.8 * scale, abs=1e-5)
    np.testing.assert_allclose(prediction.anomaly_map, 0.8 * scale, rtol=0, atol=1e-5)


def test_inference_hands_out_the_maps_that_are_asked_for() -> None:
    (both,) = infer(network(), [grey(204)])
    assert both["aggregation"].score == pytest.approx(0.8, abs=1e-5)
    assert both["cosine"].score == pytest.approx(0.4, abs=1e-5)
    (one,) = infer(network(), [grey(204)], ("cosine",))
    assert one.keys() == {"cosine"}


# ---------------------------------------------------------------- the score


@pytest.mark.parametrize("top_k", [1, 7, 100, 64 * 64])
@pytest.mark.parametrize("shape", [(64, 64), (150, 90)])
def test_the_score_is_the_mean_of_the_highest_values_at_the_networks_size(top_k: int, shape: tuple[int, int]) -> None:
    image = texture(*shape)
    cells = resize_image(image, 64).astype(np.float64).mean(2).reshape(4, 16, 4, 16).mean((1, 3)) / 255
    fine = F.interpolate(torch.from_numpy(cells)[None, None], size=(64, 64), mode="bilinear", align_corners=False)
    expected = np.sort(fine.numpy().ravel())[-top_k:].mean()
    prediction = predict(network(score_top_k=top_k), image)
    assert prediction.score == pytest.approx(expected, abs=1e-5)
    assert type(prediction.score) is float


def test_a_score_never_exceeds_1() -> None:
    prediction = predict(network(), grey(255))
    assert prediction.score == 1.0 and prediction.anomaly_map.max() == 1.0


# ---------------------------------------------------------------- thresholds


CALIBRATION = Calibration(threshold=0.3, false_alarm_rate=0.01, n=31, method="conformal", date="2026-01-31")


def test_the_threshold_is_the_calibrated_one_unless_another_is_given() -> None:
    image = grey(102)  # 0.4
    assert predict(network(), image).threshold == DEFAULT_THRESHOLD == 0.5
    assert not predict(network(), image).is_anomalous
    calibrated = network(calibration=CALIBRATION)
    assert predict(calibrated, image).threshold == 0.3 and predict(calibrated, image).is_anomalous
    assert predict(calibrated, image, threshold=0.45).threshold == 0.45
    assert not predict(calibrated, image, threshold=np.float32(0.45)).is_anomalous
    assert predict(calibrated, image, threshold=0).is_anomalous
    assert predict(calibrated, [image, image], threshold=1)[1].threshold == 1.0


@pytest.mark.parametrize("threshold", [-0.01, 1.01, float("nan"), float("inf"), "0.5", True, [0.5]])
def test_an_impossible_threshold_is_refused_before_the_model_runs(threshold: Any) -> None:
    model = network()
    with pytest.raises(ConfigError, match="threshold must be a number from 0 to 1"):
        predict(model, grey(10), threshold=threshold)
    assert model.batches == []
    with pytest.raises(ConfigError, match="threshold must be a number from 0 to 1"):
        predict(model, grey(10)).with_threshold(threshold)


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


def test_another_threshold_does_not_run_the_model_again() -> None:
    model = network()
    prediction = predict(model, grey(102))
    other = prediction.with_threshold(0.3)
    assert model.batches == [1]
    assert (prediction.threshold, prediction.is_anomalous) == (0.5, False)
    assert (other.threshold, other.is_anomalous, other.score) == (0.3, True, prediction.score)
    assert other.anomaly_map is prediction.anomaly_map and other.mask.all()


# ---------------------------------------------------------------- what is done with a prediction


def test_a_prediction_as_plain_data() -> None:
    prediction = predict(network(calibration=CALIBRATION), texture(40, 60))
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
    prediction = predict(network(), texture(60, 80))
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
        predict(network(), grey(10)).save(tmp_path / name)


def test_show_opens_the_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Image.Image] = []
    monkeypatch.setattr(Image.Image, "show", lambda self: shown.append(self))
    prediction = predict(network(), texture(60, 80))
    prediction.show()
    assert len(shown) == 1 and np.array_equal(np.asarray(shown[0]), prediction.panel())


# ---------------------------------------------------------------- the model is left alone


def test_a_model_in_training_is_asked_in_eval_mode_without_gradient_and_goes_on_training() -> None:
    model = network().train()
    predict(model, grey(10))
    assert model.modes == [(False, False)] and model.training
    assert model.weight.grad is None


def test_the_mode_comes_back_when_the_network_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network().train()

    def fail(_: Tensor) -> STLMOutput:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model, "forward", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        predict(model, grey(10))
    assert model.training


def test_a_model_in_eval_mode_is_not_switched_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switching drops the attention biases that the encoders keep, under the hands of another thread."""
    model = network()

    def switch(_: bool = True) -> nn.Module:
        raise AssertionError("switched")

    monkeypatch.setattr(model, "train", switch)
    assert predict(model, grey(51)).score == pytest.approx(0.2, abs=1e-6)


def test_a_prediction_leaves_the_weights_alone(tiny_model: STLM) -> None:
    before = {name: tensor.clone() for name, tensor in tiny_model.state_dict().items()}
    tiny_model.predict(texture(64, 64))
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny_model.state_dict().items())
    assert all(parameter.grad is None for parameter in tiny_model.parameters())
    assert not tiny_model.training


# ---------------------------------------------------------------- resizing


def test_shrinking_averages_so_that_thin_lines_stay() -> None:
    lines = grey(0, 512, 1024)
    lines[:, ::8] = 240  # one line for each half of a column of the small image
    small = resize_image(lines, 64)
    assert small.shape == (64, 64, 3) and small.dtype == np.uint8
    assert small.min() == small.max() == 30


@pytest.mark.parametrize("shape", [(32, 32), (16, 200), (200, 16)])
def test_enlarging_is_bilinear(shape: tuple[int, int]) -> None:
    image = texture(*shape)
    expected = cv2.resize(image, (64, 64), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(resize_image(image, 64), expected)


@pytest.mark.parametrize("make", [grey, lambda value: texture(64, 64)])
def test_an_image_of_the_right_size_stays_as_it_is(make: Callable[[int], np.ndarray]) -> None:
    image = make(5)
    assert resize_image(image, 64) is image
