"""Segment Anything's two-way transformer without prompts (paper, section 3.2.1): the embedding's second level."""

from __future__ import annotations

import torch
from segment_anything.modeling.prompt_encoder import PositionEmbeddingRandom
from segment_anything.modeling.transformer import TwoWayTransformer
from torch import Tensor, nn

EMBEDDING_DIM = 256
N_MASK_TOKENS = 4


class MaskDecoder(nn.Module):
    """Image embedding (level 1) -> the transformer's image output (level 2). No masks are decoded."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer(depth=2, embedding_dim=EMBEDDING_DIM, num_heads=8, mlp_dim=2048)
        self.iou_token = nn.Embedding(1, EMBEDDING_DIM)
        self.mask_tokens = nn.Embedding(N_MASK_TOKENS, EMBEDDING_DIM)
        self.no_mask_embed = nn.Embedding(1, EMBEDDING_DIM)
        self.position = PositionEmbeddingRandom(EMBEDDING_DIM // 2)
        # SAM's last token-to-image attention only changes the tokens, which nothing here reads. It is kept so that the
        # weights are SAM's, whole, but gets no gradient; distributed training would wait for one.
        for module in (self.transformer.final_attn_token_to_image, self.transformer.norm_final_attn):
            module.requires_grad_(False)

    def forward(self, embedding: Tensor) -> Tensor:
        """
        Args:
            embedding: Bx256xhxw, the encoder's output.

        Returns:
            Bx256xhxw, the image tokens after two layers of token-to-image and image-to-token attention.
        """
        b, c, h, w = embedding.shape
        tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight]).expand(b, -1, -1)  # Bx5x256
        image = (embedding + self.no_mask_embed.weight.view(1, c, 1, 1)).flatten(2).transpose(1, 2)  # BxhwxC
        position = self.position((h, w)).flatten(1).transpose(0, 1).expand(b, -1, -1)  # BxhwxC
        queries = tokens
        for layer in self.transformer.layers:
            queries, image = layer(queries=queries, keys=image, query_pe=tokens, key_pe=position)
        return image.transpose(1, 2).reshape(b, c, h, w)
