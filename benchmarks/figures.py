"""What measurements are reduced to: medians, slopes, order, limits, and the machine they were taken on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
import torch
from scipy.stats import kendalltau

from stlm_hub.training.machine import hardware

PACKAGES = ("stlm_hub", "torch", "gradio", "gradio_client", "opencv-python-headless", "numpy")


@dataclass(frozen=True)
class Limit:
    """A figure that must stay at or below a limit.

    Args:
        name: of the figure.
        value: what was measured, in `unit`; None where it could not be.
        limit: the highest value that is held.
        unit: "ms", "MB", "requests".
        skipped: why there is no value.
    """

    name: str
    value: float | None
    limit: float
    unit: str
    skipped: str = ""

    @property
    def held(self) -> bool | None:
        """None where nothing was measured."""
        return None if self.value is None else bool(self.value <= self.limit)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        facts = {"name": self.name, "value": self.value, "limit": self.limit, "unit": self.unit, "held": self.held}
        return {**facts, "skipped": self.skipped} if self.skipped else facts


def all_held(limits: Sequence[Limit]) -> bool:
    """Whether no limit is broken; what was not measured breaks none."""
    return all(limit.held is not False for limit in limits)


def summary(values: Sequence[float]) -> dict[str, float | int]:
    """Number, median, 95th percentile, smallest and largest of at least one value."""
    array = np.asarray(values, float)
    return {
        "n": array.size,
        "median": float(np.median(array)),
        "p95": float(np.percentile(array, 95)),
        "min": float(array.min()),
        "max": float(array.max()),
    }


def slope_per_100(requests: Sequence[int], megabytes: Sequence[float]) -> float:
    """Growth in MB per 100 requests: the least-squares line through at least two samples."""
    return 100 * float(np.polyfit(np.asarray(requests, float), np.asarray(megabytes, float), 1)[0])


def growth(requests: Sequence[int], megabytes: Sequence[float]) -> dict[str, Any]:
    """Memory over requests: first, last and highest sample in MB, last minus first, and the slope."""
    return {
        "first_mb": megabytes[0],
        "last_mb": megabytes[-1],
        "max_mb": max(megabytes),
        "growth_mb": megabytes[-1] - megabytes[0],
        "slope_mb_per_100_requests": slope_per_100(requests, megabytes),
        "samples": [{"requests": n, "rss_mb": round(mb, 1)} for n, mb in zip(requests, megabytes, strict=True)],
    }


def order(asked: Sequence[float], answered: Sequence[float]) -> dict[str, float | None]:
    """How far the order of answers is the order of requests.

    Args:
        asked: moment in seconds at which each request was in the queue.
        answered: moment at which its answer was there.

    Returns:
        Kendall's tau (1 = same order), the share of pairs of requests that were answered the other way round, and how
        many later requests at most were answered before an earlier one. Of fewer than two requests there is no order.
    """
    if len(asked) < 2:
        return {"kendall_tau": None, "inverted_pairs": None, "overtaken_by_at_most": None}
    ranks = np.asarray(answered)[np.argsort(asked, kind="stable")]
    later_but_sooner = np.triu(ranks[None, :] < ranks[:, None], k=1)
    return {
        "kendall_tau": float(kendalltau(asked, answered).statistic),
        "inverted_pairs": float(later_but_sooner.sum() / (len(ranks) * (len(ranks) - 1) / 2)),
        "overtaken_by_at_most": int(later_but_sooner.sum(1).max()),
    }


def command_line(program: str, arguments: Sequence[str]) -> str:
    """The command that makes a file of results again. Of places on someone's machine it says DIR or FILE."""

    def public(word: str) -> str:
        option, equals, value = word.rpartition("=")
        path = Path(value)
        return option + equals + ("FILE" if path.suffix else "DIR") if path.is_absolute() else word

    return shlex.join(["python", program, *map(public, arguments)])


def machine() -> dict[str, Any]:
    """Processor, cores, memory, load and versions."""
    return {
        "hardware": hardware(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "load_average_at_start": [round(load, 2) for load in os.getloadavg()],
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES if _is_installed(name)},
    }


def _cpu_name() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    except OSError:
        return platform.processor() or "unknown"


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
