"""From a photograph to a verdict: frames, scores, thresholds, batches; mostly with streams that see the brightness."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn import grey, judging_by, texture
from PIL import ExifTags, Image
from torch import Tensor, nn
from torch.nn import functional as F

from stlm_hub.errors import ConfigError, ImageError
from stlm_hub.models.eval_mode import in_eval_mode
from stlm_hub.models.stlm.anomaly_maps import AnomalyMaps
from stlm_hub.models.stlm.config import NetworkConfig, STLMConfig
from stlm_hub.models.stlm.judging import DEFAULT_THRESHOLD, Calibration, Judging
from stlm_hub.models.stlm.network import STLMOutput
from stlm_hub.predict import stream
from stlm_hub.predict.frame import resize_image
from stlm_hub.predict.images import ImageInput
from stlm_hub.predict.prediction import Prediction
from stlm_hub.predict.predictor import infer, predict
from stlm_hub.stlm import STLM

CALIBRATION = Calibration(
    threshold=0.3,
    review_threshold=0.2,
    false_alarm_rate=0.01,
    n=31,
    highest_rate=0.1,
    miss_rate=None,
    method="order statistic",
    date="2026-01-31",
)


class Brightness(nn.Module):
    """Stands in for the streams: the map with aggregation is the brightness in [0, 1], that without is half of it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.weight = nn.Parameter(torch.ones(1))
        self.batches: list[int] = []
        self.modes: list[tuple[bool, bool]] = []

    def forward(self, image: Tensor) -> STLMOutput:
        assert image.dtype == torch.float32 and image.shape[1:] == (3, self.size, self.size)
        self.batches.append(len(image))
        self.modes.append((self.training, torch.is_grad_enabled()))
        brightness = F.avg_pool2d(image.mean(1, keepdim=True), 16) / 255 * self.weight
        cosine = 1 - brightness
        denoising = torch.cat([cosine, (1 - cosine**2).clamp(min=0).sqrt()], dim=1)
        plain = torch.cat([torch.ones_like(cosine), torch.zeros_like(cosine)], dim=1)
        plain, denoising = (F.pad(seen, (0, 0, 0, 0, 0, 254)) for seen in (plain, denoising))  # to its real channels
        return STLMOutput(torch.logit(brightness), {"embedding": plain}, {"embedding": denoising})


def model_of(size: int = 64, **judging: Any) -> STLM:
    """A model that judges by the brightness."""
    streams: Any = Brightness(size)
    return STLM(STLMConfig(NetworkConfig(input_size=(size, size))), Judging(**judging), network=streams).eval()


def batches_of(model: AnomalyMaps) -> list[int]:
    """Sizes of the batches that the streams have seen."""
    assert isinstance(model.network, Brightness)
    sizes: list[int] = model.network.batches
    return sizes


# ---------------------------------------------------------------- inputs and batches


def test_one_in_one_out_a_list_in_a_list_out() -> None:
    model = model_of()
    single = model.predict(grey(51))
    assert isinstance(single, Prediction) and single.score == pytest.approx(0.2, abs=1e-6)
    lists: list[Any] = [[grey(51)], (grey(51),)]
    for many in lists:
        result = model.predict(many)
        assert isinstance(result, list) and [p.score for p in result] == [single.score]
    assert model.predict([]) == [] and predict(model, []) == []


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
    predictions = model_of().predict(inputs)
    for prediction in predictions:
        assert np.array_equal(prediction.image, pixels)
        assert prediction.score == pytest.approx(predictions[0].score, abs=1e-6)
        np.testing.assert_allclose(prediction.anomaly_map, predictions[0].anomaly_map, rtol=0, atol=1e-6)


def test_the_order_is_kept_over_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BATCH_PIXELS", 2 * 64 * 64 + 100)
    model = model_of()
    values = [200, 10, 90, 250, 40]
    predictions = model.predict([grey(value, 20 + value, 64) for value in values])
    assert [p.score for p in predictions] == pytest.approx([value / 255 for value in values], abs=1e-6)
    assert [p.anomaly_map.shape for p in predictions] == [(20 + value, 64) for value in values]
    assert batches_of(model) == [2, 2, 1]


