"""Segment Anything with MobileSAM's encoder (arXiv 2304.02643, 2306.14289): prompts in, masks out.

The modules are segment_anything's own (`Sam`, `PromptEncoder`, `MaskDecoder`), so its `SamPredictor` works with them.
The encoder is the streams' `ImageEncoder`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from segment_anything.modeling import MaskDecoder as SamMaskDecoder
from segment_anything.modeling import PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn

from .stlm.image_encoder import PIXEL_MEAN, PIXEL_STD, ImageEncoder
from .stlm.mask_decoder import EMBEDDING_DIM

SAM_SIDE = 1024
"""Longer side in pixels that SAM was trained on; photographs are resized to it."""
SAM_GRID = SAM_SIDE // 16
"""Cells of the embedding along a side; SAM's low-resolution logits have four times as many."""


class SamImageEncoder(nn.Module):
    """The streams' `ImageEncoder` as SAM calls it: normalised pixels in, the embedding out."""

    img_size = SAM_SIDE

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ImageEncoder()
        self.encoder.pixel_mean.zero_()  # `Sam.preprocess` has normalised the pixels before it padded them with zeros
        self.encoder.pixel_std.fill_(1)

    def forward(self, image: Tensor) -> Tensor:
        """Bx3x1024x1024, normalised -> Bx256x64x64."""
        embedding: Tensor = self.encoder(image)["embedding"]
        return embedding


def make_sam() -> Sam:
    """Segment Anything with MobileSAM's encoder and random weights, in eval mode, without gradients."""
    with torch.random.fork_rng(devices=[]):  # random initial values must not move the user's seed
        sam = Sam(
            image_encoder=SamImageEncoder(),
            prompt_encoder=PromptEncoder(
                embed_dim=EMBEDDING_DIM,
                image_embedding_size=(SAM_GRID, SAM_GRID),
                input_image_size=(SAM_SIDE, SAM_SIDE),
                mask_in_chans=16,
            ),
            mask_decoder=SamMaskDecoder(
                transformer_dim=EMBEDDING_DIM,
                transformer=TwoWayTransformer(depth=2, embedding_dim=EMBEDDING_DIM, num_heads=8, mlp_dim=2048),
            ),
            pixel_mean=list(PIXEL_MEAN),
            pixel_std=list(PIXEL_STD),
        )
    return sam.requires_grad_(False).eval()


def load_sam(
    encoder: Mapping[str, Tensor],
    decoder: Mapping[str, Tensor],
    mask_head: Mapping[str, Tensor],
    prompts: Mapping[str, Tensor],
) -> Sam:
    """`make_sam` with weights.

    Args:
        encoder: state dict of `ImageEncoder`.
        decoder: state dict of the streams' `MaskDecoder`.
        mask_head: weights of SAM's mask decoder that the streams do not have.
        prompts: state dict of SAM's prompt encoder. All four are parts of `StartingWeights`.
    """
    sam = make_sam()
    sam.image_encoder.encoder.load_state_dict(encoder, strict=True)
    tensors = {**decoder, **mask_head, **prompts}
    # Two modules of the streams' decoder belong to SAM's prompt encoder, one of them under another name.
    for ours in [name for name in tensors if name.startswith("position.")]:
        tensors[ours.replace("position.", "pe_layer.", 1)] = tensors.pop(ours)
    for module in (sam.prompt_encoder, sam.mask_decoder):
        module.load_state_dict({name: tensors[name] for name in module.state_dict()}, strict=True)
    return sam
