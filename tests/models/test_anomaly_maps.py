"""The kinds of maps: what each is made of, that all lie in [0, 1], and the scales on which they are combined."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stlm_hub.calibration.map_scales import measure_scales
from stlm_hub.errors import ConfigError, DataError
from stlm_hub.models.stlm.anomaly_maps import (
    KINDS,
    aggregation_map,
    available_maps,
    combined_map,
    compute_map,
    cosine_map,
    memory_map,
    raw_map,
)
from stlm_hub.models.stlm.config import ANOMALY_MAPS, MapScale, STLMConfig
from stlm_hub.models.stlm.network import STLMNetwork, STLMOutput
from stlm_hub.predict.predictor import forward, infer, predict

FIELDS: dict[str, Any] = {
    "image_size": 64,
    "feature_levels": ("stage1", "stage2"),
    "aggregation_channels": 8,
    "memory_entries": 6,
    "memory_channels": 16,
}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def photograph(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (70, 90, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def network() -> STLMNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = STLMNetwork(STLMConfig(**FIELDS)).eval()
        assert made.memory is not None
        made.memory.components.copy_(random(288, 16) / 17)
        made.memory.entries.copy_(random(6, 16, seed=1))
    return made


@torch.inference_mode()
def test_maps_are_in_0_to_1_at_the_wanted_size(network: STLMNetwork) -> None:
    output = network(128 + 50 * random(2, 3, 64, 128))
    for make in (aggregation_map, cosine_map, memory_map):
        anomaly_map = make(output, (50, 90))
        assert anomaly_map.shape == (2, 1, 50, 90)
        assert anomaly_map.min() >= 0 and anomaly_map.max() <= 1 and anomaly_map.std() > 0
    output.logits = torch.tensor([[[[-1000.0, 1000.0], [0.0, 0.0]]]])
    extreme = aggregation_map(output, (8, 8))
    assert (extreme.min(), extreme.max()) == (0, 1)


def test_the_aggregation_map_is_the_sigmoid_of_the_logits() -> None:
    logits = 3 * random(1, 1, 4, 4)
    output = STLMOutput(logits, {}, {})
    torch.testing.assert_close(aggregation_map(output, (4, 4)), 1 / (1 + torch.exp(-logits)))
    # probabilities are interpolated, not logits: halfway between p and q is (p + q) / 2
    output = STLMOutput(torch.tensor([[[[-4.0, 2.0]]]]), {}, {})
    middle = aggregation_map(output, (1, 3))[0, 0, 0, 1]
    assert middle.item() == pytest.approx((torch.sigmoid(torch.tensor([-4.0, 2.0])).mean()).item(), rel=1e-6)


def test_the_cosine_map_is_the_geometric_mean_over_levels() -> None:
    plain = {"embedding": random(2, 256, 2, 3), "decoder": random(2, 256, 2, 3, seed=1)}
    denoising = {
        "embedding": random(2, 256, 2, 3, seed=2) + plain["embedding"],
        "decoder": random(2, 256, 2, 3, seed=3),
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
    torch.testing.assert_close(raw_map(output, "cosine"), expected.log(), rtol=1e-4, atol=1e-4)
    # each level is brought to size before they are multiplied
    sizes = [
        cosine_map(STLMOutput(output.logits, {level: plain[level]}, {level: denoising[level]}), (32, 48))
        for level in plain
    ]
    torch.testing.assert_close(cosine_map(output, (32, 48)), (sizes[0] * sizes[1]).sqrt())


def test_streams_that_agree_give_a_cosine_map_of_0_and_opposite_ones_of_1() -> None:
    feature = {"embedding": random(1, 256, 4, 4), "stage1": random(1, 128, 8, 8, seed=1)}
    agree = STLMOutput(torch.zeros(1, 1, 8, 8), feature, {level: 2 * f for level, f in feature.items()})
    assert cosine_map(agree, (64, 64)).max() < 1e-6 and cosine_map(agree, (64, 64)).min() >= 0
    oppose = STLMOutput(agree.logits, feature, {level: -f for level, f in feature.items()})
    torch.testing.assert_close(cosine_map(oppose, (64, 64)), torch.ones(1, 1, 64, 64))


def test_the_memory_map_keeps_the_order_of_distances_below_1() -> None:
    distances = torch.tensor([[[[0.0, 1.0, 3.0, 1e6]]]])
    output = STLMOutput(torch.zeros(1, 1, 1, 4), {}, {}, distances)
    torch.testing.assert_close(memory_map(output, (1, 4)), torch.tensor([[[[0.0, 0.5, 0.75, 1.0]]]]))
    with pytest.raises(ConfigError, match="no memory"):
        memory_map(STLMOutput(output.logits, {}, {}), (1, 4))


def test_the_combined_map_is_the_highest_in_peaks_of_normal_photographs() -> None:
    output = STLMOutput(torch.tensor([[[[-8.0, -2.0, 4.0]]]]), {}, {}, torch.tensor([[[[1.0, 3.5, 3.0]]]]))
    scales = [MapScale("aggregation", -8.0, -2.0), MapScale("memory", 1.0, 3.0)]
    peaks = torch.tensor([0.0, 1.25, 2.0])  # of the aggregation 0, 1, 2, of the memory 0, 1.25, 1
    log_odds = combined_map(output, (1, 3), scales).logit().flatten()
    torch.testing.assert_close(log_odds, 2.5 * (peaks - 1.5), rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigError, match="command again"):
        combined_map(output, (1, 3), [])


def test_maps_on_other_grids_are_brought_to_size_before_they_are_compared() -> None:
    fine, coarse = random(1, 1, 8, 8), random(1, 1, 4, 4, seed=1)
    output = STLMOutput(coarse, {}, {}, fine)
    scales = [MapScale("aggregation", 0.0, 1.0), MapScale("memory", 0.0, 1.0)]
    brought = F.interpolate(coarse, size=(8, 8), mode="bilinear")
    expected = (2.5 * (torch.maximum(fine, brought) - 1.5)).sigmoid()
    torch.testing.assert_close(combined_map(output, (8, 8), scales), expected)


def test_raw_values_of_streams_that_agree_are_finite() -> None:
    feature = {"embedding": random(1, 256, 4, 4)}
    raw = raw_map(STLMOutput(torch.zeros(1, 1, 4, 4), feature, feature), "cosine")
    assert raw.shape == (1, 1, 4, 4) and torch.isfinite(raw).all()


@torch.inference_mode()
def test_scales_are_those_of_all_photographs_whatever_their_batches(network: STLMNetwork) -> None:
    images = [photograph(seed) for seed in range(3)]
    scales = {scale.anomaly_map: scale for scale in measure_scales(network, images)}
    assert list(scales) == ["aggregation", "cosine", "memory"]
    for name, scale in scales.items():
        raw = torch.cat([raw_map(output, name) for image in images for _, output in forward(network, [image])])
        assert scale.typical == pytest.approx(raw.mean().item(), rel=1e-3)
        assert scale.peak == pytest.approx(raw.amax((1, 2, 3)).mean().item(), rel=1e-3)
    with pytest.raises(DataError, match="photographs of parts"):
        measure_scales(network, [])


def test_maps_that_do_not_vary_have_no_scale(network: STLMNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network.memory, "forward", lambda levels: torch.ones(1, 1, 8, 8))
    with pytest.raises(DataError, match="do not vary"):
        measure_scales(network, [photograph(0)])


def test_the_config_knows_every_kind_of_map_and_no_other() -> None:
    assert tuple(KINDS) == ANOMALY_MAPS
    with pytest.raises(ConfigError, match="There is no map 'difference'"):
        compute_map("difference", STLMOutput(torch.zeros(1, 1, 2, 2), {}, {}), STLMConfig())


def test_a_model_that_combines_predicts_the_map_that_inference_hands_out(network: STLMNetwork) -> None:
    image = photograph(5)
    before = network.config
    assert available_maps(before) == ("aggregation", "cosine", "memory")
    assert available_maps(STLMConfig()) == ("aggregation", "cosine")
    try:
        network.config = before.replace(anomaly_map="combined")
        assert available_maps(network.config)[-1] == "combined"
        with pytest.raises(ConfigError, match="names no combined_maps"):
            predict(network, image)
        network.config = network.config.replace(combined_maps=measure_scales(network, [photograph(0), photograph(1)]))
        which = available_maps(network.config)
        assert which == ("aggregation", "cosine", "memory", "combined")
        found = next(infer(network, [image], which))
        prediction = predict(network, image)
        assert prediction.score == found["combined"].score
        np.testing.assert_array_equal(prediction.anomaly_map, found["combined"].anomaly_map)
        with torch.inference_mode():
            output = next(forward(network, [image]))[1]
            own = compute_map("combined", output, network.config)
            alone = [combined_map(output, (64, 64), [scale]) for scale in network.config.combined_maps]
        assert own.shape == (1, 1, 64, 64)
        assert all(not torch.allclose(own, one) for one in alone)
    finally:
        network.config = before
