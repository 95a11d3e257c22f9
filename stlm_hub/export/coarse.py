"""The aggregation computed where its input is: on the coarse grid, as long as that says the same.

Three of four levels are at H/16 and are brought to the grid of the first, H/8, before a 3x3 convolution sees them.
A convolution is a sum over its nine taps, and each tap, a product with a matrix, may come before the resizing: a
quarter of the positions. Resizing, shifting and adding the taps are two products with small fixed matrices, one for
each direction. And what the image pooling of the ASPP gives is one vector: a convolution over it needs nine products.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..models.stlm.aggregation import ASPP, FeatureAggregation, ResidualBlock
from ..models.stlm.config import LEVEL_CHANNELS
from ..models.stlm.network import STLMNetwork, STLMOutput


class MeasuredOutput(STLMOutput):
    """An output whose distances were measured on the features that were normalised for the aggregation."""

    distances: dict[str, Tensor]

    def distance(self, level: str) -> Tensor:
        """Bx1xhxw, see `STLMOutput`."""
        return self.distances[level]


class CoarseNetwork(STLMNetwork):
    """The network whose levels stay on their own grids until the aggregation's first convolution has seen them."""

    def forward(self, image: Tensor) -> STLMOutput:
        """As of `STLMNetwork`."""
        seen = super().forward(image)
        output = MeasuredOutput(seen.logits, seen.plain, seen.denoising)
        output.distances = self._distances
        return output

    def aggregate(self, plain: dict[str, Tensor], denoising: dict[str, Tensor]) -> Tensor:
        """As of `STLMNetwork`. A distance is a sum of squares here: 1 minus a similarity near 1 is lost in bf16."""
        compared = {}
        self._distances = {}
        for level, feature in plain.items():
            one, other = _normalised(feature), _normalised(denoising[level])
            compared[level] = one * other
            self._distances[level] = (one - other).square().sum(1, keepdim=True) / 4
        grid = max((values.shape[-2:] for values in compared.values()), key=lambda size: size[0] * size[1])
        fine = [values for values in compared.values() if values.shape[-2:] == grid]
        coarse = [values for values in compared.values() if values.shape[-2:] != grid]
        first = self.aggregation.residual[0]
        assert isinstance(first, CoarseBlock)
        x = first.both(torch.cat(fine, dim=1), torch.cat(coarse, dim=1))
        logits: Tensor = self.aggregation.head(self.aggregation.residual[1](x))
        return logits


