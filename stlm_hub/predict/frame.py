"""Resizing: photographs to the frame of the network, maps back to the frame of a photograph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:  # an exported model judges without torch
    import torch
    from torch import Tensor


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """HxWx3 uint8 -> hxwx3 uint8 for `size` (h, w): area means if it shrinks, which do not alias, else bilinear."""
    if image.shape[:2] == size:
        return image
    shrinks = image.shape[0] >= size[0] and image.shape[1] >= size[1]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def to_input(images: Sequence[np.ndarray], size: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """HxWx3 uint8 RGB each, of any size -> Bx3xhxw float32 in [0, 255] for `size` (h, w)."""
    import torch

    from ..models.acceleration import loaded

    pixels = np.stack([resize_image(image, size) for image in images]).transpose(0, 3, 1, 2)
    return loaded(torch.from_numpy(np.ascontiguousarray(pixels)), device)


def to_frame(anomaly_map: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """hxw float32 at the network's size -> HxW float32 in [0, 1] for the `shape` (H, W) of a photograph, bilinear."""
    if anomaly_map.shape == tuple(shape):
        return anomaly_map
    return cv2.resize(anomaly_map, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR).clip(0.0, 1.0)
