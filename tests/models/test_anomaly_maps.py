"""The kinds of maps: what each is made of, that all lie in [0, 1], and the scales on which they are combined."""

from __future__ import annotations

import pytest
import torch
from drawn import judging_by, normal, pixels, texture
from torch.nn import functional as F

from stlm_hub.calibration.map_scales import measure_scales
from stlm_hub.errors import ConfigError, DataError
from stlm_hub.models.stlm.anomaly_maps import (
    MAP_LABELS,
    AnomalyMaps,
    aggregation_map,
    combined_map,
    cosine_map,
    memory_map,
)
from stlm_hub.models.stlm.judging import ANOMALY_MAPS, Judging, MapScale
from stlm_hub.models.stlm.network import STLMOutput
from stlm_hub.predict.predictor import infer, predict
from stlm_hub.stlm import STLM


@torch.inference_mode()
def test_maps_are_in_0_to_1_at_the_wanted_size(tiny_memory_model: STLM) -> None:
    image = pixels(64, 128, n=2)
    output = tiny_memory_model.network(image)
    assert tiny_memory_model.patch_memory is not None
    distances = tiny_memory_model.patch_memory(image)
    for made in (
        aggregation_map(output, (50, 90)),
        cosine_map(output, (50, 90)),
        memory_map(distances, (50, 90)),
        combined_map(output, distances, (50, 90), tiny_memory_model.judging.scales),
    ):
        assert made.shape == (2, 1, 50, 90)
        assert made.min() >= 0 and made.max() <= 1 and made.std() > 0
    output.logits = torch.tensor([[[[-1000.0, 1000.0], [0.0, 0.0]]]])
    extreme = aggregation_map(output, (8, 8))
    assert (extreme.min(), extreme.max()) == (0, 1)


def test_the_aggregation_map_is_the_sigmoid_of_the_logits() -> None:
    logits = 3 * normal(1, 1, 4, 4)
    output = STLMOutput(logits, {}, {})
    torch.testing.assert_close(aggregation_map(output, (4, 4)), 1 / (1 + torch.exp(-logits)))
    # probabilities are interpolated, not logits: halfway between p and q is (p + q) / 2
    output = STLMOutput(torch.tensor([[[[-4.0, 2.0]]]]), {}, {})
    middle = aggregation_map(output, (1, 3))[0, 0, 0, 1]
    assert middle.item() == pytest.approx((torch.sigmoid(torch.tensor([-4.0, 2.0])).mean()).item(), rel=1e-6)


