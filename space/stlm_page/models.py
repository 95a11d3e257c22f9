"""The models of the page: which are offered, and those that are loaded, one copy for all users, bounded by memory."""

from __future__ import annotations

import os
import re
import secrets
import threading
from collections import OrderedDict
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from stlm_hub.errors import ConfigError, HubError
from stlm_hub.model_folder import hub, zoo
from stlm_hub.model_folder.card.card import LICENSES
from stlm_hub.model_folder.local_model import LocalModel
from stlm_hub.model_folder.results import Results
from stlm_hub.models.stlm.config import CONFIG_NAME, STLMConfig
from stlm_hub.stlm import STLM

from .budget import check_budget
from .hub_cache import HubCache
from .worker import in_turn

MAX_BYTES = int(os.environ.get("STLM_SPACE_MODEL_BYTES", 2**30))
"""Of the weights of all loaded models together; one takes 68 MB. The model in use stays in any case."""

_HUB_ID = re.compile(r"[\w][\w.-]*/[\w.-]+(@[\w./-]+)?")


@dataclass(frozen=True)
class LoadedModel:
    """A network in memory with what is known about it.

    Args:
        name: what it was asked for by.
        network: in eval mode, on the graphics card where there is one.
        results: what its results.json says; None where it has none that can be read.
        local: its files on this machine.
    """

    name: str
    network: STLM
    results: Results | None
    local: LocalModel

    @property
    def threshold(self) -> float:
        """The calibrated threshold in [0, 1]."""
        return self.network.judging.threshold

    @property
    def normal_scores(self) -> list[float]:
        """Anomaly scores of the good photographs that the threshold was chosen on; empty where they are not known."""
        return list(self.network.judging.normal_scores)

    @property
    def probe_scores(self) -> list[float]:
        """Anomaly scores of pseudo anomalies painted on good photographs; empty where they are not known."""
        return list(self.network.judging.probe_scores)

    @property
    def bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self.network.state_dict().values())


class Models:
    """Loads each model once and drops those that were not used for the longest time.

    Args:
        max_bytes: of all loaded weights together.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self.cache = HubCache(self._folders)
        self._loaded: OrderedDict[str, LoadedModel] = OrderedDict()
        self._own: dict[str, Path] = {}
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}

    def get(self, name: str) -> LoadedModel:
        """The model of this name, loaded if need be. Others are not kept waiting by a download.

        Args:
            name: alias of the zoo, "org/repo", "org/repo@revision" or what `add_own` returned. Folders are refused:
                visitors must not name files of this machine.

        Raises:
            HubError, ConfigError, WeightsError: there is no such model, it is too large, or it cannot be loaded.
        """
        name = (name or "").strip()
        with self._lock:
            if name in self._loaded:
                self._loaded.move_to_end(name)
                return self._loaded[name]
            loading = self._loading.setdefault(name, threading.Lock())
        with loading:
            with self._lock:
                if name in self._loaded:
                    return self._loaded[name]
            try:
                with self._downloading(name):
                    model = self._load(name)
                    with self._lock:
                        self._loaded[name] = model
                        self._evict()
            finally:
                with self._lock:
                    self._loading.pop(name, None)
        return model

    def is_loaded(self, name: str) -> bool:
        with self._lock:
            return name in self._loaded

    def forget(self, name: str) -> None:
        """Loads a model anew when it is asked for again: something was added to its files."""
        with self._lock:
            self._loaded.pop(name, None)

    def add_own(self, folder: Path) -> str:
        """Makes a model folder that a visitor has just made available; returns a name that nobody can guess."""
        name = f"own-{secrets.token_hex(8)}"
        with self._lock:
            self._own[name] = folder
        return name

    def read(self, model: LoadedModel, name: str, max_bytes: int) -> bytes | None:
        """A further file of a model, e.g. README.md; None where it has none or a larger one."""
        local = model.local
        with nullcontext() if local.revision is None else self.cache.using(local.source):
            path = hub.companion_file(local, name, token=False, max_bytes=max_bytes)
            return None if path is None else path.read_bytes()

    def _downloading(self, name: str) -> AbstractContextManager[None]:
        if name in self._own:
            return nullcontext()
        _check_name(name)
        return self.cache.using(hub.repository(name))

    def _folders(self) -> set[Path]:
        with self._lock:
            return {model.local.folder for model in self._loaded.values()}

    def _load(self, name: str) -> LoadedModel:
        own = self._own.get(name)
        if own is not None:
            if not own.is_dir():
                raise HubError("This model is no longer kept here; make it again, or push it to the Hub first.")
            local = hub.resolve(own)
            check_budget(STLMConfig.load(local.folder / CONFIG_NAME))
            network = in_turn(lambda: STLM.from_pretrained(own))
        else:
            # Without the Space's own token: visitors must not reach private models of its owner.
            local = hub.resolve(name, token=False, check=check_budget)  # downloads here, where nobody waits for it
            check_budget(STLMConfig.load(local.folder / CONFIG_NAME))  # it may have been there already
            known = name if local.alias else local.source
            revision = None if local.alias else local.revision
            network = in_turn(lambda: STLM.from_pretrained(known, revision=revision, local_files_only=True))
            self.cache.used(local.folder)
        return LoadedModel(name, network, _results(local), local)

    def _evict(self) -> None:
        while len(self._loaded) > 1 and sum(model.bytes for model in self._loaded.values()) > self.max_bytes:
            self._loaded.popitem(last=False)


def offered() -> list[zoo.ZooEntry]:
    """The models of the zoo that can be loaded here; the one that the example photographs belong to comes first."""
    entries = zoo.list_models()
    here = [e for e in entries if e.revision or zoo.zoo_dir_folder(e.alias) or zoo.checkout_folder(e.alias)]
    return sorted(here or entries, key=lambda entry: not entry.alias.startswith("sample-"))


def label(entry: zoo.ZooEntry) -> str:
    """What the list of models shows: "mvtec-bottle - I-AUROC 99.9 % - CC BY-NC-SA 4.0"."""
    parts = [entry.alias]
    if "i_auroc" in entry.metrics:
        split = " (not on the official split)" if entry.official_split is False else ""
        parts.append(f"I-AUROC {100 * entry.metrics['i_auroc']:.1f} %{split}")
    parts.append(LICENSES.get(entry.license, (entry.license, ""))[0])
    return " · ".join(parts)


def choices() -> list[tuple[str, str]]:
    """The list of models as (what it shows, alias)."""
    return [(label(entry), entry.alias) for entry in offered()]


def _check_name(name: str) -> None:
    if name in zoo.load_zoo() or (re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name) and zoo.zoo_dir_folder(name)):
        return
    if not name:
        raise HubError("Choose a model first.")
    if not _HUB_ID.fullmatch(name) or ".." in name:
        raise HubError(zoo.unknown_alias(name[:80]) if "/" not in name else f'"{name:.80}" is not a model on the Hub.')
    if Path(name).exists():
        raise HubError(f'"{name:.80}" cannot be loaded here; give an alias or the name of a repository of the Hub.')


def _results(local: LocalModel) -> Results | None:
    try:
        return hub.results_of(local, token=False)
    except ConfigError:
        return None  # the model works without; the page then says that nothing is known
