"""Masks as targets (Table 9): they are Segment Anything's own, of the students' size."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from small_sam import decoder_like, random_sam, states_of, tiny_sam
from torch.nn import functional as F

from stlm_hub.errors import WeightsError
from stlm_hub.models.stlm.image_encoder import ImageEncoder
from stlm_hub.models.stlm.mask_decoder import MaskDecoder
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.training.teacher import MobileTeacher, SamTeacher
from train.ablations.masks import (
    MaskHead,
    MobileMaskTeacher,
    SamMaskTeacher,
    mask_head_of,
    mask_head_of_sam,
)


def image(side: int = 64, n: int = 1) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, side, side), generator=torch.Generator().manual_seed(0)).float()


@pytest.mark.parametrize("grid", [(64, 64), (12, 20)])
def test_mask_logits_are_sams_own_without_a_prompt(grid: tuple[int, int]) -> None:
    sam, prompts = random_sam(5, grid)
    head = MaskHead().eval()
    head.load_state_dict(states_of(sam, prompts)[1])
    embedding = torch.randn(1, 256, *grid, generator=torch.Generator().manual_seed(6))
    with torch.inference_mode():
        sparse, dense = prompts(points=None, boxes=None, masks=None)
        expected, _ = sam.predict_masks(embedding, prompts.get_dense_pe(), sparse, dense)
        masks = head(decoder_like(sam, prompts), embedding)
    assert masks.shape == (1, 4, 4 * grid[0], 4 * grid[1])
    torch.testing.assert_close(masks, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    assert masks.std() > 0.1


def test_the_head_comes_with_the_starting_weights_or_not_at_all(starting_weights: StartingWeights) -> None:
    head = mask_head_of(starting_weights)
    assert starting_weights.mask_head is not None
    for name, tensor in head.state_dict().items():
        assert torch.equal(tensor, starting_weights.mask_head[name])
    assert not any(parameter.requires_grad for parameter in head.parameters())
    old = dataclasses.replace(starting_weights, mask_head=None)  # kept by a version that knew of no masks
    with pytest.raises(WeightsError, match=r"without SAM's mask head.*stlm weights fetch --force"):
        mask_head_of(old)


def test_the_mobile_teacher_makes_masks_of_its_own_features(starting_weights: StartingWeights) -> None:
    encoder, decoder, head = ImageEncoder().eval(), MaskDecoder().eval(), mask_head_of(starting_weights)
    starting_weights.load_into(encoder, decoder)
    with torch.no_grad():
        embedding = encoder(image(n=2))["embedding"]
        expected = head(decoder, embedding)
    teacher = MobileMaskTeacher(MobileTeacher(starting_weights, ("embedding", "decoder"), 1), head)
    features = teacher(image(n=2).requires_grad_())
    assert tuple(features) == ("embedding", "decoder", "trunk", "masks")
    assert features["masks"].shape == (2, 4, 16, 16) and not features["masks"].requires_grad
    torch.testing.assert_close(features["masks"], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(features["embedding"], embedding, rtol=1e-5, atol=1e-5)


def test_segment_anything_makes_masks_of_1024_px_at_the_students_size(tmp_path: Path) -> None:
    sam = tiny_sam()
    torch.save(sam.state_dict(), tmp_path / "sam.pth")
    decoder = decoder_like(sam.mask_decoder, sam.prompt_encoder)
    bare = SamTeacher(sam.image_encoder, decoder, ("decoder", "embedding"))
    teacher = SamMaskTeacher(bare, mask_head_of_sam(tmp_path / "sam.pth"))
    asked: list[int] = []
    bare.encoder.register_forward_hook(lambda *_: asked.append(1))
    features = teacher(image(128))
    assert len(asked) == 1  # a ViT-H takes seconds
    with torch.no_grad():
        embedding = bare.embedding(image(128))
        sparse, dense = sam.prompt_encoder(points=None, boxes=None, masks=None)
        masks, _ = sam.mask_decoder.predict_masks(embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense)
        levels = bare(image(128))
    assert tuple(features) == ("decoder", "embedding", "masks")
    expected = F.interpolate(masks, size=(32, 32), mode="bilinear", align_corners=False)
    torch.testing.assert_close(features["masks"], expected, rtol=0, atol=1e-4)
    for level, feature in levels.items():
        torch.testing.assert_close(features[level], feature)
