"""Starts the processes of `benchmarks/quality.py`, shows their progress, and computes figures from their maps."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from benchmarks.peer_job import Job
from benchmarks.quality_report import QUALITY
from stlm_hub.cli.console import console, say
from stlm_hub.cli.progress import progress_bars
from stlm_hub.errors import STLMError
from stlm_hub.evaluation.evaluate import TestSet
from stlm_hub.evaluation.masks import read_mask
from stlm_hub.evaluation.metrics import compute_metrics
from stlm_hub.predict.images import load_image

ROOT = Path(__file__).resolve().parents[1]
LINE_EVERY = 30.0  # seconds between two lines of progress where there is no terminal
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_VERSIONS = """
import importlib.metadata, json, platform, sys
found = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


class PeerError(STLMError):
    """A process of a method failed."""


class Bars:
    """A progress bar with the time left for each step of each method. Without a terminal: a line every 30 s."""

    def __init__(self) -> None:
        self._bars = progress_bars()

    def __enter__(self) -> Bars:
        if console.is_terminal:
            self._bars.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self._bars.stop()

    def step(self, description: str) -> Callable[[int, int], None]:
        """Adds a bar for one step. Returns a function to call with (done, total)."""
        if console.is_terminal:
            task = self._bars.add_task(description, total=None)
            return lambda done, total: self._bars.update(task, completed=done, total=total)
        started = last = time.monotonic()
        say(description)

        def line(done: int, total: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= LINE_EVERY:
                last = now
                left = (now - started) / done * (total - done) / 60
                say(f"{description}: {done}/{total}, {left:.1f} min left")

        return line


def versions(python: Path, packages: Sequence[str]) -> dict[str, str]:
    """Versions of an environment.

    Args:
        python: the environment's Python.
        packages: names of packages; those that are not installed are left out of the result.

    Returns:
        Version by name of package, and that of Python itself as "python".

    Raises:
        PeerError: `python` cannot be run.
    """
    try:
        run = subprocess.run([str(python), "-c", _VERSIONS, *packages], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PeerError(f"{python} cannot be run as Python ({error}); make it with: make peers") from None
    found: dict[str, str] = json.loads(run.stdout)
    return found


def run_process(python: Path, job: Job, on_progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Runs one step in a process of its own.

    Args:
        python: Python of the environment in which the method is installed.
        job: the step.
        on_progress: called with (done, total) for each line of progress.

    Returns:
        The result of the process, see `peer_process`.

    Raises:
        PeerError: the process failed. The message ends with the last line that it wrote.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **dict.fromkeys(_THREADS, str(job.threads))}
    with tempfile.TemporaryDirectory(prefix="stlm-job-") as folder, tempfile.TemporaryFile("w+") as complaints:
        path = job.write(Path(folder) / "job.json")
        command = [str(python), "-m", "benchmarks.peer_process", str(path)]
        result = None
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=complaints, text=True
        ) as process:
            assert process.stdout is not None  # a pipe was asked for
            try:
                for line in process.stdout:
                    said = _message(line)
                    result = said.get("result", result)
                    if "done" in said:
                        on_progress(said["done"], said["total"])
            except BaseException:
                process.kill()
                raise
        if process.returncode or result is None:
            complaints.seek(0)
            lines = [line.strip() for line in complaints if line.strip()] or ["no message"]
            raise PeerError(
                f"{job.method} failed at its step {job.step!r} (exit {process.returncode}): {lines[-1]:.300}"
            )
    return result


def figures(scores: Sequence[float], test: TestSet, maps: Path) -> dict[str, float | None]:
    """Metrics of one method, computed by the code that evaluates STLM.

    Distances have no upper end, and the metrics depend on order alone. So the scores are scaled linearly to [0, 1] over
    the whole test set, and so are the maps.

    Args:
        scores: anomaly scores in the order of `test.photographs`.
        test: photographs and masks.
        maps: folder with the maps 0000.npy, 0001.npy, ... in the same order, each in its photograph's frame.

    Returns:
        The metrics of `quality_report.QUALITY`; None where one is not defined.

    Raises:
        DataError: a map or a mask does not fit its photograph.
    """
    found = [np.load(maps / f"{index:04d}.npy") for index in range(len(test.photographs))]
    masks = [np.zeros(load_image(path).shape[:2], bool) for path in test.good]
    masks += [
        read_mask(mask, load_image(path).shape[:2]) for path, mask in zip(test.anomalous, test.masks, strict=True)
    ]
    labels = [0] * len(test.good) + [1] * len(test.anomalous)
    metrics = compute_metrics(_scaled([np.asarray(scores, float)])[0], labels, _scaled(found), masks, threshold=0.5)
    return {name: value for name, value in asdict(metrics).items() if name in QUALITY}


def _message(line: str) -> dict[str, Any]:
    """The JSON object of a line of output. Empty for any other line: libraries print lines of their own."""
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _scaled(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """All arrays on one linear scale, from 0 for their lowest value to 1 for their highest."""
    low, high = min(a.min() for a in arrays), max(a.max() for a in arrays)
    return [(a - low) / (high - low or 1.0) for a in arrays]
