"""Which part of a frame counts."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

OUTSIDE = (124, 116, 104)
"""RGB of what lies outside, for the network: about the mean that it subtracts, so that nothing there is seen inside."""


class Region(nn.Module):
    """The part of a frame that counts: neither memory nor scores, verdicts or outlines look at the rest.

    Args:
        frame_size: height and width in pixels.
    """

    inside: Tensor

    def __init__(self, frame_size: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("inside", torch.ones(frame_size, dtype=torch.uint8))

    def forward(self, values: Tensor, outside: Tensor | float) -> Tensor:
        """BxCxHxW -> same, with the value `outside` where nothing counts."""
        return torch.where(self.inside.bool(), values, outside)

    def cover(self, image: Tensor) -> Tensor:
        """Bx3xHxW RGB in [0, 255] -> same, with one colour where nothing counts."""
        covered: Tensor = self(image, image.new_tensor(OUTSIDE)[:, None, None])
        return covered

    def on_grid(self, grid: tuple[int, int]) -> Tensor:
        """hxw float32 in [0, 1]: the share of each cell of a coarser grid that counts."""
        return F.adaptive_avg_pool2d(self.inside.float()[None, None], grid)[0, 0]
