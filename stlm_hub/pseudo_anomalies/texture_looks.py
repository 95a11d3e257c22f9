"""Drawn textures: each look is a grey field in its own manner, coloured with a random palette."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from .perlin import perlin_noise

Look = Callable[[int, np.random.Generator], np.ndarray]


def draw_look(name: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draws one look in random colours.

    Args:
        name: a key of `LOOKS`.
        size: side in pixels.
        rng: decides everything.

    Returns:
        (size, size, 3) uint8 RGB.
    """
    grey = np.ascontiguousarray((np.clip(LOOKS[name](size, rng), 0.0, 1.0) * 255.0).astype(np.uint8))
    return cv2.LUT(cv2.merge([grey, grey, grey]), _palette(rng)[None])


def _palette(rng: np.random.Generator) -> np.ndarray:
    """A (256, 3) uint8 colour table: two to five random colours with straight lines between them."""
    colours = rng.uniform(0.0, 255.0, (int(rng.integers(2, 6)), 3))
    if rng.random() < 0.3:  # metal, paper and soot are grey
        colours[:] = colours.mean(axis=1, keepdims=True)
    # The two ends are far enough apart for the look to show.
    colours[0] *= 0.5
    colours[-1] = 255.0 - 0.5 * colours[-1]
    if rng.random() < 0.5:
        colours = colours[::-1]
    stops = np.linspace(0.0, 255.0, len(colours))
    table = np.stack([np.interp(np.arange(256), stops, colours[:, channel]) for channel in range(3)], axis=-1)
    return table.astype(np.uint8)


