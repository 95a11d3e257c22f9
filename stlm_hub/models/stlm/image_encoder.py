"""The image encoder of one stream: TinyViT-5M with Segment Anything's neck, as in MobileSAM (arXiv 2306.14289).

timm's blocks pad their windows, so any grid works; the last downsampling has stride 1, so the output grid is H/16.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from segment_anything.modeling.common import LayerNorm2d
from timm.models.tiny_vit import Attention, TinyVit
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
N_STAGES = 4


class WindowAttention(Attention):
    """timm's window attention, computed in the fastest way on each device: BxNxC -> BxNxC, N positions of a window.

    PyTorch's fused attention for processors is made for long sequences. For windows of 49 or 196 positions plain matrix
    products are faster, in bfloat16 more than twice, provided that autocast does not widen the softmax to float32.
    """

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        qkv = self.qkv(self.norm(x)).view(b, n, self.num_heads, -1).transpose(1, 2)
        q, k, v = qkv.split([self.key_dim, self.key_dim, self.val_dim], dim=3)
        bias = self.get_attention_biases(x.device).to(q.dtype)
        if q.device.type == "cpu":
            with torch.autocast("cpu", enabled=False):
                x = ((q * self.scale) @ k.transpose(-2, -1) + bias).softmax(dim=-1) @ v
        else:
            x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        attended: Tensor = self.proj(x.transpose(1, 2).reshape(b, n, self.out_dim))
        return attended


class ImageEncoder(nn.Module):
    """RGB image -> level features.

    Args:
        batch_norm_frozen: keeps BatchNorm in eval mode while training. Starting weights whose BatchNorm was folded into
            convolutions are exact only in eval mode, and batches of 2 to 4 are too small to estimate statistics.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, *, batch_norm_frozen: bool = True) -> None:
        super().__init__()
        vit = TinyVit(
            embed_dims=(64, 128, 160, 320),
            depths=(2, 2, 6, 2),
            num_heads=(2, 4, 5, 10),
            window_sizes=(7, 7, 14, 7),
            drop_path_rate=0.0,
            num_classes=0,
        )
        last = vit.get_submodule(f"stages.{N_STAGES - 1}.downsample.conv2.conv")
        last.stride = (1, 1)  # type: ignore[assignment]  # SAM's embedding grid is H/16, not TinyViT's H/32
        for module in vit.modules():
            if isinstance(module, Attention):
                module.__class__ = WindowAttention  # same weights, another forward; timm has no argument for the class
        self.patch_embed = vit.patch_embed
        self.stages = vit.stages
        self.neck = nn.Sequential(
            nn.Conv2d(320, 256, kernel_size=1, bias=False),
            LayerNorm2d(256),
            nn.Conv2d(256, 256, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(256),
        )
        self.batch_norm_frozen = batch_norm_frozen
        self.recompute_activations = False  # in the backward pass, stage by stage: less memory, more time
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD).view(3, 1, 1), persistent=False)
        # The layout of the weights decides that of all activations. On a processor, channels last makes the first
        # stage, with its depthwise convolutions, two to three times as fast.
        self.to(memory_format=torch.channels_last)
        self.register_load_state_dict_post_hook(_forget_attention_biases)  # type: ignore[no-untyped-call]

    def train(self, mode: bool = True) -> ImageEncoder:
        super().train(mode)
        if self.batch_norm_frozen:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def trunk(self, image: Tensor, depth: int) -> Tensor:
        """Patch embedding and the first `depth` stages, which two streams may share.

        Args:
            image: Bx3xHxW, RGB, values in [0, 255]; H and W multiples of 16.
            depth: number of stages, 0 to 3.

        Returns:
            Bx64x(H/4)x(W/4) for depth 0 and 1, Bx128x(H/8)x(W/8) for 2, Bx160x(H/16)x(W/16) for 3.
        """
        x: Tensor = self.patch_embed((image - self.pixel_mean) / self.pixel_std)
        for stage in self.stages[:depth]:
            x = stage(x)
        return x

    def from_trunk(self, x: Tensor, depth: int, levels: Collection[str]) -> dict[str, Tensor]:
        """The rest of the encoder after `trunk(image, depth)`.

        Args:
            x: output of `trunk`.
            depth: number of stages that it went through.
            levels: names of the levels to return.

        Returns:
            The wanted levels: "stage1" Bx128x(H/8)x(W/8), "stage2" Bx160x(H/16)x(W/16), "embedding"
            Bx256x(H/16)x(W/16).
        """
        features: dict[str, Tensor] = {}
        last = N_STAGES - 1 if "embedding" in levels else max((int(level[-1]) for level in levels), default=0)
        if depth and f"stage{depth - 1}" in levels:
            features[f"stage{depth - 1}"] = x
        for i in range(depth, last + 1):
            if self.recompute_activations and self.training and torch.is_grad_enabled():
                x = checkpoint(self.stages[i], x, use_reentrant=False)
            else:
                x = self.stages[i](x)
            if f"stage{i}" in levels:
                features[f"stage{i}"] = x
        if "embedding" in levels:
            features["embedding"] = self.neck(x)
        return features

    def forward(self, image: Tensor, levels: Collection[str] = ("embedding",)) -> dict[str, Tensor]:
        """Level features of an image, see `trunk` for the input and `from_trunk` for the output."""
        return self.from_trunk(self.trunk(image, 0), 0, levels)


def _forget_attention_biases(module: nn.Module, _incompatible_keys: Any) -> None:
    """Drops the attention biases that timm caches at the first forward in eval mode.

    An encoder that has run before would else use new weights with old biases: wrong features, and no error.
    """
    for child in module.modules():
        if isinstance(child, Attention):
            child.attention_bias_cache = {}
