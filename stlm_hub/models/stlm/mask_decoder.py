"""Segment Anything's two-way transformer without prompts (paper, section 3.2.1): the embedding's second level."""

from __future__ import annotations

import torch
from segment_anything.modeling.prompt_encoder import PositionEmbeddingRandom
from segment_anything.modeling.transformer import TwoWayTransformer
from torch import Tensor, nn

EMBEDDING_DIM = 256
N_MASK_TOKENS = 4


class MaskDecoder(nn.Module):
    """Image embedding (level 1) -> the transformer's image output (level 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer(depth=2, embedding_dim=EMBEDDING_DIM, num_heads=8, mlp_dim=2048)
        self.iou_token = nn.Embedding(1, EMBEDDING_DIM)
        self.mask_tokens = nn.Embedding(N_MASK_TOKENS, EMBEDDING_DIM)
        self.no_mask_embed = nn.Embedding(1, EMBEDDING_DIM)
        self.position = PositionEmbeddingRandom(EMBEDDING_DIM // 2)
        # SAM's last token-to-image attention only changes the tokens, which no level uses. It is kept, so that all of
        # SAM's weights load, but without gradients: distributed training would wait for them.
        for module in (self.transformer.final_attn_token_to_image, self.transformer.norm_final_attn):
            module.requires_grad_(False)

    def forward(self, embedding: Tensor) -> Tensor:
        """
        Args:
            embedding: Bx256xhxw, the encoder's output.

        Returns:
            Bx256xhxw, the image tokens after two layers of token-to-image and image-to-token attention.
        """
        _, image = self.attend(embedding, self.tokens(embedding.shape[0]), self.position_codes(embedding))
        return image.transpose(1, 2).reshape(embedding.shape)

    def attend(self, embedding: Tensor, tokens: Tensor, position_codes: Tensor) -> tuple[Tensor, Tensor]:
        """Bx256xhxw -> tokens, Bx5x256, and image, Bxhwx256, after the transformer's two layers."""
        image = (embedding + self.no_mask_embed.weight.view(1, EMBEDDING_DIM, 1, 1)).flatten(2).transpose(1, 2)
        queries = tokens
        for layer in self.transformer.layers:
            queries, image = layer(queries=queries, keys=image, query_pe=tokens, key_pe=position_codes)
        return queries, image

    def tokens(self, batch: int) -> Tensor:
        """Bx5x256: the quality token and the four mask tokens, the same for each image."""
        return torch.cat([self.iou_token.weight, self.mask_tokens.weight]).expand(batch, -1, -1)

    def position_codes(self, embedding: Tensor) -> Tensor:
        """Bxhwx256: the encoding of each position of a Bx256xhxw embedding, row by row."""
        h, w = embedding.shape[-2:]
        codes: Tensor = self.position((h, w)).flatten(1).transpose(0, 1).expand(embedding.shape[0], -1, -1)
        return codes
