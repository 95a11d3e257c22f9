"""A window of a photograph, at the part: training on it costs its share of the pixels.

Whole photographs follow, with learning rates that start anew (SGDR: Loshchilov and Hutter 2017): at another size a
network's statistics differ, those of its image pooling above all, and a short training at the size of the test makes up
for that (FixRes: Touvron et al. 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """`side` pixels from `left` and `top` of a photograph that is `size` pixels wide and high."""

    left: int
    top: int
    side: int
    size: int

    def cut(self, image: np.ndarray) -> np.ndarray:
        """(size, size, ...) -> (side, side, ...)."""
        return np.ascontiguousarray(image[self.top : self.top + self.side, self.left : self.left + self.side])

    def shares(self) -> Tensor:
        """(4,): left, top, right and bottom as shares of the photograph."""
        edges = [self.left, self.top, self.left + self.side, self.top + self.side]
        return torch.tensor(edges, dtype=torch.float32) / self.size


def draw_window(part: np.ndarray, side: int, rng: np.random.Generator) -> Window:
    """A window around a random pixel of the part, moved inside the photograph where it would reach out of it.

    Args:
        part: (S, S) bool, see `foreground`.
        side: of the window in pixels, below S.
        rng: decides the pixel.
    """
    size = part.shape[0]
    pixels = np.flatnonzero(part)
    y, x = divmod(int(pixels[rng.integers(len(pixels))]), size)
    left, top = (min(max(middle - side // 2, 0), size - side) for middle in (x, y))
    return Window(left, top, side, size)
