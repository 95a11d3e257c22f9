"""Runs one step of one method: `python -m benchmarks.peer_process JOB.json`.

The process prints lines of JSON: progress as {"done": ..., "total": ...}, and at the end {"result": {...}} with

- for "fit": "seconds" from reading the photographs to the written model, and "memory_bytes";
- for "predict": "milliseconds" of each photograph, "scores", and "memory_bytes".

The time of a photograph starts with its decoded pixels and ends with its score and its map in the photograph's frame:
resizing in both directions counts, decoding does not. One photograph is judged first and not counted. "memory_bytes" is
the highest resident memory during the step minus the memory after all imports. It covers network, model, intermediate
results and one decoded photograph. Fitting and predicting are two processes, so neither counts for the other.
"""

from __future__ import annotations

import importlib
import json
import random
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.peer_job import Job, forget_peak, peak_bytes, resident_bytes
from stlm_hub.predict.images import load_image

REPORT_EVERY = 0.5  # seconds between two lines of progress


class Reporter:
    """Prints progress, at most one line in `REPORT_EVERY` seconds; the last line always."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last >= REPORT_EVERY or done == total:
            self._last = now
            print(json.dumps({"done": done, "total": total}), flush=True)


def module_of(method: str) -> ModuleType:
    """The module that holds `fit` and `load` of a method."""
    name = {"stlm": "stlm", "patchcore": "anomalib", "padim": "anomalib"}.get(method, "memory")
    return importlib.import_module(f"benchmarks.peer_{name}")


def fit(module: ModuleType, job: Job) -> dict[str, Any]:
    """Fits the method. Returns the seconds that it took."""
    started = time.perf_counter()
    module.fit(job, Reporter())
    return {"seconds": time.perf_counter() - started}


def predict(module: ModuleType, job: Job) -> dict[str, Any]:
    """Judges the photographs and writes their maps. Returns milliseconds and score of each."""
    judge = module.load(job)
    judge(load_image(job.photographs[0]))
    report = Reporter()
    milliseconds, scores = [], []
    for index, path in enumerate(job.photographs):
        image = load_image(path)
        started = time.perf_counter()
        values, score = judge(image)
        milliseconds.append(1000 * (time.perf_counter() - started))
        scores.append(score)
        np.save(Path(job.maps) / f"{index:04d}.npy", values.astype(np.float32))
        report(index + 1, len(job.photographs))
    return {"milliseconds": milliseconds, "scores": scores}


def main(path: Path) -> None:
    """Runs the job of a JSON file and prints its result."""
    job = Job.read(path)
    torch.set_num_threads(job.threads)
    cv2.setNumThreads(job.threads)
    for seed in (torch.manual_seed, np.random.seed, random.seed):  # anomalib uses the global generators
        seed(job.seed)
    module = module_of(job.method)
    before = resident_bytes()
    forget_peak()
    with torch.inference_mode():
        result = (fit if job.step == "fit" else predict)(module, job)
    print(json.dumps({"result": {**result, "memory_bytes": peak_bytes() - before}}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