def test_a_large_network_takes_one_image_at_a_time() -> None:
    model = model_of(size=1088)  # more than BATCH_PIXELS
    model.predict([grey(1), grey(2)])
    assert batches_of(model) == [1, 1]


def test_images_of_mixed_sizes_in_one_batch_are_judged_as_alone(tiny_model: STLM) -> None:
    images = [texture(64, 64), texture(100, 40, 1), texture(33, 129, 2), texture(64, 64, 3)]
    for which in ("aggregation", "cosine"):
        together = [one.maps[which] for one in infer(tiny_model, images, (which,))]
        assert len({scored.score for scored in together}) == 4
        for image, scored in zip(images, together, strict=True):
            alone = next(infer(tiny_model, [image], (which,))).maps
            assert scored.anomaly_map.shape == image.shape[:2]
            np.testing.assert_allclose(scored.anomaly_map, alone[which].anomaly_map, rtol=0, atol=1e-5)
            assert scored.score == pytest.approx(alone[which].score, abs=1e-5)


def test_the_model_predicts_by_the_same_path(tiny_model: STLM) -> None:
    first, (second,) = tiny_model.predict(texture(40, 50)), predict(tiny_model, [texture(40, 50)])
    assert first.to_dict() == second.to_dict() and np.array_equal(first.anomaly_map, second.anomaly_map)


def test_inference_reads_no_further_than_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BATCH_PIXELS", 2 * 64 * 64)
    read: list[int] = []

    def photographs() -> Iterator[np.ndarray]:
        for i in range(5):
            read.append(i)
            yield grey(50 * i)

    results = infer(model_of(), photographs(), ("aggregation",))
    assert not read
    next(results)
    assert read == [0, 1]
    assert len(list(results)) == 4


def test_an_image_that_cannot_be_used_is_reported_before_the_model_runs(tmp_path: Path) -> None:
    model = model_of()
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for bad in (tmp_path / "broken.png", tmp_path / "missing.png", b"", np.zeros((4, 4), np.uint8), 5):
        with pytest.raises(ImageError):
            model.predict([grey(10), bad])  # type: ignore[list-item]
    assert batches_of(model) == []


# ---------------------------------------------------------------- the map


def test_the_map_is_float32_between_0_and_1_in_the_frame_of_the_image() -> None:
    for shape in ((64, 64), (31, 200), (300, 90)):
        prediction = model_of().predict(texture(*shape))
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
    prediction = model_of().predict(file.getvalue())
    assert prediction.image.shape == (120, 200, 3) and prediction.anomaly_map.shape == (120, 200)
    assert prediction.anomaly_map[:15, 178:].min() > 0.85
    assert prediction.anomaly_map[50:].max() < 0.1 and prediction.anomaly_map[:, :120].max() < 0.1


def test_maps_are_not_stretched_per_image() -> None:
    for value in (26, 128, 230):
        flat = model_of().predict(grey(value)).anomaly_map
        np.testing.assert_allclose(flat, value / 255, rtol=0, atol=1e-6)


@pytest.mark.parametrize("which, scale", [("aggregation", 1.0), ("cosine", 0.5)])
def test_the_judging_says_which_map_is_judged(which: str, scale: float) -> None:
    prediction = model_of(judge_by=which).predict(grey(204))
    assert prediction.score == pytest.approx(0.8 * scale, abs=1e-5)
    np.testing.assert_allclose(prediction.anomaly_map, 0.8 * scale, rtol=0, atol=1e-5)


def test_inference_hands_out_the_maps_that_are_asked_for() -> None:
    both = next(infer(model_of(), [grey(204)], ("cosine", "aggregation"))).maps
    assert list(both) == ["cosine", "aggregation"]
    assert both["aggregation"].score == pytest.approx(0.8, abs=1e-5)
    assert both["cosine"].score == pytest.approx(0.4, abs=1e-5)
    one = next(infer(model_of(), [grey(204)], ("cosine",))).maps
    assert one.keys() == {"cosine"}
    with pytest.raises(ConfigError, match="There is no map 'heat'"):
        next(infer(model_of(), [grey(204)], ("heat",)))


def test_another_map_than_the_one_that_judges_can_be_drawn() -> None:
    prediction = model_of(judge_by="aggregation", draw_by="cosine").predict(grey(204))
    assert prediction.score == pytest.approx(0.8, abs=1e-5)
    np.testing.assert_allclose(prediction.anomaly_map, 0.4, rtol=0, atol=1e-5)


