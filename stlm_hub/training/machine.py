"""The machine that a model is made on: its hardware, versions of packages, and the latency of one photograph."""

from __future__ import annotations

import datetime
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import timm
import torch

from .. import __version__
from ..model_folder.figures import Latency
from ..model_folder.provenance import Circumstances
from ..predict.images import read_picture
from ..stlm import STLM
from ..wording import number_of

LATENCY_IMAGES = 10


def circumstances(commit: str = "") -> Circumstances:
    """Date, hardware and versions of this run, with the commit of the code unless it is ""."""
    versions = {
        "stlm_hub": __version__,
        "torch": torch.__version__,
        "timm": timm.__version__,
        "python": platform.python_version(),
    }
    return Circumstances(
        datetime.date.today().isoformat(), hardware(), versions | ({"commit": commit} if commit else {})
    )


def hardware() -> str:
    """Name of the graphics card if there is one, else of the processor with its number of cores."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    name = str(torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine())
    return f"{name}, {number_of(os.cpu_count() or 1, 'core')}"


def measure_latency(model: STLM, photographs: Sequence[Path]) -> Latency:
    """Median time of `predict` for one decoded photograph, over at most 10, after one warm-up.

    Of a single thread of a processor it is the time that the thread computed: other work on the machine does not count.
    """
    images = [read_picture(path, bits=model.judging.bits).image for path in photographs[:LATENCY_IMAGES]]
    on_cpu = next(model.parameters()).device.type == "cpu"
    clock = time.process_time if on_cpu and torch.get_num_threads() == 1 else time.perf_counter
    times = []
    for image in [images[0], *images]:
        started = clock()
        model.predict(image, refine=False)
        times.append(clock() - started)
    return Latency(
        milliseconds_per_image=round(1000 * float(np.median(times[1:])), 1),
        threads=torch.get_num_threads(),
        device=str(next(model.parameters()).device),
        image_size=max(model.frame_size),
    )
