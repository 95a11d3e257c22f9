"""The network: its size, its shapes and who gets a gradient."""

from __future__ import annotations

import copy
import dataclasses
from itertools import combinations
from typing import Any

import pytest
import torch
from drawn import normal, pixels
from torch import Tensor
from torch.nn import functional as F

from stlm_hub.models.stlm.aggregation import FeatureAggregation
from stlm_hub.models.stlm.config import LEVEL_CHANNELS, NetworkConfig
from stlm_hub.models.stlm.network import STLMNetwork
from stlm_hub.training.losses import focal, l1

LEVELS = list(LEVEL_CHANNELS)
PAPER = ("embedding", "decoder")
AGGREGATIONS: dict[tuple[str, ...], FeatureAggregation] = {}


@pytest.fixture(scope="module")
def network() -> STLMNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = STLMNetwork(NetworkConfig()).eval()
    AGGREGATIONS[PAPER] = made.aggregation
    return made


@pytest.fixture(autouse=True)
def unchanged(network: STLMNetwork) -> None:
    """Each test starts with the same network, whatever the one before chose."""
    choose(network, PAPER)


def choose(network: STLMNetwork, levels: tuple[str, ...]) -> STLMNetwork:
    """The same streams with other levels; the aggregation is narrow where they are not the paper's."""
    network.config = NetworkConfig(feature_levels=levels, aggregation_channels=128 if levels == PAPER else 8)
    if levels not in AGGREGATIONS:
        AGGREGATIONS[levels] = FeatureAggregation(network.config.aggregation_in_channels, 8).eval()
    network.aggregation = AGGREGATIONS[levels]
    return network