def test_the_drawn_map_is_brought_to_the_threshold_of_the_one_that_judges() -> None:
    prediction = model_of(draw_gain=1.5).predict(grey(102))  # 0.4, two thirds of a limit
    assert prediction.score == pytest.approx(0.4, abs=1e-5)
    np.testing.assert_allclose(prediction.anomaly_map, 0.5, rtol=0, atol=1e-5)  # one limit


# ---------------------------------------------------------------- the score


@pytest.mark.parametrize("top_k", [1, 7, 100, 64 * 64])
@pytest.mark.parametrize("shape", [(64, 64), (150, 90)])
def test_the_score_is_the_mean_of_the_highest_values_as_odds(top_k: int, shape: tuple[int, int]) -> None:
    image = texture(*shape)
    cells = resize_image(image, (64, 64)).astype(np.float64).mean(2).reshape(4, 16, 4, 16).mean((1, 3)) / 255
    fine = F.interpolate(torch.from_numpy(cells)[None, None], size=(64, 64), mode="bilinear", align_corners=False)
    odds = np.sort((fine / (1 - fine)).numpy().ravel())[-top_k:].mean()
    expected = odds / (1 + odds)
    prediction = model_of(score_top_k=top_k).predict(image)
    assert prediction.score == pytest.approx(expected, abs=1e-5)
    assert type(prediction.score) is float


def test_a_score_never_exceeds_1() -> None:
    prediction = model_of().predict(grey(255))
    assert 0.99999 < prediction.score <= 1.0 and 0.99999 < prediction.anomaly_map.max() <= 1.0


# ---------------------------------------------------------------- thresholds


def test_the_threshold_is_the_calibrated_one_unless_another_is_given() -> None:
    image = grey(102)  # 0.4
    assert model_of().predict(image).threshold == DEFAULT_THRESHOLD == 0.5
    assert not model_of().predict(image).is_anomalous
    calibrated = model_of(calibration=CALIBRATION)
    assert calibrated.predict(image).threshold == 0.3 and calibrated.predict(image).is_anomalous
    assert calibrated.predict(image, threshold=0.45).threshold == 0.45
    assert not calibrated.predict(image, threshold=np.float32(0.45)).is_anomalous
    assert calibrated.predict(image, threshold=0).is_anomalous
    assert calibrated.predict([image, image], threshold=1)[1].threshold == 1.0


def test_the_review_threshold_is_the_calibrated_one_and_moves_with_another_threshold() -> None:
    calibrated, image = model_of(calibration=CALIBRATION), grey(64)  # 0.25
    assert calibrated.predict(image).review_threshold == 0.2 and calibrated.predict(image).verdict == "review"
    moved = calibrated.predict(image, threshold=0.6)  # 1.5 limits in the place of 3 / 7
    assert moved.review_threshold == pytest.approx(0.875 / 1.875) and moved.verdict == "pass"
    own = calibrated.predict([image], threshold=0.6, review_threshold=0.1)[0]
    assert (own.review_threshold, own.verdict) == (0.1, "review")
    assert model_of().predict(image).review_threshold == 0.5 and model_of().predict(image).verdict == "pass"


@pytest.mark.parametrize("ask", [STLM.predict, STLM.predict_many])
def test_an_impossible_review_threshold_is_refused_before_the_model_runs(ask: Callable[..., Any]) -> None:
    model = model_of(calibration=CALIBRATION)
    for threshold, review in ((None, 0.31), (0.6, 0.7)):
        with pytest.raises(ConfigError, match="lies above the threshold"):
            ask(model, [grey(10)], threshold=threshold, review_threshold=review)
    with pytest.raises(ConfigError, match="must be a number from 0 to 1"):
        ask(model, [grey(10)], review_threshold=-1)
    assert batches_of(model) == []


