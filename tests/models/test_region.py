"""The part of a frame that counts, and how large a region must be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from stlm_hub.models.familiarity import describe
from stlm_hub.models.stlm.anomaly_maps import AnomalyMaps
from stlm_hub.models.stlm.area import reached
from stlm_hub.models.stlm.config import NetworkConfig, PatchMemoryConfig, STLMConfig
from stlm_hub.models.stlm.judging import Judging
from stlm_hub.models.stlm.scales import MapScale, in_unit
from stlm_hub.predict.prediction import Prediction, without_specks
from stlm_hub.runtime.detector import bounded_scores


def model_of(**judging: Any) -> AnomalyMaps:
    config = STLMConfig(NetworkConfig((64, 64)), PatchMemoryConfig(4, 4), streams=False, region=True)
    model = AnomalyMaps(config, Judging("memory", score_top_k=1, **judging)).eval()
    assert model.region is not None
    model.region.inside[:, 32:] = 0  # look at the left half
    return model


def test_values_outside_the_region_neither_score_nor_show() -> None:
    model = model_of()
    raw = torch.zeros(1, 1, 64, 64)
    raw[..., 10, 50] = 9.0  # outside
    raw[..., 20, 5] = 3.0
    found = model.scored("memory", {"memory": raw}, (64, 64))
    assert found.scores.item() == pytest.approx(3 / 4)
    assert found.values[..., 32:].max() == 0 and found.values[..., 20, 5].item() == pytest.approx(3 / 4)


def test_a_region_of_fewer_values_than_a_score_takes_is_scored_by_those() -> None:
    model = model_of(scales=(MapScale("memory", 0.0, 1.0),)).eval()
    model.judging = model.judging.replace(score_top_k=64 * 64)
    raw = torch.full((2, 1, 64, 64), -500.0)  # outside
    raw[0, :, :, :32], raw[1, :, :, :32] = 3.0, 1.0
    scores = model.scored("memory", {"memory": raw}, (64, 64)).scores
    assert scores.tolist() == pytest.approx([3 / 4, 1 / 2])


def test_the_median_is_of_what_counts() -> None:
    model = model_of()
    raw = torch.zeros(1, 1, 8, 8)
    raw[..., :4] = torch.arange(32.0).view(8, 4)  # the left half of the frame
    raw[..., 4:] = 1e6
    assert model.median(raw).tolist() == [16.0]
    model.region = None
    assert model.median(torch.arange(64.0).view(1, 1, 8, 8)).tolist() == [32.0]


def test_familiarity_looks_at_the_region_alone() -> None:
    model = model_of()
    assert model.region is not None
    weight = model.region.on_grid((8, 8))
    assert weight[:, :4].eq(1).all() and weight[:, 4:].eq(0).all()
    patches = torch.rand(1, 8, 8, 5)
    other = patches.clone()
    other[:, :, 4:] += 100  # something else beside the part
    for one, same in zip(describe(patches, weight), describe(other, weight), strict=True):
        assert torch.allclose(one, same, atol=1e-5)
    whole = describe(patches, torch.ones(8, 8))
    assert torch.allclose(whole.content[:, :5], describe(patches).content[:, :5], atol=1e-6)
    assert torch.allclose(whole.layout, describe(patches).layout, atol=1e-6)


def test_a_speck_does_not_score_where_a_minimum_area_is_set_but_a_thin_crack_does() -> None:
    values = np.zeros((64, 64), np.float32)
    values[10:12, 10:12] = 8.0  # 4 pixels
    values[30, 5:25] = 2.0  # 20 pixels
    assert reached(values, 20) == pytest.approx(2.0, abs=0.01)
    assert reached(values, 4) == pytest.approx(8.0, abs=0.01)
    assert reached(values, 21) == pytest.approx(0.0, abs=0.01)
    raw = {"memory": torch.from_numpy(values)[None, None]}
    assert model_of().scored("memory", raw, (64, 64)).scores.item() == pytest.approx(8 / 9)
    assert model_of(minimum_area=20).scored("memory", raw, (64, 64)).scores.item() == pytest.approx(2 / 3, abs=0.01)


def test_a_runtime_bounds_scores_of_a_small_region_as_the_model_does() -> None:
    model = model_of(scales=(MapScale("memory", 0.0, 1.0),), minimum_area=20)
    model.judging = model.judging.replace(score_top_k=64 * 64)  # more than the region has
    generator = torch.Generator().manual_seed(0)
    limits = torch.rand(3, 1, 64, 64, generator=generator) * torch.tensor([1.0, 5.0, 0.1])[:, None, None, None] - 0.3
    found = bounded_scores(model.judging, model.counted(limits).numpy())
    assert found[:, 0] == pytest.approx(in_unit(model.score(limits)).numpy(), abs=1e-6)
    assert 0 < found[0, 0] < found[1, 0]
    nothing = np.full((1, 1, 64, 64), -np.inf, np.float32)
    assert bounded_scores(model.judging, nothing).tolist() == [[0.0]]
    assert np.isnan(bounded_scores(model.judging, np.full_like(nothing, np.nan))).all()  # refused where it is judged


def test_the_outline_drops_what_is_smaller() -> None:
    mask = np.zeros((20, 20), bool)
    mask[2:4, 2:4] = True
    mask[10, 3:15] = True
    assert without_specks(mask, 5).sum() == 12 and without_specks(mask, 0).sum() == 16
    found = Prediction(np.zeros((20, 20, 3), np.uint8), mask.astype(np.float32), 0.9, 0.5, minimum_area=5)
    assert found.mask.sum() == 12 and found.with_threshold(0.4).mask.sum() == 12
