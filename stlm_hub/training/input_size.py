"""The frame for photographs: near their aspect, of a size that is fast, cut into tiles if that is too coarse.

Training and prediction take time in proportion to the pixels of the frame.
"""

from __future__ import annotations

import math
import re
from itertools import product

from ..errors import ConfigError
from ..models.stlm.config import MAX_INPUT_SIDE, MAX_TILES, TILE_OVERLAP

USUAL_SIDE = 256
"""Side in pixels of a square input by default. 400 training steps then take about 7 minutes on two cores."""
LARGEST_AREA = 1.5
"""Largest area of an input of another aspect, in areas of the usual one."""
STEP = 64
COARSEST = 4.0
"""A photograph that would be shrunk by more than this factor is cut into tiles by "auto"."""


def choose_input(
    shape: tuple[int, int], size: int | None = None, tiles: str = "auto"
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The frame for photographs of one shape.

    Args:
        shape: height and width of the photographs in pixels.
        size: longer side of what the network sees at once, a multiple of 64; None: the area of 256 x 256 px, a little
            more for long parts.
        tiles: "none"; "auto": as many as it takes to shrink photographs at most four times; or rows and columns, "3x4".

    Returns:
        `input_size` and `tiles` of a `NetworkConfig`.

    Raises:
        ConfigError: `size` or `tiles` is not possible.
    """
    if size is not None and (size % STEP or not STEP <= size <= MAX_INPUT_SIDE):
        raise ConfigError(f"The size must be a multiple of {STEP} from {STEP} to {MAX_INPUT_SIDE} px, not {size}.")
    whole, side = _longest(shape, size) if size else _usual(shape), size or USUAL_SIDE
    if tiles == "none":
        return whole, (1, 1)
    if tiles == "auto":
        if all(own <= COARSEST * framed for own, framed in zip(shape, whole, strict=True)):
            return whole, (1, 1)
        (height, rows), (width, columns) = _finest(shape, side)
    else:
        rows, columns = _named(tiles)
        if (rows, columns) == (1, 1):
            return whole, (1, 1)
        height = width = side
    if not 1 <= rows * columns <= MAX_TILES or side <= TILE_OVERLAP:
        raise ConfigError(
            f"{rows}x{columns} tiles of {side} px cannot be: there are 1 to {MAX_TILES}, larger than {TILE_OVERLAP} "
            "px; set a larger --size or fewer tiles."
        )
    return (height, width), (rows, columns)


def _usual(shape: tuple[int, int]) -> tuple[int, int]:
    """The input of about the usual area with the nearest aspect: the one with the lowest penalty."""
    usual, penalties = USUAL_SIDE**2, {}
    for height in range(STEP, MAX_INPUT_SIDE + 1, STEP):
        for width in range(STEP, MAX_INPUT_SIDE + 1, STEP):
            if height * width > LARGEST_AREA * usual:
                break
            area = math.log(height * width / usual)
            aspect = abs(math.log(width * shape[0] / (height * shape[1])))
            penalties[height, width] = aspect + (0.1 * area if area > 0 else -0.5 * area)
    return min(penalties, key=penalties.__getitem__)


def _longest(shape: tuple[int, int], size: int) -> tuple[int, int]:
    """The input with this longer side and the nearest aspect."""
    shorter = max(STEP, round(size * min(shape) / max(shape) / STEP) * STEP)
    return (shorter, size) if shape[0] < shape[1] else (size, shorter)


def _named(tiles: str) -> tuple[int, int]:
    """Rows and columns of "3x4"."""
    named = re.fullmatch(r"(\d{1,3})x(\d{1,3})", tiles)
    if named is None:
        raise ConfigError(f'Tiles are "auto", "none" or rows and columns like "3x4", not {tiles!r:.40}.')
    return int(named[1]), int(named[2])


def _finest(shape: tuple[int, int], side: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Side in pixels and number of tiles, down and across, for a frame in which photographs shrink at most four times.

    Of all such frames it is one with nearly the photographs' aspect and few pixels to compute.
    """
    frames = product(*(_along(length / COARSEST, side) for length in shape))

    def penalty(frame: tuple[tuple[int, int], ...]) -> float:
        height, width = (_covered(*axis) for axis in frame)
        aspect = abs(math.log(width * shape[0] / (height * shape[1])))
        return aspect + 0.1 * math.log(math.prod(tile * tiles for tile, tiles in frame))

    down, across = min(frames, key=penalty)
    return down, across


def _along(length: float, side: int) -> list[tuple[int, int]]:
    """Sides of tiles, from three quarters of `side` on, with the smallest number that covers a length, and one more."""
    sides = range(max(STEP, math.ceil(0.75 * side / STEP) * STEP), side + 1, STEP)
    least = {one: max(1, math.ceil((length - TILE_OVERLAP) / max(1, one - TILE_OVERLAP))) for one in sides}
    return [(one, n + more) for one, n in least.items() for more in (0, 1)]


def _covered(side: int, tiles: int) -> int:
    """Pixels that overlapping tiles cover."""
    return tiles * (side - TILE_OVERLAP) + TILE_OVERLAP
