"""Exports that lie in a model folder: which of them judges fastest here."""

from __future__ import annotations

import logging
from pathlib import Path

from ..errors import ConfigError
from .detector import ExportedModel
from .facts import ExportFacts, changed_since, is_export, load_facts
from .sessions import is_installed

logger = logging.getLogger(__name__)


def exports_of(model: Path) -> list[tuple[Path, ExportFacts]]:
    """Exports in a model folder whose runtime is installed and whose model is still the same, the fastest first.

    Every export passed its parity gate, or it would not have been written. How fast it is was measured there.
    """
    found = []
    for folder in sorted(path for path in model.iterdir() if path.is_dir() and is_export(path)):
        try:
            facts = load_facts(folder)
        except ConfigError as error:
            logger.warning("%s is not used: %s", folder, error)
            continue
        if changed := changed_since(model, facts):
            logger.warning("%s is not used: %s of the model was changed since; export it again.", folder, changed)
        elif is_installed(facts.format) and facts.speedup > 1:
            found.append((folder, facts))
    return sorted(found, key=lambda one: -one[1].speedup)


def fastest(model: Path, threads: int | None = None) -> ExportedModel | None:
    """The fastest export in a model folder that can be opened here; None: there is none, and PyTorch judges."""
    for folder, _ in exports_of(model):
        try:
            return ExportedModel.from_folder(folder, threads=threads)
        except ConfigError as error:
            logger.warning("%s is not used: %s", folder, error)
    return None
