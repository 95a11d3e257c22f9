"""Where the library keeps what it fetched or made: the only place that knows the folder. Asking costs no PyTorch."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$STLM_CACHE`, else `$XDG_CACHE_HOME/stlm_hub`, else `~/.cache/stlm_hub`; it may not be there."""
    own = os.environ.get("STLM_CACHE")
    folder = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "stlm_hub"
    try:
        return folder.expanduser()
    except RuntimeError:  # `~name` of nobody
        return folder
