"""The feature aggregation module (paper, section 3.3): two residual blocks and a light ASPP."""

from __future__ import annotations

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
    """Atrous spatial pyramid pooling with image pooling, a 1x1 and a 3x3 convolution at dilation 3: BxCxhxw -> same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), *_conv(channels, channels, 1))
        self.point = _conv(channels, channels, 1)
        self.atrous = _conv(channels, channels, 3, dilation=3)
        self.fuse = _conv(3 * channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.pool(x).expand(-1, -1, *x.shape[2:])
        return self.fuse(torch.cat([pooled, self.point(x), self.atrous(x)], dim=1))


class FeatureAggregation(nn.Module):
    """Products of the two streams' normalised features -> one logit map.

    Args:
        in_channels: channels of the concatenated level products (512 in the paper).
        channels: width of the module (128 in the paper).
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(ResidualBlock(in_channels, channels), ResidualBlock(channels, channels))
        self.head = nn.Sequential(ASPP(channels), _conv(channels, channels, 3), nn.Conv2d(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: BxCxhxw, see `in_channels`.

        Returns:
            Bx1xhxw logits; their sigmoid is the anomaly map.
        """
        return self.head(self.residual(x))
