"""What a model was trained or evaluated on, and with what, as one number."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path


def fingerprint(paths: Sequence[Path]) -> str:
    """SHA-256 over names and contents of files, in hex, in the order of their names; folders do not count, so
    files of one name must always come in one order."""
    digest = hashlib.sha256()
    for path in sorted(paths, key=lambda path: path.name):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
