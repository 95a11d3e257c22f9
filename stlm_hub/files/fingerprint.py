"""Files -> one number: which photographs or weights were used."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path


def file_sha256(*paths: Path) -> str:
    """SHA-256 of the files' bytes, one after the other, in hex."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def fingerprint(paths: Sequence[Path]) -> str:
    """SHA-256 over names and contents of files, in hex, in the order of their names. Names need not be UTF-8.

    Folders do not count, so files of one name must always come in one order.
    """
    digest = hashlib.sha256()
    for path in sorted(paths, key=lambda path: path.name):
        digest.update(path.name.encode("utf-8", "surrogatepass") + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
