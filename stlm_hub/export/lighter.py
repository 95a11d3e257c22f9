"""The same model in a form that a graph can hold and that computes less. Weights stay; only forwards change."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import cast

import torch
from timm.models.tiny_vit import TinyVitBlock
from torch import Tensor
from torch.nn import functional as F

from ..models.patch_memory import PatchMemory, smooth
from ..models.stlm.anomaly_maps import AnomalyMaps

ENTRIES_AT_ONCE = 1024
"""Remembered patches of one matrix product: the distances to them stay in a processor's cache."""


class ProductMemory(PatchMemory):
    """Distances as a matrix product for each thousand entries, over all photographs of a batch at once."""

    def prepare(self) -> None:
        """Keeps what a distance takes of the entries, so that no graph computes it for each photograph."""
        for i, entries in enumerate(self.entries.split(ENTRIES_AT_ONCE)):
            self.register_buffer(f"doubled_{i}", -2 * entries)
            self.register_buffer(f"squares_{i}", entries.square().sum(1))

    def distances(self, patches: Tensor, without: Sequence[int] | None = None) -> Tensor:
        """BxhxwxD -> Bx1xhxw, as of `PatchMemory`; `without` does not count: no training looks through a graph."""
        reduced = self.reduced(patches).flatten(0, 2)
        products = [
            F.linear(reduced, self.get_buffer(f"doubled_{i}"), self.get_buffer(f"squares_{i}")).amin(-1)
            for i in range(-(-len(self.entries) // ENTRIES_AT_ONCE))
        ]
        nearest = functools.reduce(torch.minimum, products)
        distances = (nearest + reduced.square().sum(-1)).clamp_min(0.0).sqrt()
        return smooth(distances.view(-1, 1, patches.shape[1], patches.shape[2]))


class UnpaddedBlock(TinyVitBlock):
    """timm's block, whose layers run on the grid itself.

    timm pads the grid to whole windows before normalisation and projections: 32 x 32 to 42 x 42, 1.7 times as many
    positions. What they make of a padded position is one constant vector, which here is put there afterwards. Windows
    and heads are taken apart in one transposition. Layers see matrices, to which runtimes add the bias for nothing.
    """

    def forward(self, x: Tensor) -> Tensor:
        """BxHxWxC -> same."""
        b, h, w, c = x.shape
        y = x + self._attend(x)
        y = self.local_conv(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        flat = y.reshape(-1, c)
        output: Tensor = (flat + self.mlp(flat)).view(b, h, w, c)
        return output

    def _attend(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        attn, side = self.attn, self.window_size
        rows, columns = -(-h // side), -(-w // side)
        qkv = attn.qkv(attn.norm(x.reshape(-1, c))).view(b, h, w, -1)
        padding = attn.qkv(attn.norm.bias)  # of a position of zeros, which normalisation leaves at its bias
        if below := rows * side - h:
            qkv = torch.cat([qkv, padding.expand(b, below, w, -1)], dim=1)
        if beside := columns * side - w:
            qkv = torch.cat([qkv, padding.expand(b, rows * side, beside, -1)], dim=2)
        heads, n = attn.num_heads, side * side
        qkv = qkv.view(b, rows, side, columns, side, heads, -1).permute(0, 1, 3, 5, 2, 4, 6)
        q, k, v = qkv.reshape(b * rows * columns, heads, n, -1).split([attn.key_dim, attn.key_dim, attn.val_dim], dim=3)
        bias = attn.get_attention_biases(x.device)
        seen = ((q * attn.scale) @ k.transpose(-2, -1) + bias).softmax(dim=-1) @ v
        seen = seen.view(b, rows, columns, heads, side, side, -1).permute(0, 1, 4, 2, 5, 3, 6)
        seen = seen.reshape(b, rows * side, columns * side, attn.out_dim)[:, :h, :w]
        attended: Tensor = attn.proj(seen.reshape(-1, attn.out_dim)).view(b, h, w, c)
        return attended


def lighter(model: AnomalyMaps) -> AnomalyMaps:
    """A copy of a model in eval mode on the CPU in float32, which computes the same; the model stays as it is."""
    other = copy.deepcopy(model).cpu().float().eval()
    if other.patch_memory is not None:
        other.patch_memory.__class__ = ProductMemory  # same weights, another forward
        cast("ProductMemory", other.patch_memory).prepare()
    for module in other.modules():
        if type(module) is TinyVitBlock:
            module.__class__ = UnpaddedBlock
    return other
