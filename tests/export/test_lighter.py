"""A model that computes less says the same."""

from __future__ import annotations

import pytest
import torch
from drawn import normal, pixels
from timm.models.tiny_vit import TinyVitBlock

from stlm_hub.export.lighter import ProductMemory, UnpaddedBlock, lighter
from stlm_hub.stlm import STLM


@pytest.mark.parametrize(("side", "window"), [(14, 7), (16, 7), (32, 14), (7, 7), (4, 14)])
@torch.no_grad()
def test_a_block_without_padding_sees_what_timms_sees(side: int, window: int) -> None:
    torch.manual_seed(0)
    block = TinyVitBlock(32, 2, window).eval()
    for tensor in block.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.1 if tensor.dim() < 2 else torch.randn_like(tensor) / 4)
    x = normal(2, side, side, 32)
    expected = block(x)
    block.__class__ = UnpaddedBlock
    torch.testing.assert_close(block(x), expected, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_a_lighter_model_says_the_same_and_leaves_the_model_alone(tiny_memory_model: STLM) -> None:
    image = pixels(n=2)
    expected = tiny_memory_model(image, ("combined", "memory"))
    other = lighter(tiny_memory_model)
    assert isinstance(other.patch_memory, ProductMemory)
    assert any(isinstance(module, UnpaddedBlock) for module in other.modules())
    assert not any(isinstance(module, (UnpaddedBlock, ProductMemory)) for module in tiny_memory_model.modules())
    found = other(image, ("combined", "memory"))
    for name, maps in expected.maps.items():
        torch.testing.assert_close(found.maps[name].values, maps.values, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found.maps[name].scores, maps.scores, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.distances, expected.distances, atol=1e-4, rtol=1e-4)
