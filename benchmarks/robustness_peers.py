"""Verdicts of methods that have maps but no threshold, for `benchmarks/robustness.py`: PatchCore, PaDiM, a memory.

Each is fitted on good photographs as `benchmarks/quality.py` fits it. Others that it was not fitted on set its
threshold: the highest of their scores, which is what a user of these methods would take without any defect at hand.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.peer_job import Job
from benchmarks.peer_runner import ROOT, Bars, run_process
from stlm_hub.errors import DataError

PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
METHODS = ("patchcore", "padim", "memory-efficientnet")
FITTED = 60
"""Photographs to fit on: PatchCore's greedy coreset takes as much longer as their square."""
HELD_OUT = 20
SHARE = {"patchcore": 0.01, "memory-efficientnet": 0.05}
"""Share of the patches that is kept, as in `benchmarks/quality.py`."""


@contextmanager
def peer_judge(python: Path, method: str, photographs: Sequence[Path], size: int, seed: int = 0) -> Iterator[PeerJudge]:
    """A fitted method with a threshold; its files are gone afterwards.

    Args:
        python: Python of the environment in which the method is installed.
        method: of `METHODS`.
        photographs: of good parts, not those of the test.
        size: side of the method's input in pixels, a multiple of 64.
        seed: decides which photographs fit and which set the threshold.

    Raises:
        DataError: there is no such method, or there are too few photographs.
        PeerError: the method failed.
    """
    if method not in METHODS:
        raise DataError(f"There is no method {method!r}; choose from {', '.join(METHODS)}.")
    if len(photographs) < 2 * HELD_OUT:
        raise DataError(f"A peer needs at least {2 * HELD_OUT} good photographs, got {len(photographs)}; add more.")
    order = np.random.default_rng(seed).permutation(len(photographs))
    shuffled = [str(photographs[i]) for i in order]
    with tempfile.TemporaryDirectory(prefix="stlm-peer-") as folder:
        judge = PeerJudge(python, method, Path(folder), size, seed)
        judge.run("fit", shuffled[HELD_OUT : HELD_OUT + FITTED])
        judge.threshold = max(judge.run("predict", shuffled[:HELD_OUT]))
        yield judge


class PeerJudge:
    """Runs a method in its own environment, and judges by `threshold`: a higher score is anomalous."""

    def __init__(self, python: Path, method: str, folder: Path, size: int, seed: int) -> None:
        self._python, self._method, self._folder, self._size, self._seed = python, method, folder, size, seed
        self.threshold = float("inf")

    def __call__(self, images: Sequence[np.ndarray]) -> list[str]:
        """HxWx3 uint8 RGB images -> a verdict for each."""
        paths = [self._folder / f"{index:04d}.png" for index in range(len(images))]
        for path, image in zip(paths, images, strict=True):
            cv2.imwrite(str(path), image[..., ::-1])
        scores = self.run("predict", [str(path) for path in paths])
        return ["reject" if score > self.threshold else "pass" for score in scores]

    def run(self, step: str, photographs: list[str]) -> list[float]:
        """One step, see `Job`. Returns the scores of "predict"."""
        with tempfile.TemporaryDirectory(prefix="stlm-maps-") as maps, Bars() as bars:
            job = Job(
                method=self._method,
                step=step,
                model=str(self._folder / "model"),
                photographs=photographs,
                size=self._size,
                threads=torch.get_num_threads(),
                seed=self._seed,
                share=SHARE.get(self._method),
                maps=maps,
            )
            scores: list[float] = run_process(self._python, job, bars.step(f"{self._method}: {step}")).get("scores", [])
            return scores