def test_unfamiliarity_is_the_larger_distance_in_limits(tiny_model: STLM) -> None:
    image = texture(64, 64)
    by_content, by_layout = next(infer(tiny_model, [image], ("aggregation",))).distances
    assert tiny_model.predict(image).unfamiliarity == 0  # nothing was measured
    for limits in ((by_content / 2, by_layout * 4), (by_content * 4, by_layout / 2)):
        prediction = judging_by(tiny_model, familiarity_limits=limits).predict(image)
        assert prediction.unfamiliarity == pytest.approx(2, rel=1e-4) and prediction.verdict == "unfamiliar"
    familiar = judging_by(tiny_model, familiarity_limits=(by_content * 2, by_layout * 4)).predict(image)
    assert familiar.unfamiliarity == pytest.approx(0.5, rel=1e-4) and familiar.verdict != "unfamiliar"


@pytest.mark.parametrize("threshold", [-0.01, 1.01, float("nan"), float("inf"), "0.5", True, [0.5]])
def test_an_impossible_threshold_is_refused_before_the_model_runs(threshold: Any) -> None:
    model = model_of()
    with pytest.raises(ConfigError, match="threshold must be a number from 0 to 1"):
        model.predict(grey(10), threshold=threshold)
    assert batches_of(model) == []
    with pytest.raises(ConfigError, match="threshold must be a number from 0 to 1"):
        model.predict(grey(10)).with_threshold(threshold)
    with pytest.raises(ConfigError, match="threshold must be a number from 0 to 1"):
        predict(model, [grey(10)], threshold)


def test_another_threshold_does_not_run_the_model_again() -> None:
    model = model_of()
    prediction = model.predict(grey(102))
    other = prediction.with_threshold(0.3)
    assert batches_of(model) == [1]
    assert (prediction.threshold, prediction.is_anomalous) == (0.5, False)
    assert (other.threshold, other.is_anomalous, other.score) == (0.3, True, prediction.score)
    assert other.anomaly_map is prediction.anomaly_map and other.mask.all() and not prediction.mask.any()


# ---------------------------------------------------------------- the model is left alone


def test_a_model_in_training_is_asked_in_eval_mode_without_gradient_and_goes_on_training() -> None:
    model = model_of().train()
    model.predict(grey(10))
    assert isinstance(model.network, Brightness)
    assert model.network.modes == [(False, False)] and model.training
    assert model.network.weight.grad is None


def test_a_model_in_training_goes_on_when_the_network_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of().train()

    def fail(_: Tensor) -> STLMOutput:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model.network, "forward", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        model.predict(grey(10))
    assert model.training


def test_a_model_in_eval_mode_is_not_switched_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switching drops the attention biases that the encoders keep, under the hands of another thread."""
    model = model_of()

    def switch(_: bool = True) -> nn.Module:
        raise AssertionError("switched")

    monkeypatch.setattr(model, "train", switch)
    assert model.predict(grey(51)).score == pytest.approx(0.2, abs=1e-6)


def test_a_prediction_leaves_the_weights_alone(tiny_model: STLM) -> None:
    before = {name: tensor.clone() for name, tensor in tiny_model.state_dict().items()}
    tiny_model.predict(texture(64, 64))
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny_model.state_dict().items())
    assert all(parameter.grad is None for parameter in tiny_model.parameters())
    assert not tiny_model.training


def test_a_copy_in_eval_mode_has_the_same_tensors_and_the_model_stays_as_it_is(tiny_model: STLM) -> None:
    assert in_eval_mode(tiny_model) is tiny_model
    model = STLM(tiny_model.config, tiny_model.judging)
    assert model.network is not None
    model.eval().network.plain_encoder.train()  # a part of it is enough
    modes = [module.training for module in model.modules()]
    other = in_eval_mode(model)
    assert other is not model and not any(module.training for module in other.modules())
    assert [module.training for module in model.modules()] == modes
    ours, theirs = dict(model.named_parameters()), dict(other.named_parameters())
    assert ours.keys() == theirs.keys() and all(ours[name] is theirs[name] for name in ours)


def test_threads_that_ask_a_model_in_training_get_its_answer_and_change_nothing(tiny_model: STLM) -> None:
    model = copy.deepcopy(tiny_model)
    images = [texture(64, 64, seed) for seed in range(4)]
    expected = [model.predict(image).score for image in images]
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    with ThreadPoolExecutor(4) as threads:
        found = [prediction.score for prediction in threads.map(model.predict, images * 3)]
    assert found == pytest.approx(expected * 3, abs=1e-6)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(getattr(module, "attention_bias_cache", None) for module in model.modules())
