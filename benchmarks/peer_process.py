"""One step of one method in a process of its own: `python -m benchmarks.peer_process JOB.json`.

It prints a line of JSON now and then, {"done": ..., "total": ...}, and at the end {"result": {...}}:

- fit: "seconds" from the photographs' files to the written model, "memory_bytes";
- predict: "milliseconds" of each photograph, "scores", "memory_bytes".

A photograph's time is from the decoded pixels to the map in the photograph's frame and the score: resizing both ways
belongs to it, decoding does not. One photograph is judged beforehand, uncounted. "memory_bytes" is the highest
resident memory of the step minus that after all libraries were imported: network, model and whatever is computed, one
decoded photograph too; fitting and predicting are two processes, so neither is charged for the other.
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

REPORT_EVERY = 0.5  # seconds


class Reporter:
    """Prints progress, not more often than anybody can read."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last >= REPORT_EVERY or done == total:
            self._last = now
            print(json.dumps({"done": done, "total": total}), flush=True)


def module_of(method: str) -> ModuleType:
    """The module with `fit` and `load` of a method."""
    name = {"stlm": "stlm", "patchcore": "anomalib", "padim": "anomalib"}.get(method, "memory")
    return importlib.import_module(f"benchmarks.peer_{name}")


def fit(module: ModuleType, job: Job) -> dict[str, Any]:
    started = time.perf_counter()
    module.fit(job, Reporter())
    return {"seconds": time.perf_counter() - started}


def predict(module: ModuleType, job: Job) -> dict[str, Any]:
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
    job = Job.read(path)
    torch.set_num_threads(job.threads)
    cv2.setNumThreads(job.threads)
    for seed in (torch.manual_seed, np.random.seed, random.seed):  # anomalib draws from the global states
        seed(job.seed)
    module = module_of(job.method)
    before = resident_bytes()
    forget_peak()
    with torch.inference_mode():
        result = (fit if job.step == "fit" else predict)(module, job)
    print(json.dumps({"result": {**result, "memory_bytes": peak_bytes() - before}}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
