"""The aggregation module: the paper's size, and what its parts see."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stlm_hub.models.stlm.aggregation import ASPP, FeatureAggregation, ResidualBlock


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def aggregation() -> FeatureAggregation:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return FeatureAggregation(24, 8).eval()


def influence(module: torch.nn.Module, channels: int, size: int = 21) -> Tensor:
    """Where an input has to change for the middle of the output to change: size x size bool."""
    x = random(1, channels, size, size).requires_grad_()
    module(x)[0, :, size // 2, size // 2].sum().backward()
    assert x.grad is not None
    return x.grad[0].abs().sum(0) > 0


def test_it_has_1_87_million_parameters_at_the_papers_width() -> None:
    assert sum(parameter.numel() for parameter in FeatureAggregation(512, 128).parameters()) == 1_870_465


@pytest.mark.parametrize("shape", [(1, 24, 4, 4), (3, 24, 5, 9)])
def test_one_logit_map_on_the_grid_of_the_input(aggregation: FeatureAggregation, shape: tuple[int, ...]) -> None:
    logits = aggregation(random(*shape))
    assert logits.shape == (shape[0], 1, *shape[2:])
    assert torch.isfinite(logits).all() and logits.std() > 0


def test_logits_take_both_signs(aggregation: FeatureAggregation) -> None:
    """The last convolution ends the module: nothing clips its logits at 0."""
    last = aggregation.head[-1]
    assert isinstance(last, torch.nn.Conv2d)
    with torch.no_grad():
        for sign in (-1.0, 1.0):
            last.weight.fill_(sign)
            last.bias.zero_()  # type: ignore[union-attr]
            assert (sign * aggregation(random(1, 24, 4, 4))).sum() > 0


def test_image_pooling_sees_the_whole_image(aggregation: FeatureAggregation) -> None:
    x = random(1, 24, 40, 40)
    far = x.clone()
    far[..., 39, 39] += 100
    assert not torch.allclose(aggregation(far)[..., 0, 0], aggregation(x)[..., 0, 0], rtol=0, atol=1e-6)


def test_the_branches_of_the_aspp_see_a_point_a_dilated_3x3_and_everything() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        aspp = ASPP(32).eval()
    point = influence(aspp.point, 32)
    assert point.sum() == 1 and point[10, 10]
    expected = torch.zeros(21, 21, dtype=torch.bool)
    expected[7:14:3, 7:14:3] = True
    assert torch.equal(influence(aspp.atrous, 32), expected)
    assert influence(aspp.fuse, 96).sum() == 9
    assert influence(aspp, 32).all()


def test_photographs_of_a_batch_do_not_see_each_other(aggregation: FeatureAggregation) -> None:
    x = random(3, 24, 6, 6)
    torch.testing.assert_close(aggregation(x)[1:2], aggregation(x[1:2]), rtol=0, atol=1e-5)


def test_a_residual_block_adds_its_input() -> None:
    block = ResidualBlock(8, 8).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = random(2, 8, 5, 5)
    torch.testing.assert_close(block(x), x.relu())
    assert ResidualBlock(24, 8)(random(2, 24, 5, 5)).shape == (2, 8, 5, 5)


def test_each_dilation_is_a_branch() -> None:
    """Fig. 6: the full module has 256 channels and dilations 6, 12, 18; the light one keeps its weights' names."""
    light, full = FeatureAggregation(24, 8), FeatureAggregation(24, 8, (6, 12, 18))
    names = set(light.state_dict())
    assert names < set(full.state_dict())
    branches = [m.dilation for m in full.modules() if isinstance(m, torch.nn.Conv2d) and m.dilation != (1, 1)]
    assert branches == [(6, 6), (12, 12), (18, 18)]
    assert full.eval()(torch.randn(1, 24, 20, 20)).shape == (1, 1, 20, 20)
