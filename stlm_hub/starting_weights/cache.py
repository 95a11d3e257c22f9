"""Where starting weights are kept; asking costs no PyTorch."""

from __future__ import annotations

import os
from pathlib import Path

from ..validate import expanded

FILE_NAME = "starting.safetensors"
"""The cached file."""


def cache_file() -> Path:
    """Path of the cached file, which may not exist yet.

    Its folder is `$STLM_CACHE`, else `$XDG_CACHE_HOME/stlm_hub`, else `~/.cache/stlm_hub`.
    """
    if folder := os.environ.get("STLM_CACHE"):
        return expanded(folder) / FILE_NAME
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "stlm_hub" / FILE_NAME
