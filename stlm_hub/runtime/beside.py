"""Exports of a model, in its folder or in the cache, and the fastest of them that can be used here."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..model_folder.names import is_export
from .detector import ExportedModel
from .facts import ExportFacts, changed_since, load_facts
from .kept import all_kept, kept_exports
from .sessions import is_installed

if TYPE_CHECKING:
    from ..models.stlm.anomaly_maps import AnomalyMaps

logger = logging.getLogger(__name__)


def exports_of(model: Path) -> list[tuple[Path, ExportFacts]]:
    """Exports of a model that can be used in its place, the fastest first: folder and facts of each.

    Their runtime is installed, they are faster than PyTorch, and the model was not changed since. Every export has
    passed its parity gate, which also measured its speed.

    Args:
        model: folder of the model.
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
    return sorted(found, key=lambda export: -export[1].speedup)


def fastest(model: Path, threads: int | None = None) -> ExportedModel | None:
    """The fastest export of a model that can be opened; None: there is none.

    Args:
        model: folder of the model.
        threads: that judge one batch; None: as many as the machine has cores.
    """
    return _first_that_opens([folder for folder, _ in exports_of(model)], threads)


def _first_that_opens(folders: Sequence[Path], threads: int | None = None) -> ExportedModel | None:
    """The first export that can be opened; None: there is none. The others before it are logged."""
    for folder in folders:
        try:
            return ExportedModel.from_folder(folder, threads=threads)
        except ConfigError as error:
            logger.warning("%s is not used: %s", folder, error)
    return None


class Preferred:
    """The fastest export of a model, used as long as the model in memory is what was exported.

    Args:
        folders: of the exports, the fastest first. The first that opens is used; it is opened when it is needed.
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
        """For a model and its folder; None: it has no export that can be used."""
        folders = [path for path, _ in exports_of(folder)]
        return cls(folders, model) if folders else None

    def instead_of(self, model: AnomalyMaps) -> ExportedModel | None:
        """The export; None: no export opens, or the model was changed since it was loaded and must judge itself."""
        if not self._judges_alike(model) or model.training or _state(model) != self._loaded:
            return None
        with self._lock:
            if self._opened is None and self._folders:
                folders, self._folders = self._folders, []  # one that does not open is not tried again
                self._opened = _first_that_opens(folders)
        return self._opened

    def _judges_alike(self, model: AnomalyMaps) -> bool:
        """Whether a model judges as it did, perhaps photographs of another depth: that is for whoever reads them."""
        judging = model.judging
        if judging is not self._judging:
            if judging.replace(bits=self._judging.bits) != self._judging:
                return False
            self._judging = judging  # compared value by value once, not for each photograph
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()  # None in a copy of the model: it will be changed, or used where the folder is not


def _state(model: AnomalyMaps) -> tuple[str, int, int]:
    """Device of a model's tensors, a hash of their identities, and how often they were changed in place."""
    tensors = list(chain(model.parameters(), model.buffers()))
    changes = sum(tensor._version for tensor in tensors if not tensor.is_inference())  # those count none
    return str(tensors[0].device), hash(tuple(map(id, tensors))), changes
