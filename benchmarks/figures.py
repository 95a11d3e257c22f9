"""Statistics of measurements, limits that they must keep, and facts about the machine they were taken on."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import sys
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
"""Packages whose versions are written beside the figures."""


@dataclass(frozen=True)
class Limit:
    """A figure that must stay at or below a limit.

    Args:
        name: name of the figure.
        value: measured value in `unit`; None where it could not be measured.
        limit: highest allowed value in `unit`.
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
        """Whether the value keeps the limit; None where nothing was measured."""
        return None if self.value is None else bool(self.value <= self.limit)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        facts = {"name": self.name, "value": self.value, "limit": self.limit, "unit": self.unit, "held": self.held}
        return {**facts, "skipped": self.skipped} if self.skipped else facts


def all_held(limits: Sequence[Limit]) -> bool:
    """Whether no limit is broken. A figure that was not measured breaks none."""
    return all(limit.held is not False for limit in limits)


def summary(values: Sequence[float]) -> dict[str, float | int]:
    """Count, median, 95th percentile, minimum and maximum of one or more values."""
    array = np.asarray(values, float)
    return {
        "n": array.size,
        "median": float(np.median(array)),
        "p95": float(np.percentile(array, 95)),
        "min": float(array.min()),
        "max": float(array.max()),
    }


def slope_per_100(requests: Sequence[int], megabytes: Sequence[float]) -> float:
    """Growth in MB per 100 requests: slope of the least-squares line through two or more samples."""
    return 100 * float(np.polyfit(np.asarray(requests, float), np.asarray(megabytes, float), 1)[0])


def growth(requests: Sequence[int], megabytes: Sequence[float]) -> dict[str, Any]:
    """Growth of memory over requests.

    Args:
        requests: number of answered requests at each sample.
        megabytes: memory at each sample.

    Returns:
        First, last and highest sample, last minus first, the slope, and the samples themselves.
    """
    return {
        "first_mb": megabytes[0],
        "last_mb": megabytes[-1],
        "max_mb": max(megabytes),
        "growth_mb": megabytes[-1] - megabytes[0],
        "slope_mb_per_100_requests": slope_per_100(requests, megabytes),
        "samples": [{"requests": n, "rss_mb": round(mb, 1)} for n, mb in zip(requests, megabytes, strict=True)],
    }


def order(asked: Sequence[float], answered: Sequence[float]) -> dict[str, float | None]:
    """How well answers keep the order of requests.

    Args:
        asked: seconds at which each request was in the queue.
        answered: seconds at which its answer arrived.

    Returns:
        "kendall_tau": 1 where the order is the same. "inverted_pairs": share of the pairs of requests whose answers
        came in the other order. "overtaken_by_at_most": the most later requests that were answered before one earlier
        request. All None for fewer than two requests.
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
    """The command that reproduces a file of results. Absolute paths become DIR or FILE."""

    def public(word: str) -> str:
        option, equals, value = word.rpartition("=")
        path = Path(value)
        return option + equals + ("FILE" if path.suffix else "DIR") if path.is_absolute() else word

    return shlex.join(["python", program, *map(public, arguments)])


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a file that `write_rows` wrote; none where there is no file."""
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
    return rows


def write_rows(path: Path, program: str, rows: Sequence[dict[str, Any]]) -> None:
    """Writes what was measured, with the command that ran and the machine."""
    facts = {"command": command_line(program, sys.argv[1:]), "machine": machine(), "rows": rows}
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """Facts about this machine: processor, cores, memory, load, versions."""
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