@pytest.fixture
def no_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that are made have an aggregation and nothing else: the streams take long to initialise."""
    for name in ("ImageEncoder", "MaskDecoder"):
        monkeypatch.setattr(f"stlm_hub.models.stlm.network.{name}", torch.nn.Module)


def test_it_has_16_65_million_parameters(network: STLMNetwork) -> None:
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(16.65e6, abs=5e3)
    for encoder in (network.plain_encoder, network.denoising_encoder):
        assert sum(parameter.numel() for parameter in encoder.parameters()) == pytest.approx(5.744e6, abs=1e3)


@pytest.mark.usefixtures("no_streams")
def test_the_config_says_how_wide_the_aggregation_is() -> None:
    """Fig. 6: 256 channels and dilations 6, 12, 18."""
    full = STLMNetwork(NetworkConfig(aggregation_channels=256, aggregation_dilations=(6, 12, 18))).aggregation
    dilated = [m for m in full.modules() if isinstance(m, torch.nn.Conv2d) and m.dilation != (1, 1)]
    assert [(m.dilation, m.out_channels) for m in dilated] == [((d, d), 256) for d in (6, 12, 18)]


def test_the_streams_share_the_decoder_and_no_other_weight(network: STLMNetwork) -> None:
    assert not {id(p) for p in network.plain_encoder.parameters()} & {
        id(p) for p in network.denoising_encoder.parameters()
    }
    assert {name.split(".")[0] for name, _ in network.named_children()} == {
        "plain_encoder",
        "denoising_encoder",
        "decoder",
        "aggregation",
    }


@pytest.mark.parametrize("size", [(64, 64), (64, 192), (128, 64), (192, 128)])
@torch.inference_mode()
def test_any_multiple_of_64_goes_in(network: STLMNetwork, size: tuple[int, int]) -> None:
    grid = (size[0] // 16, size[1] // 16)
    output = network(pixels(*size, n=2))
    assert output.logits.shape == (2, 1, *grid)
    for stream in (output.plain, output.denoising):
        assert {level: tuple(feature.shape) for level, feature in stream.items()} == {
            "embedding": (2, 256, *grid),
            "decoder": (2, 256, *grid),
        }


@pytest.mark.parametrize("levels", [choice for n in range(1, 5) for choice in combinations(LEVELS, n)])
@torch.inference_mode()
def test_shapes_of_every_choice_of_levels(network: STLMNetwork, levels: tuple[str, ...]) -> None:
    levels = levels[::-1]  # the order of the config is kept, not that of the network
    output = choose(network, levels)(pixels(64, 128))
    assert tuple(output.plain) == tuple(output.denoising) == levels
    for level in levels:
        cell = 8 if level == "stage1" else 16
        shape = (1, LEVEL_CHANNELS[level], 64 // cell, 128 // cell)
        assert output.plain[level].shape == output.denoising[level].shape == shape
        assert not torch.equal(output.plain[level], output.denoising[level])  # two encoders
    finest = 8 if "stage1" in levels else 16
    assert output.logits.shape == (1, 1, 64 // finest, 128 // finest)


class Catch(torch.nn.Module):
    """In the place of the aggregation module: remembers what goes in."""

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        return x[:, :1]


def test_channels_of_a_product_add_up_to_the_cosine_similarity(
    network: STLMNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    catch = Catch()
    monkeypatch.setitem(network._modules, "aggregation", catch)
    plain = {"embedding": normal(2, 256, 4, 6), "decoder": 5 * normal(2, 256, 4, 6, seed=1)}
    denoising = {"embedding": 3 * normal(2, 256, 4, 6, seed=2), "decoder": normal(2, 256, 4, 6, seed=3)}
    denoising["decoder"] += plain["decoder"] / 5
    network.aggregate(plain, denoising)
    assert catch.x.shape == (2, 512, 4, 6)
    for product, level in zip(catch.x.split(256, dim=1), plain, strict=True):
        similarity = F.cosine_similarity(plain[level], denoising[level], dim=1)
        torch.testing.assert_close(product.sum(1), similarity, rtol=0, atol=1e-6)
    # element by element, not only in sum
    a, b = plain["decoder"][0, :, 1, 2], denoising["decoder"][0, :, 1, 2]
    torch.testing.assert_close(catch.x[0, 256:, 1, 2], a / a.norm() * b / b.norm())


def test_levels_meet_on_the_finest_grid(network: STLMNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    catch = Catch()
    monkeypatch.setitem(network._modules, "aggregation", catch)
    plain = {"embedding": normal(1, 256, 2, 3), "stage1": normal(1, 128, 4, 6, seed=1)}
    denoising = {"embedding": normal(1, 256, 2, 3, seed=2), "stage1": normal(1, 128, 4, 6, seed=3)}
    network.aggregate(plain, denoising)
    coarse, fine = catch.x.split([256, 128], dim=1)
    product = F.normalize(plain["embedding"], dim=1) * F.normalize(denoising["embedding"], dim=1)
    torch.testing.assert_close(coarse, F.interpolate(product, size=(4, 6), mode="bilinear", align_corners=False))
    torch.testing.assert_close(fine.sum(1), F.cosine_similarity(plain["stage1"], denoising["stage1"], dim=1))


@torch.inference_mode()
def test_level_2_is_the_shared_decoders_answer_to_level_1(network: STLMNetwork) -> None:
    output = network(pixels())
    for stream, encoder in ((output.plain, network.plain_encoder), (output.denoising, network.denoising_encoder)):
        embedding = encoder(pixels())["embedding"]
        torch.testing.assert_close(stream["embedding"], embedding)
        torch.testing.assert_close(stream["decoder"], network.decoder(embedding))
    torch.testing.assert_close(network.plain_levels(pixels())["decoder"], output.plain["decoder"])


@torch.inference_mode()
def test_photographs_of_a_batch_do_not_see_each_other(network: STLMNetwork) -> None:
    images = pixels(n=3)
    together, alone = network(images), network(images[1:2])
    torch.testing.assert_close(together.logits[1:2], alone.logits, rtol=0, atol=1e-4)


# ---------------------------------------------------------------- gradients


def test_the_loss_of_the_aggregation_reaches_both_streams(network: STLMNetwork) -> None:
    """The paper trains in one stage: the aggregation's loss also moves the encoders and the decoder."""
    network.train()  # in eval mode the encoders keep gathered attention biases, perhaps without a gradient
    logits = network(pixels(n=2)).logits
    mask = torch.zeros_like(logits)
    mask[:, :, :2] = 1
    (focal(logits, mask) + l1(logits, mask)).backward()
    try:
        for module in (network.plain_encoder, network.denoising_encoder, network.decoder, network.aggregation):
            for name, parameter in module.named_parameters():
                if "final_attn" in name:  # it only changes tokens that nothing reads
                    assert parameter.grad is None and not parameter.requires_grad
                else:
                    assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
            total = sum(p.grad.abs().sum().item() for p in module.parameters() if p.grad is not None)
            assert total > 0
    finally:
        network.zero_grad(set_to_none=True)
        network.eval()


