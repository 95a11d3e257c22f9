"""A folder of normal photographs -> training samples, and the photographs held out for calibration.

Every sample is a function of (seed, epoch, index, window or whole): nothing is drawn from a global random state, so a
resumed run, another number of workers or another process sees the same samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..calibration.threshold import MIN_HELD_OUT
from ..predict.frame import resize_image
from ..predict.images import load_image
from .config import TrainingConfig
from .crop import draw_window
from .pseudo_anomalies.foreground import foreground
from .pseudo_anomalies.synthesis import synthesize
from .pseudo_anomalies.textures import TextureSource

SLIGHT_DEGREES = 5.0
PIXEL_CACHE_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Split:
    """Photographs to train on and photographs to calibrate on; no photograph is in both."""

    train: list[Path]
    held_out: list[Path]


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


class Place(NamedTuple):
    """Which sample: of an epoch, a photograph by its number, or a window of that (`TrainingConfig.crop`)."""

    epoch: int
    photograph: int
    windowed: bool = False


class NormalPhotographs(Dataset[dict[str, Any]]):
    """Training samples.

    Args:
        paths: normal photographs.
        image_size: side of the square samples in pixels.
        config: augmentation, pseudo anomalies, seed.
        textures: material to paste.
    """

    def __init__(self, paths: Sequence[Path], image_size: int, config: TrainingConfig, textures: TextureSource) -> None:
        self.paths, self.image_size, self.config, self.textures = list(paths), image_size, config, textures
        self._pixels: dict[int, np.ndarray] = {}
        self._parts: dict[str, np.ndarray] = {}
        self._keep = len(self.paths) * image_size * image_size * 3 <= PIXEL_CACHE_BYTES

    def __len__(self) -> int:
        return len(self.paths)

    def photograph(self, index: int) -> np.ndarray:
        """One photograph at the model's size: (S, S, 3) uint8 RGB."""
        if index in self._pixels:
            return self._pixels[index]
        pixels = resize_image(load_image(self.paths[index]), self.image_size)
        if self._keep:
            self._pixels[index] = pixels
        return pixels

    def part(self, image: np.ndarray, key: str) -> np.ndarray:
        """(S, S) bool, `foreground` of a photograph; kept under the key that `rotate` gives it."""
        if key in self._parts:
            return self._parts[key]
        found = foreground(image)
        if self._keep and key:
            self._parts[key] = found
        return found

    def __getitem__(self, place: tuple[int, int] | tuple[int, int, bool]) -> dict[str, Any]:
        """
        Args:
            place: fields of `Place`.

        Returns:
            clean and pseudo: (3, S, S) uint8 tensors, S the model's size or that of a window; mask: (1, S, S) uint8 of
            0 and 1; pasted: whether the two differ; key: names the clean image where it can come back unchanged in a
            later epoch, else ""; window: its `Window.shares`, None for a whole photograph.
        """
        epoch, index, windowed = Place(*place)
        rng = np.random.Generator(np.random.Philox(key=[self.config.seed, epoch * len(self.paths) + index]))
        clean, key = rotate(self.photograph(index), self.config.rotation, rng, str(index))
        other = None
        if "nsa" in self.config.synthesis.families and len(self.paths) > 1:
            another = (index + int(rng.integers(1, len(self.paths)))) % len(self.paths)
            other = self.photograph(another)
        part, window = None, None
        if windowed:
            part = self.part(clean, key)  # of the whole photograph: a window has no plain edge
            window = draw_window(part, self.config.crop, rng)
            clean, part, key = window.cut(clean), window.cut(part), ""
            if other is not None:
                other = draw_window(self.part(other, str(another)), self.config.crop, rng).cut(other)
        pseudo, mask = synthesize(clean, rng, self.config.synthesis, self.textures, other, part)
        return {
            "clean": _tensor(clean),
            "pseudo": _tensor(pseudo),
            "mask": torch.from_numpy(np.ascontiguousarray(mask)).unsqueeze(0),
            "pasted": bool(mask.any()),
            "key": key,
            "window": None if window is None else window.shares(),
        }


def rotate(image: np.ndarray, how: str, rng: np.random.Generator, key: str) -> tuple[np.ndarray, str]:
    """Turns a photograph by a random angle as `TrainingConfig.rotation` says.

    Returns:
        The image, and the key of what came out: empty where the angle is continuous and will not come back.
    """
    if how in ("quarter", "full"):
        turns = int(rng.integers(4))
        image, key = np.ascontiguousarray(np.rot90(image, turns)), f"{key}/{turns}"
    if how in ("slight", "full"):
        side = image.shape[0]
        matrix = cv2.getRotationMatrix2D(
            ((side - 1) / 2, (side - 1) / 2), rng.uniform(-SLIGHT_DEGREES, SLIGHT_DEGREES), 1.0
        )
        image, key = cv2.warpAffine(image, matrix, (side, side), borderMode=cv2.BORDER_REFLECT_101), ""
    return image, key


def _tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


class StepSampler:
    """Endless batches of `Place`, each epoch a new permutation; a run can start at any step.

    Args:
        n: number of photographs.
        batch_size: photographs a process.
        first_step: where to start.
        last_step: where to end.
        rank, processes: which share of each step's photographs is this process's.
        whole_from: the first step that sees whole photographs.
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
        whole_from: int = 0,
    ) -> None:
        self.n, self.batch_size, self.seed, self.whole_from = n, batch_size, seed, whole_from
        self.first_step, self.last_step, self.rank, self.processes = first_step, last_step, rank, processes

    def __len__(self) -> int:
        return self.last_step - self.first_step

    def __iter__(self) -> Iterator[list[Place]]:
        permutations: dict[int, np.ndarray] = {}
        for step in range(self.first_step, self.last_step):
            start = (step * self.processes + self.rank) * self.batch_size
            batch = []
            for position in range(start, start + self.batch_size):
                epoch, place = divmod(position, self.n)
                if epoch not in permutations:
                    permutations = {e: p for e, p in permutations.items() if e >= epoch - 1}
                    permutations[epoch] = np.random.default_rng([self.seed, epoch]).permutation(self.n)
                batch.append(Place(epoch, int(permutations[epoch][place]), step < self.whole_from))
            yield batch


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Samples -> batch: image tensors Bx3xSxS uint8, mask Bx1xSxS uint8, lists of `pasted` and `key`, windows Bx4.

    All of a batch are windows, or none is and its "windows" are None.
    """
    batch: dict[str, Any] = {name: torch.stack([s[name] for s in samples]) for name in ("clean", "pseudo", "mask")}
    windows = [s["window"] for s in samples]
    batch["windows"] = None if windows[0] is None else torch.stack(windows)
    return batch | {name: [s[name] for s in samples] for name in ("pasted", "key")}
