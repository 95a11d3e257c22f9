"""Where exports are kept that nobody named a folder for: in the cache, by the files of the model that was exported."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ..files.cache import cache_folder
from .facts import deciding_sha256


def all_kept() -> Path:
    """The folder above those of all models; it may not be there."""
    return cache_folder() / "exports"


def kept_exports(model: Path) -> Path:
    """The folder for exports of a model folder as it is now; after a change of the model it is another one."""
    digest = hashlib.sha256(json.dumps(deciding_sha256(model), sort_keys=True).encode()).hexdigest()
    return all_kept() / digest[:32]