# ---------------------------------------------------------------- what the aggregation module sees (paper, Table 6)


@pytest.mark.usefixtures("no_streams")
@pytest.mark.parametrize(
    "how, expected",
    [
        ("product", lambda a, b: a * b),
        ("cosine", lambda a, b: (a * b).sum(1, keepdim=True)),
        ("subtraction", lambda a, b: torch.cat([b, (a - b) ** 2], 1)),
        ("concat", lambda a, b: torch.cat([a, b], 1)),
    ],
)
def test_the_input_of_the_aggregation_is_what_the_config_says(how: str, expected: Any) -> None:
    network = STLMNetwork(NetworkConfig(input_size=(64, 64), aggregation_input=how, aggregation_channels=8))
    seen: list[torch.Tensor] = []
    network.aggregation.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    plain, denoising = (
        {level: normal(2, 256, 4, 4, seed=seed) for seed, level in enumerate(("embedding", "decoder"), start=start)}
        for start in (0, 2)
    )
    logits = network.aggregate(plain, denoising)
    assert logits.shape == (2, 1, 4, 4)
    parts = [
        expected(torch.nn.functional.normalize(plain[k], dim=1), torch.nn.functional.normalize(denoising[k], dim=1))
        for k in plain
    ]
    torch.testing.assert_close(seen[0], torch.cat(parts, dim=1))
    assert seen[0].shape[1] == network.config.aggregation_in_channels


def test_products_are_narrowed_before_they_are_resized_and_only_under_autocast(network: STLMNetwork) -> None:
    seen: list[torch.dtype] = []
    handle = network.aggregation.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].dtype))
    levels = {level: torch.ones(2, 256, 4, 4) for level in ("embedding", "decoder")}
    network.aggregate(levels, levels)
    with torch.autocast("cpu", torch.bfloat16):
        network.aggregate(levels, levels)
    handle.remove()
    assert seen == [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("depth", [1, 2])
def test_shared_stages_are_computed_once_and_change_nothing(
    network: STLMNetwork, monkeypatch: pytest.MonkeyPatch, depth: int
) -> None:
    shared = copy.deepcopy(choose(network, ("stage1", "embedding")))
    plain, denoising = shared.plain_encoder, shared.denoising_encoder
    denoising.patch_embed.load_state_dict(plain.patch_embed.state_dict())
    denoising.stages[:depth].load_state_dict(plain.stages[:depth].state_dict())
    shared.train().eval()  # which drops the attention biases that it kept
    x = pixels()
    with torch.no_grad():
        expected = shared(x)
        shared.config = dataclasses.replace(shared.config, shared_stages=depth)
        monkeypatch.setattr(denoising, "trunk", lambda *_: pytest.fail("computed twice"))
        output = shared(x)
    torch.testing.assert_close(output.logits, expected.logits)
    torch.testing.assert_close(output.denoising["embedding"], expected.denoising["embedding"])
    assert not torch.equal(output.denoising["embedding"], output.plain["embedding"])
