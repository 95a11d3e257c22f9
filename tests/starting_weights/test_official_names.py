"""Checkpoints of MobileSAM and SAM: every tensor gets our name, any other checkpoint is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from random_weights import same_weights
from torch import Tensor

from stlm_hub.errors import WeightsError
from stlm_hub.models.stlm.mask_decoder import MaskDecoder
from stlm_hub.starting_weights.official_names import decoder_from_sam, from_mobile_sam
from stlm_hub.starting_weights.starting_weights import StartingWeights, module_templates
from train.ablations.masks import MaskHead

pytestmark = pytest.mark.filterwarnings("ignore")  # importing mobile_sam warns about timm's registry


def test_official_names_become_ours(state: dict[str, Tensor], official: StartingWeights) -> None:
    for ours, theirs in {
        "patch_embed.conv2.bn.running_var": "patch_embed.seq.2.bn.running_var",
        "stages.0.blocks.1.conv3.conv.weight": "layers.0.blocks.1.conv3.c.weight",
        "stages.3.downsample.conv1.conv.weight": "layers.2.downsample.conv1.c.weight",
        "stages.2.blocks.5.attn.attention_biases": "layers.2.blocks.5.attn.attention_biases",
        "neck.3.bias": "neck.3.bias",
    }.items():
        assert torch.equal(official.encoder[ours], state[f"image_encoder.{theirs}"])
    for ours, theirs in {
        "no_mask_embed.weight": "prompt_encoder.no_mask_embed.weight",
        "position.positional_encoding_gaussian_matrix": "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        "mask_tokens.weight": "mask_decoder.mask_tokens.weight",
    }.items():
        assert torch.equal(official.decoder[ours], state[theirs])
    assert official.mask_head is not None
    for name in ("output_upscaling.1.weight", "output_hypernetworks_mlps.2.layers.1.bias"):
        assert torch.equal(official.mask_head[name], state[f"mask_decoder.{name}"])
    assert official.prompts is not None
    for ours, theirs in {
        "point_embeddings.2.weight": "prompt_encoder.point_embeddings.2.weight",
        "mask_downscaling.4.bias": "prompt_encoder.mask_downscaling.4.bias",
        "iou_prediction_head.layers.1.weight": "mask_decoder.iou_prediction_head.layers.1.weight",
    }.items():
        assert torch.equal(official.prompts[ours], state[theirs])


def test_a_mask_head_with_missing_tensors_is_refused(state: dict[str, Tensor]) -> None:
    for name in [name for name in state if "mask_decoder.output_" in name][1:]:
        del state[name]
    with pytest.raises(WeightsError, match=r"lacks.*mask_decoder\.output_hypernetworks_mlps"):
        from_mobile_sam(state)


def test_prompts_may_be_missing_but_not_in_part(state: dict[str, Tensor]) -> None:
    names = [name for name in state if name.startswith(("prompt_encoder.mask_d", "prompt_encoder.point_"))]
    names += [name for name in state if "iou_prediction_head" in name or "not_a_point" in name]
    without = {name: tensor for name, tensor in state.items() if name not in names}
    assert from_mobile_sam(without).prompts is None
    with pytest.raises(WeightsError, match=r"lacks.*iou_prediction_head"):
        from_mobile_sam(without | {names[0]: state[names[0]]})


def test_half_precision_becomes_float32(state: dict[str, Tensor]) -> None:
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    weights = from_mobile_sam(half)
    assert weights.encoder["neck.0.weight"].dtype == torch.float32
    assert torch.equal(weights.encoder["neck.0.weight"], half["image_encoder.neck.0.weight"].float())


Change = Callable[[dict[str, Tensor]], Any]


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda state: state.pop("image_encoder.layers.1.blocks.0.attn.qkv.weight"),
            "lacks.*attn.qkv.weight",
        ),
        (lambda state: state.pop("prompt_encoder.no_mask_embed.weight"), "lacks.*prompt_encoder.no_mask_embed.weight"),
        (lambda state: state.update({"image_encoder.layers.4.x": torch.ones(1)}), "unknown.*image_encoder.layers.4.x"),
        (lambda state: state.update({"mask_decoder.iou_token.bias": torch.ones(1)}), "unknown.*iou_token.bias"),
        (lambda state: state.update({"mask_decoder.iou_token.weight": torch.ones(2, 256)}), r"iou_token.*\[2, 256\]"),
        (
            lambda state: state.update({"image_encoder.neck.1.bias": torch.full((256,), torch.nan)}),
            "bias is not finite",
        ),
        (lambda state: state.update({"image_encoder.pos_embed": torch.ones(1)}), "large encoder"),
    ],
)
def test_other_weights_are_refused_by_name(state: dict[str, Tensor], change: Change, message: str) -> None:
    change(state)
    with pytest.raises(WeightsError, match=message) as error:
        from_mobile_sam(state, source="model.pt")
    assert "model.pt" in str(error.value)


def test_only_listed_parts_are_dropped(state: dict[str, Tensor]) -> None:
    state["image_encoder.layers.1.blocks.0.attn.attention_bias_idxs"] = torch.zeros(49, 49, dtype=torch.long)
    weights = from_mobile_sam(state)
    unused = ("image_encoder.head.", "image_encoder.norm_head.")
    for prefix in unused:
        assert any(name.startswith(prefix) for name in state)
    assert same_weights(weights, from_mobile_sam({k: v for k, v in state.items() if not k.startswith(unused)}))


def test_decoder_of_a_sam_checkpoint_with_another_encoder(state: dict[str, Tensor]) -> None:
    sam = {name: tensor for name, tensor in state.items() if not name.startswith("image_encoder.")}
    sam["image_encoder.pos_embed"] = torch.ones(1, 64, 64, 1280)
    decoder, mask_head = decoder_from_sam(sam)
    MaskDecoder().load_state_dict(decoder)
    MaskHead().load_state_dict(mask_head)
    assert torch.equal(decoder["iou_token.weight"], state["mask_decoder.iou_token.weight"])
    del sam["mask_decoder.mask_tokens.weight"]
    with pytest.raises(WeightsError, match=r"lacks: mask_decoder\.mask_tokens\.weight"):
        decoder_from_sam(sam)


def test_reading_does_not_touch_the_random_numbers_of_a_training(state: dict[str, Tensor]) -> None:
    module_templates.cache_clear()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    from_mobile_sam(state)
    assert torch.equal(torch.rand(3), expected)
