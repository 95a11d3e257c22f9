"""The feature aggregation module (paper, section 3.3): two residual blocks and a light ASPP."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _conv(in_channels: int, out_channels: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (ResNet's basic block): BxCinxhxw -> BxCoutxhxw."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, out_channels, 3)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm2(self.conv2(self.conv1(x))) + self.shortcut(x))


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: image pooling, a 1x1 and for each dilation a 3x3 convolution: BxCxhxw -> same."""

    def __init__(self, channels: int, dilations: Sequence[int] = (3,)) -> None:
        super().__init__()
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), *_conv(channels, channels, 1))
        self.point = _conv(channels, channels, 1)
        self.atrous = _conv(channels, channels, 3, dilation=dilations[0])
        self.further_atrous = nn.ModuleList(_conv(channels, channels, 3, dilation) for dilation in dilations[1:])
        self.fuse = _conv((2 + len(dilations)) * channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.pool(x).expand(-1, -1, *x.shape[2:])
        branches = [pooled, self.point(x), self.atrous(x), *(atrous(x) for atrous in self.further_atrous)]
        fused: Tensor = self.fuse(torch.cat(branches, dim=1))
        return fused


class FeatureAggregation(nn.Module):
    """Combined features of both streams, e.g. their products -> one logit map.

    Args:
        in_channels: channels of all levels, concatenated (512 in the paper).
        channels: width of the module (128 in the paper).
        dilations: of the 3x3 convolutions in the ASPP.
    """

    def __init__(self, in_channels: int, channels: int, dilations: Sequence[int] = (3,)) -> None:
        super().__init__()
        self.residual = nn.Sequential(ResidualBlock(in_channels, channels), ResidualBlock(channels, channels))
        self.head = nn.Sequential(ASPP(channels, dilations), _conv(channels, channels, 3), nn.Conv2d(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: BxCxhxw, see `in_channels`.

        Returns:
            Bx1xhxw logits; their sigmoid is the anomaly map.
        """
        logits: Tensor = self.head(self.residual(x))
        return logits
