"""Damage that no model is trained on: scratches, stains, dents and missing pieces on good photographs.

Calibration asks how high a model scores them. A map that was trained on other families gets no credit for knowing
their look, which it would have on the training's own.
"""

from __future__ import annotations

import cv2
import numpy as np

from .erase import erase
from .foreground import foreground
from .square import put_back, random_square

VISIBLE = 8.0
"""Grey levels that a probe changes at least, as the mean over its pixels; weaker ones are drawn again."""
MAX_DRAWS = 20


def probe(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Damages a good photograph, on the part where it stands out from a plain background.

    Args:
        image: HxWx3 uint8 RGB, normal; where it is no square, a random one is damaged.
        rng: decides everything.

    Returns:
        The damaged image, HxWx3 uint8, and its mask, HxW uint8 of 0 and 1.
    """
    square = random_square(image.shape, rng)
    return put_back(image, square, *_damaged(np.ascontiguousarray(image[square]), rng))


def probe_inside(
    image: np.ndarray, inside: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """`probe`, drawn again until at least half of the damage lies inside, or `MAX_DRAWS` times.

    Args:
        inside: HxW bool, the part of the photograph that counts; None: all of it.
    """
    for _ in range(MAX_DRAWS):
        damaged, mask = probe(image, rng)
        if inside is None or 2 * (mask * inside).sum() >= mask.sum():
            break
    return damaged, mask


def _damaged(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    kind = (scratch, stain, dent, _missing)[rng.integers(4)]
    places = np.argwhere(foreground(image))
    for _ in range(MAX_DRAWS):
        row, column = places[rng.integers(len(places))]
        result, mask = kind(image, rng, (int(row), int(column)))
        if mask.any() and cv2.absdiff(result, image).max(axis=2)[mask > 0].mean() >= VISIBLE:
            break
    return result, mask


def scratch(image: np.ndarray, rng: np.random.Generator, place: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A thin bent line, darker or lighter than where it starts. See `probe`."""
    size = image.shape[0]
    direction, length, bends = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.25) * size, int(rng.integers(3, 6))
    points = [(float(place[1]), float(place[0]))]
    for _ in range(bends):
        direction += rng.normal(0.0, 0.35)
        x, y = points[-1]
        points.append((x + np.cos(direction) * length / bends, y + np.sin(direction) * length / bends))
    drawn = np.zeros((size, size), np.uint8)
    thickness = max(1, round(rng.uniform(1.0, 3.0) * size / 256))
    cv2.polylines(drawn, [np.array(points).round().astype(np.int32)], False, 255, thickness, cv2.LINE_AA)
    colour = image[place].astype(np.float32) + _sign(rng) * rng.uniform(40, 110)
    return _mixed(image, colour.clip(0, 255), drawn / 255 * rng.uniform(0.5, 1.0))


def stain(image: np.ndarray, rng: np.random.Generator, place: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A soft-edged ellipse in which the surface is darker, lighter or tinted. See `probe`."""
    size = image.shape[0]
    radius, flat, angle = rng.uniform(0.02, 0.10) * size, rng.uniform(0.5, 1.0), rng.uniform(0, np.pi)
    x, y = _offsets(size, place)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    opacity = 1 / (1 + np.exp((8 * (np.hypot(along, across / flat) / radius - 1)).clip(max=14)))
    gain = 1 + _sign(rng) * rng.uniform(0.2, 0.5) * rng.uniform(0.5, 1.5, 3)
    return _mixed(image, (image * gain.clip(0.2, 1.8)).clip(0, 255), opacity)


def dent(image: np.ndarray, rng: np.random.Generator, place: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A disc that is squeezed towards its middle or blown up. See `probe`."""
    size = image.shape[0]
    x, y = _offsets(size, place)
    inside = (1 - np.hypot(x, y) / (rng.uniform(0.05, 0.15) * size)).clip(0)
    pull = inside**2 * _sign(rng) * rng.uniform(0.4, 0.8)
    columns, rows = x * (1 - pull) + place[1], y * (1 - pull) + place[0]
    moved = cv2.remap(
        image, columns.astype(np.float32), rows.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return moved, (inside > 0.1).astype(np.uint8)


def _missing(image: np.ndarray, rng: np.random.Generator, place: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    return erase(image, rng)  # looks itself for a place where something is lost


def _mixed(image: np.ndarray, other: np.ndarray, opacity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    share = opacity[..., None].astype(np.float32)
    return (image * (1 - share) + other * share).clip(0, 255).round().astype(np.uint8), (opacity > 0.3).astype(np.uint8)


def _offsets(size: int, place: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
    return columns - place[1], rows - place[0]


def _sign(rng: np.random.Generator) -> float:
    return 1.0 if rng.random() < 0.5 else -1.0
