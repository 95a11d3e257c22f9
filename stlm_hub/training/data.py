"""A folder of normal photographs -> training samples, and the photographs held out for calibration.

Every sample is a function of (seed, epoch, index). Nothing depends on a global random state, so samples are the same
in a resumed run, with another number of workers and in another process.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..calibration.threshold import MIN_HELD_OUT
from ..models.stlm.config import NetworkConfig
from ..models.stlm.region import OUTSIDE
from ..models.stlm.tiles import places
from ..predict.frame import resize_image
from ..predict.images import read_picture
from ..pseudo_anomalies.nuisance import disturb
from ..pseudo_anomalies.synthesis import synthesize
from ..pseudo_anomalies.textures import TextureSource
from .config import TrainingConfig

SLIGHT_DEGREES = 5.0
DISTURBED_SHARE = 0.5  # of the samples; the others come back unchanged, so their teacher features are reused
PIXEL_CACHE_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Split:
    """Photographs to train on, and photographs held out for calibration; none is in both."""

    train: list[Path]
    held_out: list[Path]

    @property
    def photographs(self) -> list[Path]:
        """All photographs, those to train on first."""
        return self.train + self.held_out


def split_normals(paths: Sequence[Path], share: float, seed: int, *, at_least: int = MIN_HELD_OUT) -> Split:
    """Holds out a random share of the normal photographs.

    The choice depends only on the file names, their number and the seed, so every command of a run makes the same one.

    Args:
        paths: of all photographs, at least 2.
        share: to hold out, in (0, 1).
        seed: of the choice.
        at_least: number to hold out at the least; one photograph always remains to train on.
    """
    paths = sorted(paths, key=lambda path: path.name)
    order = np.random.default_rng([seed, len(paths)]).permutation(len(paths))
    n = min(max(at_least, round(share * len(paths))), len(paths) - 1)
    held_out = {int(i) for i in order[:n]}
    return Split(
        train=[path for i, path in enumerate(paths) if i not in held_out],
        held_out=[paths[i] for i in sorted(held_out)],
    )


class NormalPhotographs(Dataset[dict[str, Any]]):
    """Training samples.

    Args:
        paths: normal photographs.
        network: decides the size of samples. If it cuts photographs into tiles, a sample is a random tile.
        config: augmentation, pseudo anomalies, seed.
        textures: material to paste.
        region: HxW bool of the frame; the outside is covered and never damaged. None: all of the frame counts.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        network: NetworkConfig,
        config: TrainingConfig,
        textures: TextureSource,
        region: np.ndarray | None = None,
    ) -> None:
        self.paths, self.network, self.config, self.textures = list(paths), network, config, textures
        self.region = region
        height, width = network.input_size
        self._tiles = [(slice(y, y + height), slice(x, x + width)) for y, x in places(network)]
        self._pixels: dict[int, np.ndarray] = {}
        self._keep = len(self.paths) * math.prod(network.frame_size) * 3 <= PIXEL_CACHE_BYTES

    def __len__(self) -> int:
        return len(self.paths)

    def photograph(self, index: int) -> np.ndarray:
        """One photograph, resized to the model's frame: HxWx3 uint8 RGB. It is kept in memory if all fit."""
        if index in self._pixels:
            return self._pixels[index]
        pixels = resize_image(read_picture(self.paths[index], bits=self.config.bits).image, self.network.frame_size)
        if self._keep:
            self._pixels[index] = pixels
        return pixels

    def __getitem__(self, place: tuple[int, int]) -> dict[str, Any]:
        """
        Args:
            place: epoch, and index of the photograph.

        Returns:
            "clean" and "pseudo": 3xhxw uint8 tensors. "mask": 1xhxw uint8 of 0 and 1. "pasted": whether the images
            differ. "key": names a clean image that can come back unchanged in a later epoch, else "".
        """
        epoch, index = place
        rng = np.random.Generator(np.random.Philox(key=[self.config.seed, epoch * len(self.paths) + index]))
        clean, key = rotate(self.photograph(index), self.config.rotation, rng, str(index))
        number = 0
        if len(self._tiles) > 1:
            number = int(rng.integers(len(self._tiles)))
            key = key and f"{key}:{number}"
        tile = self._tiles[number]
        clean = clean[tile]
        if self.config.nuisance is not None and rng.random() < DISTURBED_SHARE:
            clean, key = disturb(clean, rng, self.config.nuisance), ""
        if self.region is not None:
            clean = np.where(self.region[tile][..., None], clean, np.array(OUTSIDE, np.uint8))
        other = None  # a photograph to paste from
        if "nsa" in self.config.synthesis.families and len(self.paths) > 1:
            other_index = (index + int(rng.integers(1, len(self.paths)))) % len(self.paths)
            other = self.photograph(other_index)[tile]
        pseudo, mask = synthesize(clean, rng, self.config.synthesis, self.textures, other)
        if self.region is not None:
            mask = mask * self.region[tile]
            pseudo = np.where(mask[..., None] > 0, pseudo, clean)
        return {
            "clean": _tensor(clean),
            "pseudo": _tensor(pseudo),
            "mask": torch.from_numpy(np.ascontiguousarray(mask)).unsqueeze(0),
            "pasted": bool(mask.any()),
            "key": key,
        }


