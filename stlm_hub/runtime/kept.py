"""The cache folder of exports for which the user named no folder, by the files of the exported model."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ..files.cache import cache_folder
from .facts import deciding_sha256


def all_kept() -> Path:
    """The folder of all such exports; it may not exist."""
    return cache_folder() / "exports"


def kept_exports(model: Path) -> Path:
    """The folder for exports of a model folder with its present files; another one after a change of the model."""
    digest = hashlib.sha256(json.dumps(deciding_sha256(model), sort_keys=True).encode()).hexdigest()
    return all_kept() / digest[:32]
