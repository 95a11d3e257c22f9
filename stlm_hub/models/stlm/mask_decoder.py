"""Segment Anything's two-way transformer without prompts (paper, section 3.2.1): the embedding's second level."""

from __future__ import annotations

import torch
from segment_anything.modeling.prompt_encoder import PositionEmbeddingRandom
from segment_anything.modeling.transformer import TwoWayTransformer
from torch import Tensor, nn

EMBEDDING_DIM = 256
N_MASK_TOKENS = 4


class MaskDecoder(nn.Module):
    """Image embedding (level 1) -> the transformer's image output (level 2). Masks are made by `MaskHead`."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer(depth=2, embedding_dim=EMBEDDING_DIM, num_heads=8, mlp_dim=2048)
        self.iou_token = nn.Embedding(1, EMBEDDING_DIM)
        self.mask_tokens = nn.Embedding(N_MASK_TOKENS, EMBEDDING_DIM)
        self.no_mask_embed = nn.Embedding(1, EMBEDDING_DIM)
        self.position = PositionEmbeddingRandom(EMBEDDING_DIM // 2)
        # SAM's last token-to-image attention only changes the tokens, which no level is made of. It is kept so that the
        # weights are SAM's, whole, but gets no gradient; distributed training would wait for one.
        for module in (self.transformer.final_attn_token_to_image, self.transformer.norm_final_attn):
            module.requires_grad_(False)

    def forward(self, embedding: Tensor, windows: Tensor | None = None) -> Tensor:
        """
        Args:
            embedding: Bx256xhxw, the encoder's output.
            windows: Bx4, left, top, right and bottom as shares of the photograph, of which each embedding shows this
                window; None: all of it. Positions are those in the photograph.

        Returns:
            Bx256xhxw, the image tokens after two layers of token-to-image and image-to-token attention.
        """
        _, image = self._attend(embedding, self._tokens(embedding), self._position(embedding, windows))
        return image.transpose(1, 2).reshape(embedding.shape)

    def masks_input(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """What SAM makes masks of.

        Args:
            embedding: Bx256xhxw, the encoder's output.

        Returns:
            Bx4x256, the mask tokens after the last token-to-image attention, and Bx256xhxw as `forward` returns it.
        """
        tokens, position = self._tokens(embedding), self._position(embedding)
        queries, image = self._attend(embedding, tokens, position)
        attended = self.transformer.final_attn_token_to_image(q=queries + tokens, k=image + position, v=image)
        queries = self.transformer.norm_final_attn(queries + attended)
        return queries[:, 1:], image.transpose(1, 2).reshape(embedding.shape)

    def _tokens(self, embedding: Tensor) -> Tensor:
        """Bx5x256, the quality token and the mask tokens."""
        return torch.cat([self.iou_token.weight, self.mask_tokens.weight]).expand(len(embedding), -1, -1)

    def _position(self, embedding: Tensor, windows: Tensor | None = None) -> Tensor:
        """Bxhwx256."""
        h, w = embedding.shape[-2:]
        if windows is None:
            return self.position((h, w)).flatten(1).transpose(0, 1).expand(len(embedding), -1, -1)
        left, top, right, bottom = windows.unbind(1)
        x = torch.lerp(left[:, None], right[:, None], _centres(w, embedding.device))
        y = torch.lerp(top[:, None], bottom[:, None], _centres(h, embedding.device))
        points = torch.stack([x[:, None, :].expand(-1, h, -1), y[:, :, None].expand(-1, -1, w)], dim=-1)
        return self.position.forward_with_coords(points.flatten(1, 2), (1, 1))

    def _attend(self, embedding: Tensor, tokens: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (Bx5x256) and image (Bxhwx256) after the transformer's layers."""
        image = (embedding + self.no_mask_embed.weight.view(1, EMBEDDING_DIM, 1, 1)).flatten(2).transpose(1, 2)
        queries = tokens
        for layer in self.transformer.layers:
            queries, image = layer(queries=queries, keys=image, query_pe=tokens, key_pe=position)
        return queries, image


def _centres(n: int, device: torch.device) -> Tensor:
    """Middles of n cells as shares of their row."""
    return (torch.arange(n, device=device) + 0.5) / n
