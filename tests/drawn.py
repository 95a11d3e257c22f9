"""What the tests of several rooms draw: photographs, tensors, and models that judge in another way."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stlm_hub.stlm import STLM


def grey(value: int, height: int = 64, width: int = 64) -> np.ndarray:
    """HxWx3 uint8 of one value."""
    return np.full((height, width, 3), value, np.uint8)


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """HxWx3 uint8, smooth blobs of any colour."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def write_photographs(folder: Path, n: int, height: int = 70, width: int = 90) -> list[Path]:
    """Writes `n` different photographs, part_0.png and so on."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"part_{i}.png" for i in range(n)]
    for i, path in enumerate(paths):
        Image.fromarray(texture(height, width, seed=100 + i)).save(path)
    return paths


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Normally distributed values, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pixels(height: int = 64, width: int = 64, n: int = 1, seed: int = 0) -> Tensor:
    """nx3xHxW float32 in [0, 255]: what a network takes."""
    return torch.randint(0, 256, (n, 3, height, width), generator=torch.Generator().manual_seed(seed)).float()


def judging_by(model: STLM, **changes: Any) -> STLM:
    """The same weights, which are shared, under another `Judging`."""
    other = copy.copy(model)
    other.judging = model.judging.replace(**changes)
    return other