def test_the_cosine_map_is_the_geometric_mean_over_levels(tiny_model: STLM, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = {"embedding": normal(2, 256, 2, 3), "decoder": normal(2, 256, 2, 3, seed=1)}
    denoising = {
        "embedding": normal(2, 256, 2, 3, seed=2) + plain["embedding"],
        "decoder": normal(2, 256, 2, 3, seed=3),
    }
    expected = torch.ones(2, 1, 2, 3)
    for level in plain:
        for n in range(2):
            for y in range(2):
                for x in range(3):
                    a, b = plain[level][n, :, y, x].double(), denoising[level][n, :, y, x].double()
                    expected[n, 0, y, x] *= (1 - a @ b / (a.norm() * b.norm())) / 2
    output = STLMOutput(torch.zeros(2, 1, 2, 3), plain, denoising)
    torch.testing.assert_close(cosine_map(output, (2, 3)), expected.sqrt(), rtol=1e-4, atol=1e-6)
    monkeypatch.setattr(tiny_model.network, "forward", lambda image: output)
    raw = tiny_model.raw(pixels(), ("cosine",))["cosine"]
    torch.testing.assert_close(raw, expected.log(), rtol=1e-4, atol=1e-4)
    # each level is brought to size before they are multiplied
    sizes = [
        cosine_map(STLMOutput(output.logits, {level: plain[level]}, {level: denoising[level]}), (32, 48))
        for level in plain
    ]
    torch.testing.assert_close(cosine_map(output, (32, 48)), (sizes[0] * sizes[1]).sqrt())


def test_streams_that_agree_give_a_cosine_map_of_0_and_opposite_ones_of_1() -> None:
    feature = {"embedding": normal(1, 256, 4, 4), "stage1": normal(1, 128, 8, 8, seed=1)}
    agree = STLMOutput(torch.zeros(1, 1, 8, 8), feature, {level: 2 * f for level, f in feature.items()})
    assert cosine_map(agree, (64, 64)).max() < 1e-6 and cosine_map(agree, (64, 64)).min() >= 0
    oppose = STLMOutput(agree.logits, feature, {level: -f for level, f in feature.items()})
    torch.testing.assert_close(cosine_map(oppose, (64, 64)), torch.ones(1, 1, 64, 64))


def test_raw_values_of_streams_that_agree_are_finite(tiny_model: STLM, monkeypatch: pytest.MonkeyPatch) -> None:
    feature = {"embedding": normal(1, 256, 4, 4)}
    output = STLMOutput(torch.zeros(1, 1, 4, 4), feature, feature)
    monkeypatch.setattr(tiny_model.network, "forward", lambda image: output)
    raw = tiny_model.raw(pixels(), ("cosine",))["cosine"]
    assert raw.shape == (1, 1, 4, 4) and torch.isfinite(raw).all()


def test_the_memory_map_keeps_the_order_of_distances_below_1() -> None:
    distances = torch.tensor([[[[0.0, 1.0, 3.0, 1e6]]]])
    torch.testing.assert_close(memory_map(distances, (1, 4)), torch.tensor([[[[0.0, 0.5, 0.75, 1.0]]]]))
    with pytest.raises(ConfigError, match="no memory"):
        memory_map(None, (1, 4))


def test_the_combined_map_is_the_highest_in_peaks_of_normal_photographs() -> None:
    output = STLMOutput(torch.tensor([[[[-8.0, -2.0, 4.0]]]]), {}, {})
    distances = torch.tensor([[[[1.0, 3.5, 3.0]]]])
    scales = [MapScale("aggregation", -8.0, -2.0), MapScale("memory", 1.0, 3.0)]
    peaks = torch.tensor([0.0, 1.25, 2.0])  # of the aggregation 0, 1, 2, of the memory 0, 1.25, 1
    log_odds = combined_map(output, distances, (1, 3), scales).logit().flatten()
    torch.testing.assert_close(log_odds, 2.5 * (peaks - 1.5), rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigError, match="command again"):
        combined_map(output, distances, (1, 3), [])


def test_maps_on_other_grids_are_brought_to_size_before_they_are_compared() -> None:
    fine, coarse = normal(1, 1, 8, 8), normal(1, 1, 4, 4, seed=1)
    scales = [MapScale("aggregation", 0.0, 1.0), MapScale("memory", 0.0, 1.0)]
    brought = F.interpolate(coarse, size=(8, 8), mode="bilinear")
    expected = (2.5 * (torch.maximum(fine, brought) - 1.5)).sigmoid()
    torch.testing.assert_close(combined_map(STLMOutput(coarse, {}, {}), fine, (8, 8), scales), expected)


# ---------------------------------------------------------------- the module


def test_every_kind_of_map_has_a_name_for_people_and_no_other_has() -> None:
    assert tuple(MAP_LABELS) == ANOMALY_MAPS


@torch.inference_mode()
def test_there_is_no_other_map(tiny_memory_model: STLM, tiny_model: STLM) -> None:
    for ask in (tiny_memory_model, tiny_memory_model.raw):
        with pytest.raises(ConfigError, match="There is no map 'difference'"):
            ask(pixels(), ("difference",))
    for ask in (tiny_model, tiny_model.raw):
        with pytest.raises(ConfigError, match="no memory of normal patches"):
            ask(pixels(), ("memory",))


def test_a_model_that_is_made_to_judge_by_what_it_lacks_is_refused(tiny_model: STLM) -> None:
    for judging in (Judging("memory"), Judging("combined", (MapScale("memory", 0.0, 1.0),))):
        with pytest.raises(ConfigError, match="no memory of normal patches"):
            AnomalyMaps(tiny_model.config, judging, tiny_model.network)


def test_available_maps_are_those_that_can_be_had(tiny_model: STLM, tiny_memory_model: STLM) -> None:
    assert tiny_model.available == ("aggregation", "cosine")
    assert tiny_memory_model.available == ANOMALY_MAPS
    assert judging_by(tiny_memory_model, scales=(), anomaly_map="memory").available == ANOMALY_MAPS[:3]
    unmeasured = judging_by(tiny_model, anomaly_map="combined")
    assert unmeasured.available == ("aggregation", "cosine", "combined")
    with pytest.raises(ConfigError, match=r"has no scales.*stlm calibrate"):
        predict(unmeasured, [texture(64, 64)])


@torch.inference_mode()
def test_forward_hands_out_the_wanted_maps_and_their_scores(tiny_memory_model: STLM) -> None:
    image = pixels(n=2)
    found = tiny_memory_model(image, ANOMALY_MAPS)
    assert tuple(found) == ANOMALY_MAPS
    for name, (values, scores) in found.items():
        assert values.shape == (2, 1, 64, 64) and values.dtype == scores.dtype == torch.float32
        torch.testing.assert_close(scores, values.flatten(1).sort(descending=True).values[:, :100].mean(1), msg=name)
    (judged,) = tiny_memory_model(image).items()
    assert judged[0] == "combined" and torch.equal(judged[1].values, found["combined"].values)
    output, distances = tiny_memory_model.network(image), tiny_memory_model.raw(image, ("memory",))["memory"]
    torch.testing.assert_close(found["aggregation"].values, aggregation_map(output, (64, 64)))
    torch.testing.assert_close(found["cosine"].values, cosine_map(output, (64, 64)))
    torch.testing.assert_close(found["memory"].values, memory_map(distances, (64, 64)))


@torch.inference_mode()
def test_the_memory_looks_only_where_it_is_asked(tiny_memory_model: STLM, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = tiny_memory_model.patch_memory
    assert memory is not None
    monkeypatch.setattr(memory, "forward", lambda image: pytest.fail("it was asked"))
    tiny_memory_model(pixels(), ("aggregation", "cosine"))
    without = judging_by(tiny_memory_model, scales=(MapScale("cosine", -3.0, -1.0),))
    assert without(pixels())["combined"].values.std() > 0


def test_a_model_that_combines_predicts_the_map_that_inference_hands_out(tiny_memory_model: STLM) -> None:
    image, model = texture(70, 90, 5), tiny_memory_model
    found = next(infer(model, [image], model.available))
    (prediction,) = predict(model, [image])
    assert prediction.score == found["combined"].score
    assert (prediction.anomaly_map == found["combined"].anomaly_map).all()
    for scale in model.judging.scales:  # it is none of the maps alone
        (alone,) = predict(judging_by(model, scales=(scale,)), [image])
        assert not torch.allclose(torch.from_numpy(alone.anomaly_map), torch.from_numpy(prediction.anomaly_map))


# ---------------------------------------------------------------- scales


@torch.inference_mode()
def test_scales_are_those_of_all_photographs_whatever_their_batches(tiny_memory_model: STLM) -> None:
    images = [texture(64, 64, seed) for seed in range(3)]
    scales = {scale.anomaly_map: scale for scale in measure_scales(tiny_memory_model, images)}
    assert list(scales) == ["aggregation", "cosine", "memory"]
    for name, scale in scales.items():
        inputs = [torch.from_numpy(image).permute(2, 0, 1)[None].float() for image in images]
        raw = torch.cat([tiny_memory_model.raw(image, (name,))[name] for image in inputs])
        assert scale.typical == pytest.approx(raw.mean().item(), rel=1e-3)
        assert scale.peak == pytest.approx(raw.amax((1, 2, 3)).mean().item(), rel=1e-3)
    with pytest.raises(DataError, match="photographs of parts"):
        measure_scales(tiny_memory_model, [])


def test_a_model_without_a_memory_has_two_scales(tiny_model: STLM) -> None:
    assert [s.anomaly_map for s in measure_scales(tiny_model, [texture(64, 64)])] == ["aggregation", "cosine"]


def test_maps_that_do_not_vary_have_no_scale(tiny_memory_model: STLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_memory_model.patch_memory, "forward", lambda image: torch.ones(1, 1, 8, 8))
    with pytest.raises(DataError, match="do not vary"):
        measure_scales(tiny_memory_model, [texture(70, 90)])
