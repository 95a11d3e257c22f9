"""A model that computes less says the same."""

from __future__ import annotations

import pytest
import torch
from drawn import normal, pixels
from timm.models.tiny_vit import TinyVitBlock

from stlm_hub.export.coarse import CoarseNetwork, PooledASPP, lighten_network
from stlm_hub.export.lighter import ProductMemory, lighter
from stlm_hub.export.windows import WindowedBlock, windows
from stlm_hub.models.stlm.config import NetworkConfig
from stlm_hub.models.stlm.network import STLMNetwork
from stlm_hub.stlm import STLM


def drawn_weights(module: torch.nn.Module) -> None:
    """Weights and statistics that no symmetry hides behind."""
    torch.manual_seed(0)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.1 if tensor.dim() < 2 else torch.randn_like(tensor) / 4)


@pytest.mark.parametrize(
    ("height", "width", "window"), [(14, 14, 7), (16, 16, 7), (32, 32, 14), (7, 7, 7), (4, 4, 14), (8, 20, 7)]
)
@torch.no_grad()
def test_a_block_without_padding_sees_what_timms_sees(height: int, width: int, window: int) -> None:
    block = TinyVitBlock(32, 2, window).eval()
    drawn_weights(block)
    x = normal(2, height, width, 32)
    expected = block(x)
    block.__class__ = WindowedBlock
    assert isinstance(block, WindowedBlock)
    block.prepare(height, width)
    torch.testing.assert_close(block(x), expected, atol=2e-5, rtol=1e-4)


def test_windows_hold_each_position_once() -> None:
    shapes, order = windows(32, 32, 14)
    assert sorted(order) == list(range(32 * 32))
    assert [(shape.number, shape.height, shape.width) for shape in shapes] == [
        (4, 14, 14),
        (2, 14, 4),
        (2, 4, 14),
        (1, 4, 4),
    ]


@pytest.mark.parametrize("levels", [("stage1", "stage2", "embedding", "decoder"), ("embedding", "decoder")])
@torch.no_grad()
def test_an_aggregation_on_the_coarse_grid_sees_what_the_networks_sees(levels: tuple[str, ...]) -> None:
    config = NetworkConfig(input_size=(128, 192), feature_levels=levels)
    network = STLMNetwork(config).eval()
    drawn_weights(network.aggregation)
    sizes = {"stage1": (128, 16, 24), "stage2": (160, 8, 12), "embedding": (256, 8, 12), "decoder": (256, 8, 12)}
    plain, denoising = ({level: normal(2, *sizes[level], seed=seed) for level in levels} for seed in (0, 1))
    expected = network.aggregate(plain, denoising)
    lighten_network(network)
    assert isinstance(network, CoarseNetwork) == ("stage1" in levels)
    assert isinstance(network.aggregation.head[0], PooledASPP)
    torch.testing.assert_close(network.aggregate(plain, denoising), expected, atol=1e-2, rtol=1e-3)


@torch.no_grad()
def test_a_lighter_model_says_the_same_and_leaves_the_model_alone(tiny_memory_model: STLM) -> None:
    image = pixels(n=2)
    expected = tiny_memory_model(image, ("combined", "memory", "cosine"))
    other = lighter(tiny_memory_model)
    changed = (WindowedBlock, ProductMemory, PooledASPP)
    assert all(any(isinstance(module, kind) for module in other.modules()) for kind in changed)
    assert not any(isinstance(module, changed) for module in tiny_memory_model.modules())
    found = other(image, ("combined", "memory", "cosine"))
    for name, maps in expected.maps.items():
        torch.testing.assert_close(found.maps[name].values, maps.values, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found.maps[name].scores, maps.scores, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.distances, expected.distances, atol=1e-4, rtol=1e-4)