class CoarseBlock(ResidualBlock):
    """The first residual block, of inputs on two grids."""

    fine_weight: Tensor
    fine_bias: Tensor
    fine_shortcut: Tensor
    fine_shortcut_bias: Tensor
    coarse_weight: Tensor
    coarse_shortcut: Tensor
    spread_rows: Tensor
    spread_columns: Tensor

    def prepare(
        self, fine: Sequence[bool], channels: Sequence[int], grid: tuple[int, int], coarse: tuple[int, int]
    ) -> None:
        """Splits the weights.

        Args:
            fine, channels: of each level, whether it is on the fine grid, and its channels.
            grid, coarse: height and width of both grids.
        """
        is_fine = torch.tensor([own for own, n in zip(fine, channels, strict=True) for _ in range(n)])
        weight, bias = _folded(self.conv1[0], self.conv1[1])
        assert isinstance(self.shortcut, nn.Sequential)
        short, short_bias = _folded(self.shortcut[0], self.shortcut[1])
        taps = weight[:, ~is_fine].permute(0, 2, 3, 1).flatten(0, 2)  # out, row and column of the tap
        for name, values in {
            "fine_weight": weight[:, is_fine],
            "fine_bias": bias,
            "coarse_weight": taps[:, :, None, None],
            "fine_shortcut": short[:, is_fine],
            "fine_shortcut_bias": short_bias,
            "coarse_shortcut": short[:, ~is_fine],
            "spread_rows": _spread(coarse[0], grid[0]).T,
            "spread_columns": _spread(coarse[1], grid[1]),
        }.items():
            self.register_buffer(name, values.contiguous())

    def both(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """BxCxHxW and BxC'xhxw -> BxC''xHxW."""
        size = (fine.shape[-2], fine.shape[-1])
        own = F.conv2d(fine, self.fine_weight, self.fine_bias, padding=1)
        y = F.relu(own + self._spread(F.conv2d(coarse, self.coarse_weight)))
        resized = F.interpolate(F.conv2d(coarse, self.coarse_shortcut), size=size, mode="bilinear", align_corners=False)
        short = F.conv2d(fine, self.fine_shortcut, self.fine_shortcut_bias) + resized
        return F.relu(self.norm2(self.conv2(y)) + short)

    def _spread(self, taps: Tensor) -> Tensor:
        """Taps on the coarse grid, Bx9Cxhxw -> their sum on the fine one, BxCxHxW."""
        b, _, h, w = taps.shape
        columns = taps.view(b, -1, 3, h, w).transpose(2, 3).reshape(b, -1, 3 * w) @ self.spread_columns
        return self.spread_rows @ columns.view(b, -1, 3 * h, columns.shape[2])


class PooledASPP(ASPP):
    """The ASPP whose image pooling stays one vector."""

    inside: Tensor
    pooled_weight: Tensor
    seen_weight: Tensor
    seen_bias: Tensor

    def prepare(self, grid: tuple[int, int]) -> None:
        """Splits the weights of the last convolution; `grid` is height and width of its input."""
        weight, bias = _folded(self.fuse[0], self.fuse[1])
        n = self.point[0].out_channels
        inside = F.unfold(torch.ones(1, 1, *grid), 3, padding=1)[0]  # 9 x HW: the taps that lie inside the grid
        self.register_buffer("inside", inside)
        self.register_buffer("pooled_weight", weight[:, :n].flatten(2).permute(0, 2, 1).flatten(0, 1).contiguous())
        self.register_buffer("seen_weight", weight[:, n:].contiguous())
        self.register_buffer("seen_bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """BxCxHxW -> same."""
        b, _, h, w = x.shape
        seen = [self.point(x), self.atrous(x), *(atrous(x) for atrous in self.further_atrous)]
        pooled = self.pool[1:](F.avg_pool2d(x, (h, w)))
        taps = F.linear(pooled.flatten(1), self.pooled_weight).view(b, -1, 9)
        everywhere = (taps @ self.inside).view(b, -1, h, w)
        return F.relu(F.conv2d(torch.cat(seen, dim=1), self.seen_weight, self.seen_bias, padding=1) + everywhere)


def lighten_network(network: STLMNetwork) -> None:
    """Gives a network in eval mode these forwards; its weights stay. A `CoarseNetwork` needs levels on two grids."""
    config, aggregation = network.config, network.aggregation
    assert isinstance(aggregation, FeatureAggregation)
    is_fine = [level == "stage1" for level in config.feature_levels]
    stride = 8 if any(is_fine) else 16
    grid = (config.input_size[0] // stride, config.input_size[1] // stride)
    aspp = aggregation.head[0]
    assert isinstance(aspp, ASPP)
    with torch.no_grad():
        aspp.__class__ = PooledASPP  # same weights, another forward
        cast("PooledASPP", aspp).prepare(grid)
        if config.aggregation_input == "product" and any(is_fine) and not all(is_fine):
            network.__class__ = CoarseNetwork
            first = aggregation.residual[0]
            assert isinstance(first, ResidualBlock)
            first.__class__ = CoarseBlock
            coarse = (config.input_size[0] // 16, config.input_size[1] // 16)
            cast("CoarseBlock", first).prepare(
                is_fine, [LEVEL_CHANNELS[level] for level in config.feature_levels], grid, coarse
            )


def _folded(conv: nn.Module, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with the normalisation after it."""
    assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    fused = nn.utils.fuse_conv_bn_eval(conv.eval(), norm.eval())
    assert fused.bias is not None
    return fused.weight.detach(), fused.bias.detach()


def _normalised(feature: Tensor) -> Tensor:
    return feature * feature.square().sum(1, keepdim=True).clamp_min(1e-24).rsqrt()


def linear(coarse: int, fine: int) -> Tensor:
    """coarse x fine: what each value on a coarse line gives to those on a fine one, as `F.interpolate` resizes."""
    return F.interpolate(torch.eye(coarse)[None], size=fine, mode="linear", align_corners=False)[0]


def _spread(coarse: int, fine: int) -> Tensor:
    """3 * coarse x fine: values of three neighbouring taps on the coarse grid -> what a line of the fine grid gets."""
    padded = F.pad(linear(coarse, fine), (1, 1))  # a convolution sees zeros beside the grid
    return torch.cat([padded[:, tap : tap + fine] for tap in range(3)])
