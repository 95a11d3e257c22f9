"""A frame -> overlapping tiles, and values on tiles -> values on the frame, without seams."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .config import TILE_OVERLAP, NetworkConfig


def places(config: NetworkConfig) -> Iterator[tuple[int, int]]:
    """Yields top and left of each tile in pixels, row by row."""
    rows, columns = config.tiles
    height, width = config.input_size
    for row in range(rows):
        for column in range(columns):
            yield row * (height - TILE_OVERLAP), column * (width - TILE_OVERLAP)


def cut(frame: Tensor, config: NetworkConfig) -> Tensor:
    """BxCxHxW of `frame_size` -> BxTxCxhxw: the T tiles of each, row by row."""
    height, width = config.input_size
    return torch.stack([frame[..., y : y + height, x : x + width] for y, x in places(config)], dim=1)


def blend(tiles: Tensor, config: NetworkConfig) -> Tensor:
    """Values on the grids of the tiles -> values on the grid of the frame.

    Overlapping values are averaged. Their weights fall linearly towards the edge of a tile, where the network has the
    least context.

    Args:
        tiles: BxTxCxhxw, T tiles row by row; a cell of their grid is at most 16 px wide.

    Returns:
        BxCxHxW.
    """
    height, width = tiles.shape[-2:]
    cell = config.input_size[0] // height
    frame = [side // cell for side in config.frame_size]
    weight = _ramp(height, TILE_OVERLAP // cell, tiles)[:, None] * _ramp(width, TILE_OVERLAP // cell, tiles)
    total = tiles.new_zeros((tiles.shape[0], tiles.shape[2], *frame))
    weights = tiles.new_zeros(frame)
    for tile, (y, x) in zip(tiles.unbind(1), places(config), strict=True):
        rows, columns = slice(y // cell, y // cell + height), slice(x // cell, x // cell + width)
        total[..., rows, columns] += tile * weight
        weights[rows, columns] += weight
    return total / weights


def _ramp(cells: int, overlap: int, like: Tensor) -> Tensor:
    """Weights along one side of a tile: they rise over the overlap, are 1 in the middle, and fall again."""
    place = torch.arange(cells, dtype=like.dtype, device=like.device)
    from_edge = torch.minimum(place, cells - 1 - place) + 0.5
    return (from_edge / overlap).clamp(max=1)
