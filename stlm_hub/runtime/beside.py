"""Exports that lie in a model folder or are kept of it in the cache: which of them judges fastest here."""

from __future__ import annotations

import logging
import threading
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from .detector import ExportedModel
from .facts import ExportFacts, changed_since, is_export, load_facts
from .kept import all_kept, kept_exports
from .sessions import is_installed

if TYPE_CHECKING:
    from ..models.stlm.anomaly_maps import AnomalyMaps

logger = logging.getLogger(__name__)


def exports_of(model: Path) -> list[tuple[Path, ExportFacts]]:
    """Exports of a model folder whose runtime is installed and whose model is still the same, the fastest first.

    Every export passed its parity gate, or it would not have been written. How fast it is was measured there.
    """
    found = []
    kept = kept_exports(model) if all_kept().is_dir() else None
    places = [*model.iterdir(), *(kept.iterdir() if kept is not None and kept.is_dir() else ())]
    for folder in sorted(path for path in places if path.is_dir() and is_export(path)):
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


class Preferred:
    """The fastest export in a model's folder, for as long as the model in memory is what was exported.

    Args:
        folders: of the exports, the fastest first; the first that opens is used.
        model: in PyTorch, as it was loaded.
    """

    def __init__(self, folders: list[Path], model: AnomalyMaps) -> None:
        self._folders = folders
        self._judging = model.judging
        self._loaded = _state(model)
        self._opened: ExportedModel | None = None
        self._lock = threading.Lock()

    @classmethod
    def beside(cls, folder: Path, model: AnomalyMaps) -> Preferred | None:
        """Of a model's folder; None: there is no export in it that can be used."""
        found = [path for path, _ in exports_of(folder)]
        return cls(found, model) if found else None

    def instead_of(self, model: AnomalyMaps) -> ExportedModel | None:
        """The export; None: the model was changed since it was loaded, so it must judge itself."""
        if model.judging is not self._judging or model.training or _state(model) != self._loaded:
            return None
        with self._lock:
            while self._opened is None and self._folders:
                folder = self._folders.pop(0)
                try:
                    self._opened = ExportedModel.from_folder(folder)
                except ConfigError as error:
                    logger.warning("%s is not used: %s", folder, error)
        return self._opened

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()  # a copy of a model is about to be changed, or goes where the folder is not


def _state(model: AnomalyMaps) -> tuple[str, int, int]:
    """Where a model's tensors are, which they are, and how often they were changed in place."""
    tensors = list(chain(model.parameters(), model.buffers()))
    return str(tensors[0].device), hash(tuple(map(id, tensors))), sum(tensor._version for tensor in tensors)