def _axes(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two perpendicular coordinates in sides of the picture, turned by a random angle around its middle."""
    line = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    angle = rng.uniform(0.0, math.pi)
    c, s = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    return c * line[None, :] + s * line[:, None], c * line[:, None] - s * line[None, :]


def _octaves(size: int, rng: np.random.Generator, *, ridged: bool = False) -> np.ndarray:
    """Fractal Perlin noise in [0, 1]; ridged noise sums absolute values, which makes creases."""
    cells = rng.uniform(1.5, 8.0)
    persistence = rng.uniform(0.35, 0.75)
    total = np.zeros((size, size), np.float32)
    for octave in range(5):
        noise = perlin_noise(size, (cells * 2**octave, cells * 2**octave), rng)
        total += (np.abs(noise) if ridged else noise) * np.float32(persistence**octave)
    return _normalised(total)


def _normalised(field: np.ndarray) -> np.ndarray:
    low, high = float(field.min()), float(field.max())
    return (field - low) / max(high - low, 1e-6)


def _wave(phase: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A sine, square or saw-tooth profile in [0, 1] with period 1."""
    kind = rng.integers(3)
    if kind == 0:
        return 0.5 + 0.5 * np.sin(2.0 * math.pi * phase)
    part: np.ndarray = phase - np.floor(phase)
    return (part < rng.uniform(0.2, 0.8)).astype(np.float32) if kind == 1 else part


def _fractal(size: int, rng: np.random.Generator) -> np.ndarray:
    return _octaves(size, rng)


def _turbulence(size: int, rng: np.random.Generator) -> np.ndarray:
    return _octaves(size, rng, ridged=True)


def _marble(size: int, rng: np.random.Generator) -> np.ndarray:
    along, _ = _axes(size, rng)
    phase = rng.uniform(2.0, 10.0) * along + rng.uniform(0.5, 3.0) * _octaves(size, rng)
    return 0.5 + 0.5 * np.sin(2.0 * math.pi * phase)


def _rings(size: int, rng: np.random.Generator) -> np.ndarray:
    x, y = _axes(size, rng)
    x, y = x + rng.uniform(-0.7, 0.7), (y + rng.uniform(-0.7, 0.7)) * rng.uniform(0.2, 1.0)
    wobble = perlin_noise(size, (4.0, 4.0), rng) * rng.uniform(0.0, 0.5)
    return _wave(rng.uniform(5.0, 25.0) * np.sqrt(x * x + y * y) + wobble, rng)


def _stripes(size: int, rng: np.random.Generator) -> np.ndarray:
    along, _ = _axes(size, rng)
    bend = perlin_noise(size, (3.0, 3.0), rng) * rng.uniform(0.0, 0.6)
    return _wave(rng.uniform(4.0, 40.0) * along + bend, rng)


def _grid(size: int, rng: np.random.Generator) -> np.ndarray:
    x, y = _axes(size, rng)
    frequency, thickness = rng.uniform(4.0, 24.0, 2), rng.uniform(0.1, 0.35)
    u, v = frequency[0] * x, frequency[1] * y
    lines: np.ndarray = ((u - np.floor(u) < thickness) | (v - np.floor(v) < thickness)).astype(np.float32)
    return lines


def _weave(size: int, rng: np.random.Generator) -> np.ndarray:
    x, y = _axes(size, rng)
    frequency = rng.uniform(6.0, 28.0)
    u, v = frequency * x, frequency * y
    over = (np.floor(u) + np.floor(v)) % 2 == 0
    return np.where(over, 0.3 + 0.7 * np.abs(np.sin(math.pi * u)), 0.7 * np.abs(np.sin(math.pi * v)))


def _checker(size: int, rng: np.random.Generator) -> np.ndarray:
    x, y = _axes(size, rng)
    frequency = rng.uniform(3.0, 24.0, 2)
    squares: np.ndarray = ((np.floor(frequency[0] * x) + np.floor(frequency[1] * y)) % 2).astype(np.float32)
    return squares


def _gradient(size: int, rng: np.random.Generator) -> np.ndarray:
    x, y = _axes(size, rng)
    if rng.random() < 0.5:
        return _normalised(x * np.ones_like(y))
    return _normalised(np.hypot(x + rng.uniform(-0.5, 0.5), y + rng.uniform(-0.5, 0.5)))


def _grain(size: int, rng: np.random.Generator) -> np.ndarray:
    coarse = max(2, round(size / rng.uniform(1.0, 4.0)))
    noise = rng.random((coarse, coarse), np.float32)
    return cv2.resize(noise, (size, size), interpolation=cv2.INTER_NEAREST if rng.random() < 0.5 else cv2.INTER_CUBIC)


def _cells(size: int, rng: np.random.Generator) -> np.ndarray:
    distance, cell, shades = _voronoi(size, rng)
    flat = shades[cell]
    shaded: np.ndarray = np.clip(flat - distance * rng.uniform(0.0, 0.6), 0.0, 1.0)
    return shaded


def _cracks(size: int, rng: np.random.Generator) -> np.ndarray:
    _, cell, shades = _voronoi(size, rng)
    thickness = 1 + 2 * int(rng.integers(1, max(2, round(size / 90)) + 1))
    edges = cv2.morphologyEx(shades[cell], cv2.MORPH_GRADIENT, np.ones((thickness, thickness), np.uint8)) > 0.0
    return np.where(edges, 0.0, 0.6 + 0.4 * shades[cell])


def _voronoi(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distance to the nearest of some random points in [0, 1], that point's number, and a shade for each number."""
    count = int(np.exp(rng.uniform(np.log(12.0), np.log(400.0))))
    seeds = np.ones((size, size), np.uint8)
    seeds[rng.integers(0, size, count), rng.integers(0, size, count)] = 0
    distance, cell = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    return _normalised(distance), cell, rng.random(count + 1, np.float32)


def _spots(size: int, rng: np.random.Generator) -> np.ndarray:
    field = np.full((size, size), rng.uniform(0.0, 0.3), np.float32)
    largest = rng.uniform(0.01, 0.12)
    for _ in range(int(rng.integers(20, 150))):
        centre = (int(rng.integers(size)), int(rng.integers(size)))
        radius = max(1, round(size * largest * rng.uniform(0.3, 1.0)))
        axes = (radius, max(1, round(radius * rng.uniform(0.4, 1.0))))
        cv2.ellipse(field, centre, axes, rng.uniform(0.0, 180.0), 0.0, 360.0, rng.uniform(0.4, 1.0), -1, cv2.LINE_AA)
    return cv2.GaussianBlur(field, (0, 0), size * rng.uniform(0.003, 0.02)) if rng.random() < 0.5 else field


def _scratches(size: int, rng: np.random.Generator) -> np.ndarray:
    field = 0.3 * perlin_noise(size, (3.0, 3.0), rng) + 0.3
    main = rng.uniform(0.0, math.pi)
    spread = rng.choice([0.1, 0.5, math.pi])
    for _ in range(int(rng.integers(30, 120))):
        angle, length = main + rng.uniform(-spread, spread), size * rng.uniform(0.05, 0.6)
        start = rng.uniform(-0.2, 1.2, 2) * size
        end = start + length * np.array([math.cos(angle), math.sin(angle)])
        thickness = int(rng.integers(1, max(2, round(size / 96)) + 1))
        ends = [(round(float(point[0])), round(float(point[1]))) for point in (start, end)]
        cv2.line(field, ends[0], ends[1], rng.uniform(0.0, 1.0), thickness)
    return field


def _shards(size: int, rng: np.random.Generator) -> np.ndarray:
    field = np.full((size, size), rng.random(), np.float32)
    reach = size * rng.uniform(0.08, 0.4)
    for _ in range(int(rng.integers(25, 90))):
        centre = rng.uniform(0.0, size, 2)
        corners = centre + rng.uniform(-reach, reach, (int(rng.integers(3, 6)), 2))
        cv2.fillPoly(field, [corners.round().astype(np.int32)], rng.random())
    return field


LOOKS: dict[str, Look] = {
    "fractal": _fractal,
    "turbulence": _turbulence,
    "marble": _marble,
    "rings": _rings,
    "stripes": _stripes,
    "grid": _grid,
    "weave": _weave,
    "checker": _checker,
    "gradient": _gradient,
    "grain": _grain,
    "cells": _cells,
    "cracks": _cracks,
    "spots": _spots,
    "scratches": _scratches,
    "shards": _shards,
}
