"""The region of interest: the part of a frame that counts."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

OUTSIDE = (124, 116, 104)
"""RGB that covers everything outside: about the mean that the network subtracts, so it does not disturb the inside."""


class Region(nn.Module):
    """The part of a frame that counts. Memory, scores, verdicts and outlines ignore the rest.

    Args:
        frame_size: height and width in pixels.
    """

    inside: Tensor

    def __init__(self, frame_size: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("inside", torch.ones(frame_size, dtype=torch.uint8))

    def forward(self, values: Tensor, outside: Tensor | float) -> Tensor:
        """BxCxHxW -> same, with the value `outside` outside the region."""
        return torch.where(self.inside.bool(), values, outside)

    def cover(self, image: Tensor) -> Tensor:
        """Bx3xHxW RGB in [0, 255] -> same, with the colour `OUTSIDE` outside the region."""
        covered: Tensor = self(image, image.new_tensor(OUTSIDE)[:, None, None])
        return covered

    def cells(self, grid: tuple[int, int]) -> Tensor:
        """hxw bool: the cells of a coarser grid of which half or more lies in the region."""
        return self.on_grid(grid) >= 0.5

    def on_grid(self, grid: tuple[int, int]) -> Tensor:
        """hxw float32 in [0, 1]: the share of each cell of a coarser grid that lies in the region."""
        return F.adaptive_avg_pool2d(self.inside.float()[None, None], grid)[0, 0]
