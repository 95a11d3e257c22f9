"""Where a model may be written: a new folder, or the one of an earlier model, never anybody's other files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import ConfigError
from . import hub

FILES = (hub.CONFIG_NAME, hub.WEIGHTS_NAME, "README.md", "results.json")
"""What every finished model folder holds."""

_NOBODYS = {".DS_Store", "Thumbs.db", "desktop.ini"}  # systems put them anywhere


def make_parent(output: Path) -> None:
    """Makes the folder that a model's folder goes into, before any hour is spent on the model.

    Raises:
        ConfigError: it cannot be made or written.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent):
            pass
    except OSError as error:
        raise ConfigError(
            f"{output.parent} cannot be written ({error.strerror or error}); name another folder for the model."
        ) from None


def check_output(output: Path, also: Sequence[str] = ()) -> None:
    """Refuses a folder that holds something else than a model.

    Args:
        output: the folder to write; it need not exist.
        also: names of further files that may be written over.

    Raises:
        ConfigError: it is a file, or holds other files.
    """
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{output} is a file; name a new folder for the model.")
    found = {path.name for path in output.iterdir()} if output.exists() else set()
    found -= _NOBODYS | {f".{name}.part" for name in FILES}  # what an interruption left
    others = found - {*FILES, *also}
    if found and not found & {hub.CONFIG_NAME, hub.WEIGHTS_NAME}:
        others = found  # a README, say, of something else
    if others:
        raise ConfigError(f"{output} already holds {min(others)}; name a new folder for the model.")
