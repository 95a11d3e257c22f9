"""The job of a process that `benchmarks/quality.py` starts, and how such a process measures its own memory."""

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
"""Called with (done, total) after each unit of work."""

Predict: TypeAlias = Callable[[np.ndarray], tuple[np.ndarray, float]]
"""HxWx3 uint8 RGB -> anomaly map HxW float32 in the photograph's frame, and anomaly score; higher is more anomalous."""


@dataclass(frozen=True)
class Job:
    """One step of one method: fit or predict.

    Args:
        method: name of the method, see `quality_report.TITLES`.
        step: "fit" reads photographs and writes `model`; "predict" reads `model` and writes maps.
        model: file or folder that would be deployed. It does not exist before "fit".
        photographs: normal photographs to fit on, or photographs to judge.
        size: side of the network's input in pixels, a multiple of 64.
        threads: number of threads of every library in which it can be set.
        seed: seed of all random choices.
        share: share of the patches that a memory keeps, in (0, 1]; None for methods without one.
        maps: folder in which "predict" writes 0000.npy, 0001.npy, ...
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
        """Writes the job as JSON and returns the path."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return path

    @classmethod
    def read(cls, path: Path) -> Job:
        """Reads what `write` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def images(self, progress: Progress, further: int = 0) -> Iterator[Tensor]:
        """Yields the photographs at the network's size, one at a time: 1x3xSxS float32 in [0, 255].

        Args:
            progress: called after each photograph.
            further: units of work that follow the last photograph; they count in the total.
        """
        for done, path in enumerate(self.photographs, start=1):
            yield as_tensor(load_image(path), self.size)
            progress(done, len(self.photographs) + further)


def as_tensor(image: np.ndarray, size: int) -> Tensor:
    """HxWx3 uint8 -> 1x3xSxS float32 in [0, 255], resized as STLM resizes its input."""
    pixels = resize_image(image, (size, size)).transpose(2, 0, 1)[None]
    return torch.from_numpy(np.ascontiguousarray(pixels)).float()


def resident_bytes() -> int:
    """Resident memory of this process now, in bytes. Systems without /proc report the highest so far instead."""
    return _status("VmRSS")


def forget_peak() -> None:
    """Resets the peak of the memory where Linux allows it. Elsewhere the peak covers the whole process."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_bytes() -> int:
    """Highest resident memory since `forget_peak`, in bytes.

    Not `ru_maxrss`: under Linux a process inherits it from the process that started it.
    """
    return _status("VmHWM")


def _status(field: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