def rotate(image: np.ndarray, how: str, rng: np.random.Generator, key: str) -> tuple[np.ndarray, str]:
    """Turns a photograph by a random angle. One that is not square is turned by half a turn in the place of a quarter.

    Args:
        image: HxWx3 uint8.
        how: see `TrainingConfig.rotation`.
        rng: decides the angle.
        key: names the photograph.

    Returns:
        The image in the same size, and a key that names it; "": the angle is continuous, so it will not come back.
    """
    if how in ("quarter", "full"):
        turns = int(rng.integers(4)) if image.shape[0] == image.shape[1] else 2 * int(rng.integers(2))
        image, key = np.ascontiguousarray(np.rot90(image, turns)), f"{key}/{turns}"
    if how in ("slight", "full"):
        height, width = image.shape[:2]
        matrix = cv2.getRotationMatrix2D(
            ((width - 1) / 2, (height - 1) / 2), rng.uniform(-SLIGHT_DEGREES, SLIGHT_DEGREES), 1.0
        )
        image, key = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101), ""
    return image, key


def _tensor(image: np.ndarray) -> Tensor:
    """HxWx3 array -> 3xHxW tensor."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


class StepSampler:
    """Batches of (epoch, index of a photograph), with a new permutation in each epoch. A run can start at any step.

    Args:
        n: number of photographs.
        batch_size: photographs a step in each process.
        seed: of the permutations.
        first_step: to begin with.
        last_step: to end before.
        rank, processes: index of this process, and number of all; each has its own share of a step.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        seed: int,
        first_step: int,
        last_step: int,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.first_step, self.last_step, self.rank, self.processes = first_step, last_step, rank, processes

    def __len__(self) -> int:
        return self.last_step - self.first_step

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        permutations: dict[int, np.ndarray] = {}
        for step in range(self.first_step, self.last_step):
            start = (step * self.processes + self.rank) * self.batch_size
            batch = []
            for position in range(start, start + self.batch_size):
                epoch, rank_in_epoch = divmod(position, self.n)
                if epoch not in permutations:
                    permutations = {e: p for e, p in permutations.items() if e >= epoch - 1}
                    permutations[epoch] = np.random.default_rng([self.seed, epoch]).permutation(self.n)
                batch.append((epoch, int(permutations[epoch][rank_in_epoch])))
            yield batch


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Samples -> batch: image tensors Bx3xhxw uint8, mask Bx1xhxw uint8, lists of `pasted` and `key`."""
    batch: dict[str, Any] = {name: torch.stack([s[name] for s in samples]) for name in ("clean", "pseudo", "mask")}
    return batch | {name: [s[name] for s in samples] for name in ("pasted", "key")}
