"""TinyViT's blocks without padded windows: the same output from fewer products and fewer copies.

timm pads the grid to whole windows: 32 x 32 to 42 x 42 where windows are 14 wide, 1.7 times as many positions, and
nearly twice as many pairs of them. Here a window at the edge holds the positions that it has. What timm's padded
positions add is one vector, the same for each of them, so they are one key more, whose bias is the logarithm of the
sum of the exponentials of theirs.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple, cast

import torch
from segment_anything.modeling.common import LayerNorm2d
from timm.models.tiny_vit import TinyVitBlock
from torch import Tensor, nn
from torch.nn import functional as F

from ..models.stlm.image_encoder import ImageEncoder

STRIDES = (4, 8, 16, 16)
"""Pixels of the input to a position of each stage's grid."""


class Shape(NamedTuple):
    """Windows of one shape: `number` windows of `height` x `width` positions."""

    number: int
    height: int
    width: int


def windows(height: int, width: int, side: int) -> tuple[list[Shape], list[int]]:
    """The windows that timm cuts a grid into, without their padding.

    Returns:
        Their shapes, and the positions of the grid, row by row, in the order of these windows.
    """
    shapes, order = [], []
    for (tops, rows), (lefts, columns) in product(_spans(height, side), _spans(width, side)):
        shapes.append(Shape(len(tops) * len(lefts), rows, columns))
        for top, left in product(tops, lefts):
            order += [y * width + x for y in range(top, top + rows) for x in range(left, left + columns)]
    return shapes, order


def _spans(length: int, side: int) -> list[tuple[list[int], int]]:
    """Where the whole windows along one side of a grid start, and the rest of one, each with its length."""
    whole, rest = divmod(length, side)
    spans = [([i * side for i in range(whole)], side), ([whole * side], rest)]
    return [(starts, span) for starts, span in spans if starts and span]


class WindowedBlock(TinyVitBlock):
    """timm's block on one size of grid, see `prepare`. Layers see matrices: runtimes add their bias for nothing."""

    shapes: list[Shape]
    order: Tensor
    back: Tensor
    padded_keys: Tensor
    padded_values: Tensor

    def prepare(self, height: int, width: int) -> None:
        """Keeps what the size of the grid decides, and queries', keys' and values' weights apart: no split copies."""
        attn = self.attn
        self.shapes, order = windows(height, width, self.window_size)
        self.register_buffer("order", torch.tensor(order))
        self.register_buffer("back", torch.tensor(order).argsort())
        with torch.no_grad():
            biases = cast("Tensor", attn.attention_biases)[:, cast("Tensor", attn.attention_bias_idxs)]  # heads x N x N
            lengths = [attn.key_dim, attn.key_dim, attn.val_dim]
            weights = attn.qkv.weight.unflatten(0, (attn.num_heads, -1)).split(lengths, dim=1)
            shifts = attn.qkv.bias.unflatten(0, (attn.num_heads, -1)).split(lengths, dim=1)
            scales = (attn.scale, 1.0, 1.0)
            for name, weight, shift, scale in zip(("queries", "keys", "values"), weights, shifts, scales, strict=True):
                layer = nn.Linear(weight.shape[2], weight.shape[0] * weight.shape[1])
                layer.weight.copy_(weight.flatten(0, 1) * scale)
                layer.bias.copy_(shift.flatten() * scale)
                self.add_module(name, layer)
            # A padded position is zeros, which normalisation leaves at its bias.
            for name in ("keys", "values"):
                padded = self.get_submodule(name)(attn.norm.bias)
                self.register_buffer(f"padded_{name}", padded.view(1, attn.num_heads, 1, -1))
            for i, shape in enumerate(self.shapes):
                self.register_buffer(f"bias_{i}", self._bias(biases, shape))

    def _bias(self, biases: Tensor, shape: Shape) -> Tensor:
        """Biases between the positions of a window, heads x n x n, and where it was padded n x (n + 1)."""
        side = self.window_size
        inside = torch.zeros(side, side, dtype=torch.bool)
        inside[: shape.height, : shape.width] = True
        inside = inside.flatten()
        own = biases[:, inside]
        among = own[:, :, inside]
        return among if inside.all() else torch.cat([among, own[:, :, ~inside].logsumexp(2, keepdim=True)], dim=2)

    def forward(self, x: Tensor) -> Tensor:
        """BxHxWxC -> same."""
        b, h, w, c = x.shape
        y = x + self._attend(x.reshape(b, h * w, c)).view(b, h, w, c)
        y = self.local_conv(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        flat = y.reshape(-1, c)
        output: Tensor = (flat + self.mlp(flat)).view(b, h, w, c)
        return output

    def _attend(self, x: Tensor) -> Tensor:
        """BxHWxC -> same."""
        attn = self.attn
        b, n, c = x.shape
        seen = attn.norm(x.index_select(1, self.order).reshape(-1, c))
        q, k, v = (self.get_submodule(name)(seen).view(b, n, -1) for name in ("queries", "keys", "values"))
        found, start = [], 0
        for i, shape in enumerate(self.shapes):
            end = start + shape.number * shape.height * shape.width
            seen_here = self._look(
                q[:, start:end], k[:, start:end], v[:, start:end], shape, self.get_buffer(f"bias_{i}")
            )
            found.append(seen_here.reshape(b, end - start, -1))
            start = end
        together = found[0] if len(found) == 1 else torch.cat(found, dim=1)
        attended: Tensor = attn.proj(together.reshape(b * n, -1)).view(b, n, c)
        return attended.index_select(1, self.back)

    def _look(self, q: Tensor, k: Tensor, v: Tensor, shape: Shape, bias: Tensor) -> Tensor:
        """Attention in the windows of one shape: q, k, v BxMxD each, M positions of all of them -> like v."""
        heads, n = self.attn.num_heads, shape.height * shape.width
        q, k, v = (values.reshape(-1, n, heads, values.shape[2] // heads).transpose(1, 2) for values in (q, k, v))
        if n < self.window_size**2:
            k = torch.cat([k, self.padded_keys.expand(k.shape[0], -1, -1, -1)], dim=2)
            v = torch.cat([v, self.padded_values.expand(v.shape[0], -1, -1, -1)], dim=2)
        return ((q @ k.transpose(2, 3) + bias).softmax(dim=3) @ v).transpose(1, 2)


class LastLayerNorm(LayerNorm2d):  # type: ignore[misc]  # segment-anything is untyped
    """Segment Anything's normalisation over channels as the operator that runtimes have: BxCxhxw -> same."""

    def forward(self, x: Tensor) -> Tensor:
        last = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, self.eps)
        return last.permute(0, 3, 1, 2)


def lighten_encoder(encoder: ImageEncoder, size: tuple[int, int]) -> None:
    """Gives an encoder in eval mode these forwards, for an input of this height and width; its weights stay."""
    for stage, stride in zip(encoder.stages, STRIDES, strict=False):  # a memory's encoder ends earlier
        for block in stage.modules():
            if type(block) is TinyVitBlock:
                block.__class__ = WindowedBlock
                cast("WindowedBlock", block).prepare(size[0] // stride, size[1] // stride)
    for module in encoder.modules():
        if type(module) is LayerNorm2d:
            module.__class__ = LastLayerNorm
