"""Segment Anything's masks as targets in place of its features (paper, section 4.4.9, Table 9)."""

from __future__ import annotations

from pathlib import Path

import torch
from segment_anything.modeling import MaskDecoder as SamMaskDecoder
from torch import Tensor, nn
from torch.nn import functional as F

from stlm_hub.errors import WeightsError
from stlm_hub.models.stlm.mask_decoder import EMBEDDING_DIM, MaskDecoder
from stlm_hub.starting_weights.official_names import decoder_from_sam
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.training.losses import focal, l1
from stlm_hub.training.teacher import MobileTeacher, SamTeacher


class MaskHead(nn.Module):
    """Image embedding -> logits of the four masks that SAM proposes without a prompt. Its weights stay SAM's."""

    def __init__(self) -> None:
        super().__init__()
        sam = SamMaskDecoder(transformer_dim=EMBEDDING_DIM, transformer=nn.Identity())
        self.output_upscaling = sam.output_upscaling
        self.output_hypernetworks_mlps = sam.output_hypernetworks_mlps
        self.requires_grad_(False)

    def forward(self, decoder: MaskDecoder, embedding: Tensor) -> Tensor:
        """
        Args:
            decoder: of the stream or the teacher.
            embedding: Bx256xhxw, its encoder's output.

        Returns:
            Bx4x4hx4w logits; above 0 is inside a mask.
        """
        tokens, position_codes = decoder.tokens(len(embedding)), decoder.position_codes(embedding)
        queries, image = decoder.attend(embedding, tokens, position_codes)
        transformer = decoder.transformer
        attended = transformer.final_attn_token_to_image(q=queries + tokens, k=image + position_codes, v=image)
        masks = transformer.norm_final_attn(queries + attended)[:, 1:]  # without the quality token: Bx4x256
        upscaled = self.output_upscaling(image.transpose(1, 2).reshape(embedding.shape))  # Bx32x4hx4w
        weights = torch.stack([mlp(masks[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1)
        return torch.einsum("bnc,bchw->bnhw", weights, upscaled)


def mask_head_of(weights: StartingWeights) -> MaskHead:
    """The head that came with the starting weights.

    Raises:
        WeightsError: they came without one.
    """
    if weights.mask_head is None:
        raise WeightsError(
            f"{weights.source or 'The checkpoint'} came without SAM's mask head, which distilling masks needs; "
            "fetch it with: stlm weights fetch --force"
        )
    head = MaskHead()
    head.load_state_dict(weights.mask_head, strict=True)
    return head


def mask_head_of_sam(checkpoint: Path) -> MaskHead:
    """The head of one of Segment Anything's .pth files, which `build_teacher` has read before."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    head = MaskHead()
    head.load_state_dict(decoder_from_sam(state, source=str(checkpoint))[1], strict=True)
    return head


class MobileMaskTeacher(nn.Module):
    """The mobile teacher with its masks beside its level features; "embedding" must be among them."""

    def __init__(self, teacher: MobileTeacher, head: MaskHead) -> None:
        super().__init__()
        self.teacher, self.head = teacher, head.eval()

    @torch.no_grad()
    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Bx3xSxS RGB in [0, 255] -> level features and "masks", Bx4x(S/4)x(S/4) logits."""
        features: dict[str, Tensor] = self.teacher(image)
        return features | {"masks": self.head(self.teacher.decoder, features["embedding"])}


class SamMaskTeacher(nn.Module):
    """The same for Segment Anything, which makes its masks of 1024 px; they are resized like its features."""

    def __init__(self, teacher: SamTeacher, head: MaskHead) -> None:
        super().__init__()
        self.teacher, self.head = teacher, head.eval()

    @torch.no_grad()
    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Bx3xSxS RGB in [0, 255] -> level features and "masks", Bx4x(S/4)x(S/4) logits."""
        h, w = image.shape[-2] // 16, image.shape[-1] // 16
        embedding = self.teacher.embedding(image)
        masks = self.head(self.teacher.decoder, embedding)
        masks = F.interpolate(masks, size=(4 * h, 4 * w), mode="bilinear", align_corners=False)
        return self.teacher.levels(embedding, (h, w)) | {"masks": masks}


def mask_distillation(logits: Tensor, teacher: Tensor) -> Tensor:
    """Focal plus L1 loss between a stream's masks and the teacher's (figure 13).

    Args:
        logits: BxNxhxw of the stream.
        teacher: BxNxhxw logits of the teacher; its masks are where they are above 0, as SAM has it.

    Returns:
        Scalar >= 0; no gradient flows into the teacher.
    """
    mask = (teacher.detach() > 0).float()
    return focal(logits, mask) + l1(logits, mask)
