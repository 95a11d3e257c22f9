"""What a process of `benchmarks/quality.py` is told to do, as JSON, and what it can do to see its own memory."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from stlm_hub.predict.frame import resize_image
from stlm_hub.predict.images import load_image

Progress: TypeAlias = Callable[[int, int], None]
"""Told (done, total)."""

Predict: TypeAlias = Callable[[np.ndarray], tuple[np.ndarray, float]]
"""HxWx3 uint8 RGB -> anomaly map HxW float32 in the photograph's frame, and anomaly score; higher is more anomalous."""


@dataclass(frozen=True)
class Job:
    """One step of one method.

    Args:
        method: see `quality_report.TITLES`.
        step: "fit" reads photographs and writes `model`, "predict" reads `model` and writes maps.
        model: the file or folder that would be shipped; for "fit" it does not exist yet.
        photographs: normal ones to fit on, or the ones to judge.
        size: side of the network's input in pixels; a multiple of 64.
        threads: of every library that has a setting for them.
        seed: of whatever the method draws.
        share: of the patches that a memory keeps.
        maps: folder that "predict" writes 0000.npy, ... to.
    """

    method: str
    step: str
    model: str
    photographs: list[str]
    size: int
    threads: int
    seed: int
    share: float | None
    maps: str = ""

    def write(self, path: Path) -> Path:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return path

    @classmethod
    def read(cls, path: Path) -> Job:
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def images(self, progress: Progress, further: int = 0) -> Iterator[Tensor]:
        """The photographs at the network's size, decoded one after the other: 1x3xSxS float32 in [0, 255].

        Args:
            progress: told after each.
            further: units of work that come after the last.
        """
        for done, path in enumerate(self.photographs, start=1):
            yield as_tensor(load_image(path), self.size)
            progress(done, len(self.photographs) + further)


def as_tensor(image: np.ndarray, size: int) -> Tensor:
    """HxWx3 uint8 -> 1x3xSxS float32 in [0, 255], resized as STLM's own photographs are."""
    pixels = resize_image(image, size).transpose(2, 0, 1)[None]
    return torch.from_numpy(np.ascontiguousarray(pixels)).float()


def resident_bytes() -> int:
    """Memory of this process that is in use now; where the system does not tell, the highest so far."""
    return _status("VmRSS")


def forget_peak() -> None:
    """Starts the measurement of the peak anew, where Linux allows it; elsewhere the peak is of the whole process."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_bytes() -> int:
    """The highest `resident_bytes` since `forget_peak`.

    Not `ru_maxrss`: Linux lets a process inherit that from the one that started it, however small it is itself.
    """
    return _status("VmHWM")


def _status(field: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
