"""The kinds of maps: what each is made of, that all lie in [0, 1], and how limits of normal photographs combine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn import judging_by, normal, pixels, texture
from torch import Tensor
from torch.nn import functional as F

from stlm_hub.errors import ConfigError
from stlm_hub.models.familiarity import describe
from stlm_hub.models.stlm.anomaly_maps import AnomalyMaps, ScoredMaps
from stlm_hub.models.stlm.judging import Judging
from stlm_hub.models.stlm.network import STLMOutput
from stlm_hub.models.stlm.scales import ANOMALY_MAPS, MAP_LABELS, MapScale, agreed, in_unit, times
from stlm_hub.predict.predictor import infer, predict
from stlm_hub.stlm import STLM

SINGLE = ANOMALY_MAPS[:-1]
Streams = dict[str, Tensor]


def raw_cosine(model: STLM, plain: Streams, denoising: Streams, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """What the model makes of what its streams see."""
    n, _, height, width = next(iter(plain.values())).shape
    output = STLMOutput(torch.zeros(n, 1, height, width), plain, denoising)
    monkeypatch.setattr(model.network, "forward", lambda image: output)
    return model.raw(pixels(n=n), ("cosine",)).values["cosine"]


# ---------------------------------------------------------------- maps that were never calibrated


def test_the_uncalibrated_aggregation_map_is_the_sigmoid_of_the_logits(tiny_model: STLM) -> None:
    logits = 3 * normal(1, 1, 64, 64)
    values, _ = tiny_model.scored("aggregation", {"aggregation": logits}, (64, 64))
    torch.testing.assert_close(values, 1 / (1 + torch.exp(-logits)))
    # probabilities are interpolated, not logits: halfway between p and q is (p + q) / 2
    few = torch.tensor([[[[-4.0, 2.0]]]])
    middle = tiny_model.scored("aggregation", {"aggregation": few}, (1, 3)).values[0, 0, 0, 1]
    assert middle.item() == pytest.approx((torch.sigmoid(torch.tensor([-4.0, 2.0])).mean()).item(), rel=1e-6)
    extreme = tiny_model.scored("aggregation", {"aggregation": 1000 * torch.sign(logits)}, (64, 64))
    assert extreme.values.min() == 0 and 1 - 1e-5 < extreme.values.max() <= 1 and extreme.scores.isfinite().all()


def test_the_uncalibrated_cosine_map_is_the_geometric_mean_over_levels(
    tiny_model: STLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = {"embedding": normal(2, 256, 2, 3), "decoder": normal(2, 256, 2, 3, seed=1)}
    denoising = {
        "embedding": normal(2, 256, 2, 3, seed=2) + plain["embedding"],
        "decoder": normal(2, 256, 2, 3, seed=3),
    }
    product = torch.ones(2, 1, 2, 3)
    for level in plain:
        for n in range(2):
            for y in range(2):
                for x in range(3):
                    a, b = plain[level][n, :, y, x].double(), denoising[level][n, :, y, x].double()
                    product[n, 0, y, x] *= (1 - a @ b / (a.norm() * b.norm())) / 2
    raw = raw_cosine(tiny_model, plain, denoising, monkeypatch)
    torch.testing.assert_close(raw, product.log() / 2, rtol=1e-4, atol=1e-4)
    found = tiny_model.scored("cosine", {"cosine": raw}, (2, 3)).values
    torch.testing.assert_close(found, product.sqrt(), rtol=1e-4, atol=1e-5)


def test_levels_of_the_streams_are_brought_to_the_grid_of_the_logits(
    tiny_model: STLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine, coarse = normal(1, 128, 8, 8), normal(1, 256, 4, 4, seed=1)
    other = {"stage1": normal(1, 128, 8, 8, seed=2), "embedding": normal(1, 256, 4, 4, seed=3)}
    raw = raw_cosine(tiny_model, {"stage1": fine, "embedding": coarse}, other, monkeypatch)
    of_fine = (1 - F.cosine_similarity(fine, other["stage1"])) / 2
    of_coarse = (1 - F.cosine_similarity(coarse, other["embedding"])) / 2
    brought = F.interpolate(of_coarse[None], size=(8, 8), mode="bilinear")[0]
    torch.testing.assert_close(raw[0], (of_fine.log() + brought.log()) / 2, rtol=1e-4, atol=1e-4)


def test_streams_that_agree_give_a_cosine_map_of_0_and_opposite_ones_of_1(
    tiny_model: STLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    feature = {"stage1": normal(1, 128, 8, 8, seed=1), "embedding": normal(1, 256, 4, 4)}
    agree = raw_cosine(tiny_model, feature, {level: 2 * f for level, f in feature.items()}, monkeypatch)
    assert agree.shape == (1, 1, 8, 8) and torch.isfinite(agree).all()
    assert tiny_model.scored("cosine", {"cosine": agree}, (64, 64)).values.max() < 1e-6
    oppose = raw_cosine(tiny_model, feature, {level: -f for level, f in feature.items()}, monkeypatch)
    values = tiny_model.scored("cosine", {"cosine": oppose}, (64, 64)).values
    torch.testing.assert_close(values, torch.ones(1, 1, 64, 64))


def test_the_uncalibrated_memory_map_keeps_the_order_of_distances_below_1(tiny_memory_model: STLM) -> None:
    distances = torch.tensor([[[[0.0, 1.0, 3.0, 1e6]]]])
    values = judging_by(tiny_memory_model, scales=()).scored("memory", {"memory": distances}, (1, 4)).values
    torch.testing.assert_close(values, torch.tensor([[[[0.0, 0.5, 0.75, 1.0]]]]))


# ---------------------------------------------------------------- limits of normal photographs


def test_values_count_in_limits_and_never_crowd_together() -> None:
    limits = torch.tensor([-3.0, 0.0, 1.0, 2.0, 9.0, 99.0])
    torch.testing.assert_close(in_unit(limits), torch.tensor([0.0, 0.0, 1 / 2, 2 / 3, 0.9, 0.99]))
    far = in_unit(torch.tensor([1e3, 2e3, 4e3]))
    assert (far.diff() > 0).all() and far.max() < 1


@pytest.mark.parametrize("gain", [0.25, 1.0, 3.0])
def test_a_gain_multiplies_limits(gain: float) -> None:
    limits = np.array([0.0, 0.5, 1.0, 7.0])
    np.testing.assert_allclose(times(limits / (1 + limits), gain), gain * limits / (1 + gain * limits))


@pytest.mark.parametrize("name", SINGLE)
def test_a_calibrated_map_is_0_at_typical_values_and_one_half_at_the_limit(tiny_memory_model: STLM, name: str) -> None:
    model = judging_by(tiny_memory_model, scales=(MapScale(name, -8.0, -2.0),))
    raw = torch.tensor([[[[-20.0, -8.0, -5.0, -2.0, 4.0]]]])
    values = model.scored(name, {name: raw}, (1, 5)).values.flatten()
    torch.testing.assert_close(values, torch.tensor([0.0, 0.0, 1 / 3, 1 / 2, 2 / 3]))


def test_what_lifts_a_whole_photograph_is_taken_off_but_no_more_than_good_ones_need(
    tiny_memory_model: STLM,
) -> None:
    scale = MapScale("memory", 1.0, 3.0, lift=0.5, median=2.0, lifted=6.0)
    model = judging_by(tiny_memory_model, scales=(scale,), score_top_k=1)
    raw = torch.tensor([1.0, 2.0, 5.0]).view(1, 1, 1, 3)
    batch = torch.cat([raw, raw + 4.0, raw + 94.0, raw - 1.0])  # medians 2, 6, 96 and 1
    scores = model.scored("memory", {"memory": batch}, (1, 3)).scores
    limits = torch.tensor([(5 - 1) / 2, (9 - 2 - 1) / 2, (99 - 2 - 1) / 2, (4 - 1) / 2])
    torch.testing.assert_close(scores, in_unit(limits))


def test_taking_a_lift_off_keeps_the_order_of_values_and_their_ratios(tiny_memory_model: STLM) -> None:
    scale = MapScale("memory", 1.0, 3.0, lift=0.5, median=2.0, lifted=6.0)
    model = judging_by(tiny_memory_model, scales=(scale,), score_top_k=1)
    raw = torch.tensor([0.5, 2.0, 3.0, 6.0, 9.0]).view(1, 1, 1, 5)  # a median of 3 lifts by half a raw unit
    values, peaks = model.limits("memory", raw, (1, 5))
    assert peaks.item() == pytest.approx((9 - 0.5 - 1) / 2)
    torch.testing.assert_close(values, (raw - 1) / 2 * (9 - 0.5 - 1) / (9 - 1))
    flat = torch.full((1, 1, 1, 5), 6.0)
    few = MapScale("memory", 1.0, 3.0, lift=9.0, median=2.0, lifted=6.0)
    gone = judging_by(tiny_memory_model, scales=(few,), score_top_k=1).limits("memory", flat, (1, 5))
    assert gone.scores.item() == 0 and not gone.values.any()  # never less than a typical patch


def test_the_combined_map_is_a_mean_in_which_the_memory_has_two_thirds() -> None:
    limits = {"aggregation": torch.tensor(3.0), "cosine": torch.tensor(1.0), "memory": torch.tensor(5.0)}
    assert agreed(limits).item() == pytest.approx(2 / 3 * 5 + 1 / 3 * 2)
    assert agreed({name: limits[name] for name in ("aggregation", "cosine")}).item() == 2
    assert agreed({name: limits[name] for name in ("cosine", "memory")}).item() == pytest.approx(2 / 3 * 5 + 1 / 3)
    for name, alone in limits.items():
        assert agreed({name: alone}) == alone


def test_maps_on_other_grids_are_brought_to_size_before_they_are_combined(tiny_memory_model: STLM) -> None:
    fine, coarse = 1 + normal(1, 1, 8, 8), 1 + normal(1, 1, 4, 4, seed=1)
    model = judging_by(tiny_memory_model, scales=(MapScale("aggregation", 0.0, 1.0), MapScale("memory", 0.0, 1.0)))
    brought = F.interpolate(coarse, size=(8, 8), mode="bilinear")
    values = model.scored("combined", {"aggregation": coarse, "memory": fine}, (8, 8)).values
    torch.testing.assert_close(values, in_unit(2 / 3 * fine + 1 / 3 * brought))


def test_the_combined_score_is_the_mean_of_what_the_maps_score_wherever_each_is_highest(
    tiny_memory_model: STLM,
) -> None:
    scales = (MapScale("aggregation", 0.0, 1.0), MapScale("memory", 0.0, 1.0))
    model = judging_by(tiny_memory_model, scales=scales, score_top_k=1)
    raw = {"aggregation": torch.zeros(1, 1, 8, 8), "memory": torch.zeros(1, 1, 8, 8)}
    raw["aggregation"][0, 0, 1, 1], raw["memory"][0, 0, 6, 6] = 3.0, 6.0
    values, scores = model.scored("combined", raw, (8, 8))
    assert scores.item() == pytest.approx(5 / 6)  # 2/3 of 6 and 1/3 of 3 are 5 limits
    assert values.max().item() == pytest.approx(4 / 5)  # at no single place is it that high
    alone = {name: model.scored(name, raw, (8, 8)).scores for name in raw}
    odds = {name: score / (1 - score) for name, score in alone.items()}
    torch.testing.assert_close(scores, in_unit(agreed(odds)))


# ---------------------------------------------------------------- the module


def test_every_kind_of_map_has_a_name_for_people_and_no_other_has() -> None:
    assert tuple(MAP_LABELS) == ANOMALY_MAPS


@torch.inference_mode()
def test_there_is_no_other_map(tiny_memory_model: STLM, tiny_model: STLM) -> None:
    with pytest.raises(ConfigError, match="There is no map 'difference'"):
        tiny_memory_model(pixels(), ("difference",))
    for ask in (tiny_model, tiny_model.raw):
        with pytest.raises(ConfigError, match="no memory of normal patches"):
            ask(pixels(), ("memory",))


def test_a_model_that_is_made_to_judge_by_what_it_lacks_is_refused(tiny_model: STLM) -> None:
    combined = Judging("combined", scales=(MapScale("memory", 0.0, 1.0),))
    for judging in (Judging("memory"), combined, Judging(draw_by="memory")):
        with pytest.raises(ConfigError, match="no memory of normal patches"):
            AnomalyMaps(tiny_model.config, judging, tiny_model.network)


def test_available_maps_are_those_that_can_be_had(tiny_model: STLM, tiny_memory_model: STLM) -> None:
    assert tiny_model.available == ("aggregation", "cosine")
    assert tiny_memory_model.available == ANOMALY_MAPS
    assert judging_by(tiny_memory_model, scales=(), judge_by="memory").available == SINGLE
    unmeasured = judging_by(tiny_model, judge_by="combined")
    assert unmeasured.available == ("aggregation", "cosine", "combined")
    with pytest.raises(ConfigError, match=r"has no scales.*stlm calibrate"):
        predict(unmeasured, [texture(64, 64)])


@torch.inference_mode()
def test_forward_hands_out_the_wanted_maps_their_scores_and_the_distances(tiny_memory_model: STLM) -> None:
    image = pixels(n=2)
    found, distances = tiny_memory_model(image, ANOMALY_MAPS)
    assert tuple(found) == ANOMALY_MAPS
    raw = tiny_memory_model.raw(image, SINGLE)
    for name, (values, scores) in found.items():
        assert values.shape == (2, 1, 64, 64) and values.dtype == scores.dtype == torch.float32
        assert values.min() >= 0 and values.max() < 1 and values.std() > 0
        again = tiny_memory_model.scored(name, raw.values, (64, 64))
        torch.testing.assert_close(values, again.values, msg=name)
        torch.testing.assert_close(scores, again.scores, msg=name)
    assert distances.shape == (2, 2)  # by content and by layout
    torch.testing.assert_close(distances, tiny_memory_model.familiarity(raw.description))
    (judged,) = tiny_memory_model(image).maps.items()
    assert judged[0] == "combined" and torch.equal(judged[1].values, found["combined"].values)


@torch.inference_mode()
def test_a_score_is_the_mean_of_the_highest_values_in_limits(tiny_memory_model: STLM) -> None:
    for name, (values, scores) in tiny_memory_model(pixels(n=2), SINGLE).maps.items():
        limits = (values / (1 - values)).flatten(1).sort(descending=True).values[:, :100].mean(1)
        torch.testing.assert_close(scores, in_unit(limits), rtol=1e-4, atol=1e-4, msg=name)


@torch.inference_mode()
def test_familiarity_looks_at_the_memorys_patches_else_at_the_finest_level_of_the_plain_stream(
    tiny_memory_model: STLM, tiny_model: STLM
) -> None:
    image, memory = pixels(n=2), tiny_memory_model.patch_memory
    assert memory is not None
    expected = describe(memory.patches(image))
    torch.testing.assert_close(tiny_memory_model.raw(image, ("memory",)).description, expected)
    assert tiny_model.network is not None
    plain = tiny_model.network(image).plain
    finest = next(iter(plain.values())).permute(0, 2, 3, 1)
    torch.testing.assert_close(tiny_model.raw(image, ("cosine",)).description, describe(finest))
    assert tiny_model(image).distances.shape == (2, 2)


@torch.inference_mode()
def test_a_photographs_own_entries_can_be_left_out_of_any_map_that_asks_the_memory(tiny_memory_model: STLM) -> None:
    image, memory = pixels(n=2), tiny_memory_model.patch_memory
    assert memory is not None
    before = memory.sources.clone()
    memory.sources.copy_(torch.tensor([0, 0, 0, 1, 1, 1]))
    ordinary, found = tiny_memory_model(image, ANOMALY_MAPS).maps, tiny_memory_model(image, ANOMALY_MAPS, [0, 1]).maps
    memory.sources.copy_(before)
    raw = memory.distances(memory.patches(image), [-1, -1])
    assert raw.shape == (2, 1, 8, 8)
    for name in ("memory", "combined"):
        assert (found[name].scores >= ordinary[name].scores - 1e-5).all(), name
        assert not torch.allclose(found[name].values, ordinary[name].values), name
    for name in ("aggregation", "cosine"):
        torch.testing.assert_close(found[name].values, ordinary[name].values)


@torch.inference_mode()
def test_only_what_is_asked_is_computed(tiny_memory_model: STLM, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = tiny_memory_model.patch_memory
    assert memory is not None
    with monkeypatch.context() as patch:
        patch.setattr(memory, "distances", lambda *_: pytest.fail("the memory was asked"))
        tiny_memory_model(pixels(), ("aggregation", "cosine"))
        without = judging_by(tiny_memory_model, scales=(MapScale("cosine", -3.0, -1.0),))
        assert without(pixels()).maps["combined"].values.std() > 0
    monkeypatch.setattr(tiny_memory_model.network, "forward", lambda image: pytest.fail("the streams were asked"))
    assert tiny_memory_model(pixels(), ("memory",)).maps["memory"].values.std() > 0


@torch.inference_mode()
def test_a_memory_alone_is_a_model_too(tiny_memory_model: STLM) -> None:
    config = tiny_memory_model.config.replace(streams=False)
    model = STLM(config, Judging("memory")).eval()
    model.load_state_dict({k: v for k, v in tiny_memory_model.state_dict().items() if not k.startswith("network.")})
    assert model.network is None and model.available == ("memory",)
    image = pixels(n=2)
    found, same = model(image), judging_by(tiny_memory_model, scales=())(image, ("memory",))
    torch.testing.assert_close(found.maps["memory"].values, same.maps["memory"].values)
    torch.testing.assert_close(found.distances, same.distances)
    for ask in (model, model.raw):
        with pytest.raises(ConfigError, match="has no streams, so it has no map 'cosine'; train it with steps"):
            ask(image, ("cosine",))
    with pytest.raises(ConfigError, match="no streams, so it cannot judge by their maps"):
        AnomalyMaps(config, Judging("aggregation"))


def test_a_model_that_combines_predicts_the_map_that_inference_hands_out(tiny_memory_model: STLM) -> None:
    image, model = texture(70, 90, 5), tiny_memory_model
    found = next(infer(model, [image], model.available)).maps
    (prediction,) = predict(model, [image])
    assert prediction.score == found["combined"].score
    assert (prediction.anomaly_map == found["combined"].anomaly_map).all()
    for scale in model.judging.scales:  # it is none of the maps alone
        (alone,) = predict(judging_by(model, scales=(scale,)), [image])
        assert not torch.allclose(torch.from_numpy(alone.anomaly_map), torch.from_numpy(prediction.anomaly_map))


def test_a_peak_is_the_mean_of_the_highest_values_or_of_all_where_there_are_fewer(tiny_model: STLM) -> None:
    values = normal(2, 1, 4, 4)
    model = judging_by(tiny_model, score_top_k=3)
    torch.testing.assert_close(model.score(values), values.flatten(1).sort(descending=True).values[:, :3].mean(1))
    torch.testing.assert_close(tiny_model.score(values), values.mean((1, 2, 3)))
    assert isinstance(tiny_model.scored("aggregation", {"aggregation": values}, (4, 4)), ScoredMaps)
