"""Segment Anything's mask logits, which only the distillation of masks needs (paper, section 4.4.9)."""

from __future__ import annotations

import torch
from segment_anything.modeling import MaskDecoder as SamMaskDecoder
from torch import Tensor, nn

from .mask_decoder import EMBEDDING_DIM, MaskDecoder


class MaskHead(nn.Module):
    """Image embedding -> logits of the masks that SAM proposes without a prompt."""

    def __init__(self) -> None:
        super().__init__()
        sam = SamMaskDecoder(transformer_dim=EMBEDDING_DIM, transformer=nn.Identity())
        self.output_upscaling = sam.output_upscaling
        self.output_hypernetworks_mlps = sam.output_hypernetworks_mlps

    def forward(self, decoder: MaskDecoder, embedding: Tensor) -> Tensor:
        """
        Args:
            decoder: of the stream or the teacher.
            embedding: Bx256xhxw, its encoder's output.

        Returns:
            Bx4x4hx4w logits; above 0 is inside a mask.
        """
        tokens, image = decoder.masks_input(embedding)
        upscaled = self.output_upscaling(image)  # Bx32x4hx4w
        weights = torch.stack([mlp(tokens[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1)
        return torch.einsum("bnc,bchw->bnhw", weights, upscaled)
