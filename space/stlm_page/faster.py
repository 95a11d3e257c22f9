"""On a processor: exports of the offered models, made beside the page, which then judges with them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence

import torch

from stlm_hub.errors import STLMError
from stlm_hub.model_folder import hub
from stlm_hub.runtime.beside import exports_of

from .models import Models
from .worker import ON_ZERO_GPU


def wanted() -> bool:
    """Whether exports are worth their minutes here: on a Space without a graphics card, whose SPACE_ID is set.

    `STLM_SPACE_EXPORT=1` asks for them elsewhere, 0 forbids them.
    """
    asked = os.environ.get("STLM_SPACE_EXPORT", "1" if os.environ.get("SPACE_ID") else "0")
    return asked != "0" and not ON_ZERO_GPU and not torch.cuda.is_available()


def export_beside(models: Models, aliases: Sequence[str]) -> threading.Thread:
    """Exports models one after the other, in processes that give way to visitors.

    A model that is loaded by then is loaded anew. What cannot be exported goes on in PyTorch; the log has the reason.
    """
    thread = threading.Thread(target=_export_all, args=(models, aliases), name="export", daemon=True)
    thread.start()
    return thread


def _export_all(models: Models, aliases: Sequence[str]) -> None:
    for alias in aliases:
        try:
            if exports_of(hub.resolve(alias, token=False).folder):
                continue
        except STLMError as error:
            print(f"{alias} is not exported: {error}", file=sys.stderr)
            continue
        if _export(alias):
            models.forget(alias)


def _export(alias: str) -> bool:
    """In a process of its own, which has all that exporting takes and gives it back."""
    giving_way = ["nice", "-n", "19"] if shutil.which("nice") else []
    command = [*giving_way, sys.executable, "-m", "stlm_hub.cli.main", "export", alias]
    done = subprocess.run(command)  # noqa: S603 - an alias of the zoo, and no shell
    return done.returncode == 0
