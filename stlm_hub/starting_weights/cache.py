"""Where starting weights are kept; asking costs no PyTorch."""

from __future__ import annotations

from pathlib import Path

from ..files.cache import cache_folder

FILE_NAME = "starting.safetensors"
"""The cached file."""


def cache_file() -> Path:
    """Path of the cached file, which may not exist yet."""
    return cache_folder() / FILE_NAME
