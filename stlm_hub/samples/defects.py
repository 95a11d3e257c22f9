"""Painted defects for sample photographs: crack, stain, scratch, hole and fibre, each with an exact mask.

All lengths are fractions of the photograph's side or multiples of `unit`, which is 1/256 of the side. So a defect looks
the same at every size. Light comes from the upper left. Lines are drawn four times as large and averaged, against
jagged edges.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..errors import DataError

DEFECT_KINDS = ("crack", "stain", "scratch", "hole", "fibre")
TOLERANCE = 6 / 255
"""The mask holds the pixels of which some channel changes by more than this, on a scale of 0 to 1."""

_OVERSAMPLING = 4
_MIN_SPECK = 6  # area in unit^2; smaller islands of a mask are removed, smaller gaps closed
_MIN_AREA = 24  # area in unit^2; a smaller defect is painted again
_MIN_CHANGE = 18 / 255  # mean change inside the mask; a fainter defect is painted again
_MAX_TRIES = 100
_FIBRE_COLOURS = (
    (0.62, 0.10, 0.12),  # red
    (0.12, 0.22, 0.58),  # blue
    (0.90, 0.88, 0.84),  # white
    (0.06, 0.06, 0.07),  # black
    (0.10, 0.42, 0.22),  # green
)
_STAIN_COLOURS = (
    (0.42, 0.36, 0.30),  # oil
    (0.66, 0.50, 0.37),  # rust
    (0.55, 0.58, 0.60),  # water
)


def paint(image: np.ndarray, kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Paints one defect at a random place.

    Args:
        image: RGB float32 SxSx3 in [0, 1]; it is not modified.
        kind: one of `DEFECT_KINDS`.
        rng: source of place, form, size, strength and colour.

    Returns:
        The damaged photograph, RGB float32 SxSx3 in [0, 1], and its mask, bool SxS: pixels of which a channel changes
        by more than `TOLERANCE`, with gaps of a few pixels closed. The mask is never empty.

    Raises:
        DataError: a defect of this kind cannot be seen on the photograph, because that is black or white.
    """
    painter = {"crack": _crack, "stain": _stain, "scratch": _scratch, "hole": _hole, "fibre": _fibre}[kind]
    unit = image.shape[0] / 256
    for _ in range(_MAX_TRIES):
        damaged = np.clip(painter(image, rng), 0, 1).astype(np.float32)
        change = np.abs(damaged - image).max(axis=2)
        changed = change > TOLERANCE
        specks = _islands(changed, _MIN_SPECK * unit**2)
        damaged[specks] = image[specks]
        mask = changed & ~specks
        mask |= _islands(~mask, _MIN_SPECK * unit**2)
        if mask.sum() >= _MIN_AREA * unit**2 and change[mask].mean() >= _MIN_CHANGE:
            return damaged, mask
    raise DataError(f"No {kind} painted on this picture can be seen; use a picture that is neither black nor white.")


def _islands(mask: np.ndarray, area: float) -> np.ndarray:
    """Connected regions of a mask, bool SxS, that have fewer pixels than `area`."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    small = stats[:, cv2.CC_STAT_AREA] < area
    small[0] = False  # the background
    islands: np.ndarray = small[labels]
    return islands


def _crack(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A branching random walk: a dark gap with a lit edge on the side away from the light."""
    side = image.shape[0]
    unit = side / 256
    start = rng.uniform(0.2, 0.8, 2) * side
    heading = rng.uniform(0, 2 * np.pi)
    steps = int(rng.integers(22, 56))
    walks = [_walk(start, heading, steps, rng.uniform(1.6, 3.4) * unit, unit, rng)]
    trunk, widths = walks[0]
    widths[:5] *= np.linspace(0.3, 0.9, 5)  # the trunk starts thin; branches start inside a line
    for at in np.flatnonzero(rng.random(steps) < 0.07):
        turn = heading + rng.choice([-1, 1]) * rng.uniform(0.5, 1.1)
        walks.append(_walk(trunk[at], turn, int(rng.integers(6, 20)), 0.7 * widths[at], unit, rng))
    gap = np.max([_stroke(side, points, widths) for points, widths in walks], axis=0)
    depth = rng.uniform(0.6, 0.85)
    shade = cv2.GaussianBlur(gap, (0, 0), 1.6 * unit)
    edge = np.clip(_shift(cv2.GaussianBlur(gap, (0, 0), 0.6 * unit), 1.2 * unit) - gap, 0, 1)
    light = (1 - 0.25 * shade) * (1 - depth * gap)
    cracked: np.ndarray = image * light[..., None] + 0.22 * edge[..., None] * image
    return cracked


