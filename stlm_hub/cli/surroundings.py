"""What is around the library: graphics card, memory, disk, caches, starting weights, the Hub, a browser."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from ..starting_weights.cache import cache_file
from .health import Finding, opened

GIGABYTE = 10**9
LOW_MEMORY = 2.5 * GIGABYTE
"""Training at 256 px takes 2.1 GB (benchmarks/training.json)."""
LOW_DISK = 2 * GIGABYTE
"""PyTorch's wheel for processors and a few models."""
HUB_SECONDS = 3.0
"""Longest wait for the Hub, the look-up of its name included."""


def surroundings() -> list[Finding]:
    """Everything that this file looks for, in the order in which it is printed."""
    return [
        graphics_card(),
        memory(),
        disk(huggingface_home()),
        writable("HF_HOME", huggingface_home()),
        *starting_weights(),
        hub(),
        chromium(),
    ]


def graphics_card() -> Finding:
    """What PyTorch computes on besides the processor."""
    torch = opened("torch")
    if torch is None or isinstance(torch, str):
        return Finding("Graphics card", "optional", "not asked: PyTorch is not there", 'pip install "stlm_hub[torch]"')
    if torch.cuda.is_available():
        size = torch.cuda.get_device_properties(0).total_memory / GIGABYTE
        return Finding("Graphics card", "ok", f"{torch.cuda.get_device_name(0)}, {size:.0f} GB")
    if shutil.which("nvidia-smi") is None:
        return Finding("Graphics card", "optional", "none", "None is needed; training is faster with one.")
    if torch.version.cuda is None:
        mend = "Install PyTorch as https://pytorch.org/get-started/locally says for CUDA."
        return Finding("Graphics card", "optional", "an NVIDIA card that this PyTorch is not built for", mend)
    mend = f"Update the NVIDIA driver to one for CUDA {torch.version.cuda}; nvidia-smi shows what it has."
    return Finding("Graphics card", "optional", "an NVIDIA card that PyTorch cannot use", mend)


def memory() -> Finding:
    """What is free of the machine's memory."""
    free = _free_memory()
    if free is None:
        return Finding("Memory", "optional", "unknown", "pip install psutil")
    found = f"{free / GIGABYTE:.1f} GB free"
    if free < LOW_MEMORY:
        return Finding("Memory", "optional", found, f"Close other programs: training takes {LOW_MEMORY / GIGABYTE} GB.")
    return Finding("Memory", "ok", found)


def _free_memory() -> int | None:
    """Bytes that a process can still get; without psutil only Linux says."""
    try:
        import psutil  # type: ignore[import-untyped]

        return int(psutil.virtual_memory().available)
    except ImportError:
        pass
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def disk(folder: Path) -> Finding:
    """What is free on the disk of the cache."""
    try:
        free = shutil.disk_usage(_nearest(folder)).free
    except OSError as error:
        return Finding(
            "Disk", "optional", f"not known for {folder} ({error.strerror})", "Set HF_HOME to another folder."
        )
    found = f"{free / GIGABYTE:.1f} GB free for {folder}"
    if free < LOW_DISK:
        return Finding("Disk", "optional", found, "Free some, or set HF_HOME to a folder of a larger disk.")
    return Finding("Disk", "ok", found)


def writable(variable: str, folder: Path) -> Finding:
    """Whether a cache can be written; it is not made."""
    try:
        with tempfile.TemporaryFile(dir=_nearest(folder)):
            pass
    except OSError as error:
        mend = f"Set {variable} to a folder of yours."
        return Finding(variable, "missing", f"{folder} cannot be written ({error.strerror})", mend)
    return Finding(variable, "ok", f"{folder} can be written")


def huggingface_home() -> Path:
    """Where the Hub's client keeps models, by its own rules; it need not be installed."""
    own = os.environ.get("HF_HOME")
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(own or f"{cache}/huggingface").expanduser()


def _nearest(folder: Path) -> Path:
    """The folder, or the one above it that is there."""
    return next((path for path in (folder, *folder.absolute().parents) if path.exists()), Path("/"))


def starting_weights() -> list[Finding]:
    """Whether a training can start without the network; nothing where what opens them is not installed."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        return []
    file = cache_file()
    cache = writable("STLM_CACHE", file.parent)
    if named := os.environ.get("STLM_STARTING_WEIGHTS"):
        there = Path(named).expanduser().exists()
        mend = "" if there else "Unset STLM_STARTING_WEIGHTS, or name a file that is there."
        return [cache, Finding("Starting weights", "ok" if there else "optional", named, mend)]
    try:
        with safe_open(file, "numpy"):  # compares the file's length with what its header says
            return [cache, Finding("Starting weights", "ok", str(file))]
    except FileNotFoundError:
        return [cache, Finding("Starting weights", "optional", f"no {file}", "stlm weights fetch")]
    except (SafetensorError, OSError) as error:
        return [cache, Finding("Starting weights", "optional", f"{file}: {error}", "stlm weights fetch --force")]


def hub(seconds: float = HUB_SECONDS) -> Finding:
    """Whether the Hub answers in time. What is asked tells nothing of the machine; no token is sent."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    mend = "Judging goes on from the cache and from folders. Behind a proxy set HTTPS_PROXY, for a mirror HF_ENDPOINT."
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return Finding("Hub", "optional", "HF_HUB_OFFLINE is set", "Unset it to download models.")
    if urlsplit(endpoint).scheme not in ("http", "https"):
        return Finding("Hub", "optional", f"HF_ENDPOINT is {endpoint}", "Set it to an https:// address.")
    answers: list[str] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(f"{endpoint}/api/models?limit=1", timeout=seconds):  # noqa: S310 - looked at
                answers.append("")
        except urllib.error.HTTPError as error:
            answers.append(f"HTTP {error.code}")
        except (OSError, ValueError) as error:
            answers.append(" ".join(str(getattr(error, "reason", error)).split())[:100])

    # A thread, as the look-up of a name knows no time limit. Where it hangs, the command does not wait for it.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    why = answers[0] if answers else f"no answer within {seconds:.0f} s"
    if why:
        return Finding("Hub", "optional", f"{endpoint} is out of reach ({why})", mend)
    return Finding("Hub", "ok", endpoint)


def chromium() -> Finding:
    """The browser that the tests of the page drive."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if found is None:
        return Finding("Chromium", "optional", "none; the tests of the page drive it", "apt-get install chromium")
    return Finding("Chromium", "ok", found)
