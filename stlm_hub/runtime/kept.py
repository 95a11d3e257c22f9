"""Where exports are kept that nobody named a folder for: in the cache, by the files of the model that was exported."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from .facts import deciding_sha256


def cache_folder(name: str) -> Path:
    """A folder of `$STLM_CACHE`, else `$XDG_CACHE_HOME/stlm_hub`, else `~/.cache/stlm_hub`; it may not be there."""
    own = os.environ.get("STLM_CACHE")
    root = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "stlm_hub"
    return root.expanduser() / name


def kept_exports(model: Path) -> Path:
    """The folder for exports of a model folder as it is now; after a change of the model it is another one."""
    digest = hashlib.sha256(json.dumps(deciding_sha256(model), sort_keys=True).encode()).hexdigest()
    return cache_folder("exports") / digest[:32]