def _walk(
    start: np.ndarray, heading: float, steps: int, width: float, unit: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A random walk that thins towards its end: points (steps + 1)x2 as (x, y) and a width for each, in pixels."""
    bends = rng.normal(0, 0.42, steps)
    # The walk keeps its course: bends do not add up, only the small drift does.
    headings = heading + bends + np.cumsum(rng.normal(0, 0.1, steps))
    lengths = rng.uniform(2, 5, steps)[:, None] * unit
    moves = np.stack([np.cos(headings), np.sin(headings)], axis=1) * lengths
    points = np.concatenate([start[None], start + np.cumsum(moves, axis=0)])
    widths = width * np.linspace(1, 0.3, steps + 1) * rng.uniform(0.65, 1.25, steps + 1)
    return points, widths


def _stain(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An irregular soft blob that darkens and tints the surface, a little more at its rim."""
    side = image.shape[0]
    distance = _ellipse(side, rng, (0.07, 0.17)) + 0.28 * _noise(side, 9, rng) + 0.08 * _noise(side, 36, rng)
    softness = rng.uniform(0.12, 0.3)
    alpha = _smoothstep((1 + softness - distance) / (2 * softness))
    rim = np.exp(-(((distance - 1 + softness) / 0.16) ** 2))
    alpha = alpha * np.clip(0.8 + 0.2 * rim + 0.08 * _noise(side, 24, rng), 0, 1)
    colour = np.array(_STAIN_COLOURS[rng.integers(len(_STAIN_COLOURS))]) * rng.uniform(0.9, 1.15)
    strength = rng.uniform(0.65, 1)
    return image * (1 - (strength * alpha)[..., None] * (1 - colour))


def _scratch(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One to three long, thin, bright lines, nearly parallel and slightly curved, each with a dark edge."""
    side = image.shape[0]
    unit = side / 256
    fine = max(unit, 0.6)  # px; thinner lines would disappear between the pixels
    angle = rng.uniform(0, np.pi)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    middle = rng.uniform(0.35, 0.65, 2) * side
    result = image
    for _ in range(rng.integers(1, 4)):
        half = rng.uniform(0.14, 0.36) * side * (along + rng.normal(0, 0.04) * across)
        bow = rng.normal(0, 0.05) * side * across
        points = _bezier(np.stack([middle - half, middle + bow, middle + half]), 80)
        skips = np.interp(np.linspace(0, 23, 80), np.arange(24), rng.normal(0, 1, 24))
        pressure = np.clip(0.8 + 0.35 * skips, 0.15, 1.2)
        taper = np.minimum(1, np.linspace(0, 6, 80)) * np.minimum(1, np.linspace(6, 0, 80))
        line = _stroke(side, points, rng.uniform(0.9, 1.6) * fine * taper * (0.5 + 0.5 * pressure), pressure)
        lip = np.clip(_shift(line, fine) - line, 0, 1)
        alpha = (rng.uniform(0.6, 0.9) * line)[..., None]
        result = (result * (1 - 0.3 * lip)[..., None]) * (1 - alpha) + alpha * np.array([0.93, 0.91, 0.87])
        middle = middle + across * rng.uniform(4, 14) * unit * rng.choice([-1, 1]) + along * rng.normal(0, 10) * unit
    return result


def _hole(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A slightly irregular ellipse: dark inside, lit at the far wall and rim, shaded at the near rim."""
    side = image.shape[0]
    unit = side / 256
    distance = _ellipse(side, rng, (0.022, 0.06)) + 0.07 * _noise(side, 32, rng)
    inside = _smoothstep((1.06 - distance) / 0.12)
    soft = cv2.GaussianBlur(inside, (0, 0), 1.5 * unit)
    slope = _shift(soft, 1.5 * unit) - _shift(soft, -1.5 * unit)  # positive on the side away from the light
    rim = rng.uniform(0.5, 0.9) * slope * (1 - inside)
    floor = rng.uniform(0.12, 0.3) * cv2.GaussianBlur(image, (0, 0), 2 * unit)
    wall = inside - np.minimum(inside, _shift(inside, -rng.uniform(1.5, 3.5) * unit))  # the far wall catches the light
    wall = rng.uniform(0.25, 0.5) * cv2.GaussianBlur(wall, (0, 0), 0.7 * unit)
    bottom = floor + wall[..., None] * image
    outside = image * (1 - 0.2 * soft + rim)[..., None]
    pierced: np.ndarray = outside * (1 - inside[..., None]) + bottom * inside[..., None]
    return pierced


def _fibre(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A thin curled thread, lighter along its middle, that casts a soft shadow."""
    side = image.shape[0]
    unit = side / 256
    reach = rng.uniform(0.16, 0.34) * side
    centre = rng.uniform(0.3, 0.7, 2) * side
    headings = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 1.1, 6))
    controls = np.cumsum(np.stack([np.cos(headings), np.sin(headings)], axis=1), axis=0)
    points = _bezier(centre + (controls - controls.mean(axis=0)) * 0.55 * reach, 120)
    width = rng.uniform(1.5, 3.0) * unit
    thread = _stroke(side, points, np.full(120, width))
    shine = cv2.GaussianBlur(_stroke(side, points - 0.2 * width, np.full(120, 0.35 * width)), (0, 0), 0.4 * unit)
    shadow = cv2.GaussianBlur(_shift(thread, rng.uniform(1.5, 3.0) * unit), (0, 0), 1.1 * unit)
    colour = np.array(_FIBRE_COLOURS[rng.integers(len(_FIBRE_COLOURS))]) * rng.uniform(0.85, 1.1)
    below = image * (1 - 0.5 * shadow)[..., None]
    thread = 0.92 * thread[..., None]
    covered: np.ndarray = below * (1 - thread) + thread * (colour + 0.18 * shine[..., None])
    return covered


def _stroke(side: int, points: np.ndarray, widths: np.ndarray, strengths: np.ndarray | None = None) -> np.ndarray:
    """Coverage of a line, float32 SxS in [0, 1].

    Args:
        side: S in pixels.
        points: Nx2, (x, y) in pixels.
        widths: N widths in pixels.
        strengths: N opacities in [0, 1]; None draws the line opaque.
    """
    big = np.zeros((side * _OVERSAMPLING, side * _OVERSAMPLING), np.uint8)
    at = np.round(points * _OVERSAMPLING).astype(int)
    thick = np.maximum(1, np.round(widths * _OVERSAMPLING)).astype(int)
    grey = np.full(len(points), 255) if strengths is None else np.round(np.clip(strengths, 0, 1) * 255).astype(int)
    for index in range(len(points) - 1):
        cv2.line(big, at[index].tolist(), at[index + 1].tolist(), int(grey[index]), int(thick[index]))
    return cv2.resize(big, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _bezier(controls: np.ndarray, count: int) -> np.ndarray:
    """Points on the Bezier curve of Kx2 control points, count x 2 (de Casteljau's algorithm)."""
    t = np.linspace(0, 1, count)[:, None, None]
    level = np.repeat(controls[None], count, axis=0)
    while level.shape[1] > 1:
        level = level[:, :-1] * (1 - t) + level[:, 1:] * t
    return level[:, 0]


def _ellipse(side: int, rng: np.random.Generator, radii: tuple[float, float]) -> np.ndarray:
    """Distance from the centre of a random ellipse in units of its radius, float32 SxS: 1 on the outline.

    `radii`: range of the long radius as fractions of the side.
    """
    y, x = np.mgrid[:side, :side].astype(np.float32)
    centre = rng.uniform(0.2, 0.8, 2) * side
    angle = rng.uniform(0, np.pi)
    long = rng.uniform(*radii) * side
    short = long * rng.uniform(0.6, 1)
    along = (x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)
    across = (y - centre[1]) * np.cos(angle) - (x - centre[0]) * np.sin(angle)
    distance: np.ndarray = np.hypot(along / long, across / short).astype(np.float32)
    return distance


def _noise(side: int, cells: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise, float32 SxS, with a standard deviation near 1 and about `cells` bumps per side."""
    return cv2.resize(rng.normal(0, 1, (cells, cells)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)


def _smoothstep(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, a smooth S-curve between."""
    x = np.clip(x, 0, 1)
    smooth: np.ndarray = x * x * (3 - 2 * x)
    return smooth


def _shift(picture: np.ndarray, by: float) -> np.ndarray:
    """The picture moved right and down by `by` pixels, which is away from the light."""
    move = np.array([[1, 0, by], [0, 1, by]], np.float32)
    return cv2.warpAffine(picture, move, picture.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
