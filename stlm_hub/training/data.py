"""A folder of normal photographs -> training samples, and the photographs held out for calibration.

Every sample is a function of (seed, epoch, index): nothing is drawn from a global random state, so a resumed run,
another number of workers or another process sees the same samples.
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
DISTURBED_SHARE = 0.5  # of the samples; the others come back unchanged, so that their teacher features are kept
PIXEL_CACHE_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Split:
    """Photographs to train on and photographs to calibrate on; no photograph is in both."""

    train: list[Path]
    held_out: list[Path]

    @property
    def photographs(self) -> list[Path]:
        """Both, those to train on first."""
        return self.train + self.held_out


def split_normals(paths: Sequence[Path], share: float, seed: int, *, at_least: int = MIN_HELD_OUT) -> Split:
    """Holds a random share of the normal photographs out, at least `at_least` of them.

    The choice depends on the file names, their number and the seed only, so that every command of one run agrees on it.
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
        network: whose input the samples are: of tiles a random one of a photograph.
        config: augmentation, pseudo anomalies, seed.
        textures: material to paste.
        region: HxW bool of the frame, outside which nothing is seen or damaged; None: there is none.
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
        """One photograph in the model's frame: (H, W, 3) uint8 RGB."""
        if index in self._pixels:
            return self._pixels[index]
        pixels = resize_image(read_picture(self.paths[index], bits=self.config.bits).image, self.network.frame_size)
        if self._keep:
            self._pixels[index] = pixels
        return pixels

    def __getitem__(self, place: tuple[int, int]) -> dict[str, Any]:
        """
        Args:
            place: epoch, and number of the photograph.

        Returns:
            clean and pseudo: (3, h, w) uint8 tensors; mask: (1, h, w) uint8 of 0 and 1; pasted: whether the two differ;
            key: names the clean image where it can come back unchanged in a later epoch, else "".
        """
        epoch, index = place
        rng = np.random.Generator(np.random.Philox(key=[self.config.seed, epoch * len(self.paths) + index]))
        clean, key = rotate(self.photograph(index), self.config.rotation, rng, str(index))
        tile = 0
        if len(self._tiles) > 1:
            tile = int(rng.integers(len(self._tiles)))
            key = key and f"{key}:{tile}"
        clean = clean[self._tiles[tile]]
        if self.config.nuisance is not None and rng.random() < DISTURBED_SHARE:
            clean, key = disturb(clean, rng, self.config.nuisance), ""
        if self.region is not None:
            clean = np.where(self.region[self._tiles[tile]][..., None], clean, np.array(OUTSIDE, np.uint8))
        other = None
        if "nsa" in self.config.synthesis.families and len(self.paths) > 1:
            other = self.photograph((index + int(rng.integers(1, len(self.paths)))) % len(self.paths))[
                self._tiles[tile]
            ]
        pseudo, mask = synthesize(clean, rng, self.config.synthesis, self.textures, other)
        if self.region is not None:
            mask = mask * self.region[self._tiles[tile]]
            pseudo = np.where(mask[..., None] > 0, pseudo, clean)
        return {
            "clean": _tensor(clean),
            "pseudo": _tensor(pseudo),
            "mask": torch.from_numpy(np.ascontiguousarray(mask)).unsqueeze(0),
            "pasted": bool(mask.any()),
            "key": key,
        }


def rotate(image: np.ndarray, how: str, rng: np.random.Generator, key: str) -> tuple[np.ndarray, str]:
    """Turns a photograph by a random angle as `TrainingConfig.rotation` says; one that is no square by no quarter.

    Returns:
        The image, and the key of what came out: empty where the angle is continuous and will not come back.
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
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


class StepSampler:
    """Batches of (epoch, number of the photograph), each epoch a new permutation; a run can start at any step.

    Args:
        n: number of photographs.
        batch_size: photographs a process.
        first_step: where to start.
        last_step: where to end, excluded.
        rank, processes: which share of each step's photographs is this process's.
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
                epoch, place = divmod(position, self.n)
                if epoch not in permutations:
                    permutations = {e: p for e, p in permutations.items() if e >= epoch - 1}
                    permutations[epoch] = np.random.default_rng([self.seed, epoch]).permutation(self.n)
                batch.append((epoch, int(permutations[epoch][place])))
            yield batch


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Samples -> batch: image tensors Bx3xhxw uint8, mask Bx1xhxw uint8, lists of `pasted` and `key`."""
    batch: dict[str, Any] = {name: torch.stack([s[name] for s in samples]) for name in ("clean", "pseudo", "mask")}
    return batch | {name: [s[name] for s in samples] for name in ("pasted", "key")}
