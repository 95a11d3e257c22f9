"""The network of ImageNet beside the streams: its levels, and that no training changes it."""

from __future__ import annotations

import timm
import torch

from stlm_hub.models.backbones.efficientnet_lite0 import EFFICIENTNET, ImageNetEncoder
from stlm_hub.models.stlm.config import MEMORY_ENCODERS, STLMConfig
from stlm_hub.models.stlm.network import STLMNetwork


def test_it_is_the_first_part_of_the_whole_network() -> None:
    whole = timm.create_model(EFFICIENTNET, pretrained=False, features_only=True, out_indices=(2, 3)).eval()
    part = ImageNetEncoder().eval()
    state = whole.state_dict()
    part.network.load_state_dict({name: state[name] for name in part.network.state_dict()})
    image = 255 * torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found, expected = part(image), whole((image - 127) / 128)
    channels = MEMORY_ENCODERS["efficientnet_lite0"]
    assert [tuple(level.shape) for level in found] == [(1, channels[0], 8, 12), (1, channels[1], 4, 6)]
    for level, other in zip(found, expected, strict=True):
        torch.testing.assert_close(level, other)


def test_a_model_has_it_only_for_a_memory_and_learns_nothing_in_it() -> None:
    fields = {"image_size": 64, "feature_levels": ("stage2", "embedding"), "aggregation_channels": 8}
    config = STLMConfig(**fields, memory_entries=5, memory_channels=16, memory_encoder="efficientnet_lite0")  # type: ignore[arg-type]
    model = STLMNetwork(config).eval()
    assert model.memory_encoder is not None and not any(p.requires_grad for p in model.memory_encoder.parameters())
    with torch.inference_mode():
        output = model(torch.full((2, 3, 64, 64), 100.0))
    assert output.distances is not None and output.distances.shape == (2, 1, 8, 8)  # H/8, the streams' finest is H/16
    assert output.logits.shape == (2, 1, 4, 4)
    assert STLMNetwork(config.replace(memory_entries=0)).memory_encoder is None
    assert STLMNetwork(config.replace(memory_encoder="plain")).memory_encoder is None
