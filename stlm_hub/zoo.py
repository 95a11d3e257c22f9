"""The zoo: which alias stands for which repository, commit and weights. The entries are in `zoo.json`."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import STLMConfig
from .errors import HubError, STLMError, WeightsError

if TYPE_CHECKING:
    from .hub import LocalModel

ZOO_PATH = Path(__file__).with_name("zoo.json")
CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class ZooEntry:
    """One model of the zoo.

    Args:
        alias: `<dataset>-<category>`, e.g. "mvtec-bottle".
        repo_id: `org/repo` on the Hub.
        revision: 40-hex commit, or None while the model is not published.
        sha256: of model.safetensors, 64 hex digits.
        bytes: size of model.safetensors.
        license: identifier of the Hub, e.g. "cc-by-nc-sa-4.0".
        dataset: where the normal photographs came from.
        image_size: side of the network's input in pixels.
        metrics: figures of results.json, fractions in [0, 1]; empty where none were measured.
    """

    alias: str
    repo_id: str
    revision: str | None
    sha256: str
    bytes: int
    license: str
    dataset: str
    image_size: int
    metrics: dict[str, float]

    def __post_init__(self) -> None:
        for name, pattern in (
            ("alias", r"[a-z0-9][a-z0-9._-]*"),
            ("repo_id", r"[\w.-]+/[\w.-]+"),
            ("revision", r"[0-9a-f]{40}"),
            ("sha256", r"[0-9a-f]{64}"),
        ):
            value = getattr(self, name)
            if name == "revision" and value is None:
                continue
            if not isinstance(value, str) or not re.fullmatch(pattern, value):
                raise HubError(f"{name} of a zoo entry must match {pattern}, not {value!r:.80}.")


@dataclass(frozen=True)
class Verification:
    """What `verify` found. `problems` is empty for a model that is whole; each problem is a sentence."""

    alias: str
    path: Path  # of the weights
    sha256: str
    bytes: int
    problems: tuple[str, ...]


def load_zoo(path: Path | None = None) -> dict[str, ZooEntry]:
    """The entries of `path` (default: the zoo.json of this library) by alias.

    Raises:
        HubError: the file is not a zoo.
    """
    path = path or ZOO_PATH
    try:
        models = json.loads(path.read_text(encoding="utf-8"))["models"]
        return {alias: ZooEntry(alias=alias, **entry) for alias, entry in models.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HubError(f"{path} is not a zoo ({error}); install stlm_hub again.") from error


def list_models() -> list[ZooEntry]:
    """Every model of the zoo, by alias."""
    return [entry for _, entry in sorted(load_zoo().items())]


def zoo_dir_folder(alias: str) -> Path | None:
    """`$STLM_ZOO_DIR/<alias>`, if it is there: a user's own models, or the zoo's on a machine without a network."""
    root = os.environ.get("STLM_ZOO_DIR")
    folder = Path(root).expanduser() / alias if root else None
    return folder if folder is not None and folder.is_dir() else None


def checkout_folder(alias: str) -> Path | None:
    """`model_cards/<alias>` of the checkout that this library runs from, if it is one and holds the weights."""
    folder = CHECKOUT / "model_cards" / alias
    weights = folder / "model.safetensors"
    return folder if (CHECKOUT / "pyproject.toml").is_file() and weights.is_file() else None


def unknown_alias(name: str) -> str:
    """The sentence for an alias that is not in the zoo."""
    known = sorted(load_zoo())
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.65)  # aliases share their beginnings
    guess = f" Did you mean {' or '.join(close)}?" if close else ""
    listing = f" The zoo has: {', '.join(known)}." if known else " The zoo of this version is empty."
    return f'There is no model "{name}".{guess}{listing} A model of your own is a folder or "org/repo".'


def pull(alias: str, *, token: str | bool | None = None, force: bool = False) -> LocalModel:
    """Gets a model of the zoo onto this machine, so that it loads without a network.

    Args:
        alias: of `list_models`.
        token: access token of the Hub; None uses the one of `hf auth login`.
        force: download again what is there, for files that `verify` finds damaged.

    Raises:
        HubError: the alias is unknown or cannot be downloaded.
        WeightsError: the download is not the model of zoo.json.
    """
    from . import hub  # imports this module, and torch

    _entry(alias)
    local = hub.resolve(alias, token=token, force_download=force)
    if local.sha256 is not None and hub.file_sha256(local.weights_path) != local.sha256:
        again = "publish it again" if force else f'download it again with stlm_hub.zoo.pull("{alias}", force=True)'
        raise WeightsError(f"{local.weights_path} was altered or corrupted, it is not {alias} of zoo.json; {again}.")
    return local


def verify(alias: str) -> Verification:
    """Compares the files of a model on this machine with zoo.json. Asks no network.

    Raises:
        HubError: the alias is unknown or its files are not on this machine.
        WeightsError: the alias's folder has no weights.
    """
    from . import hub, stlm

    entry = _entry(alias)
    folder = zoo_dir_folder(alias) or checkout_folder(alias)
    local = hub.in_folder(folder, entry) if folder is not None else hub.resolve(alias, local_files_only=True)
    weights = local.weights_path
    sha256, size = hub.file_sha256(weights), weights.stat().st_size
    problems = []
    if size != entry.bytes:
        problems.append(f"{weights} has {size} bytes and must have {entry.bytes}.")
    if sha256 != entry.sha256:
        problems.append(f"{weights} has SHA-256 {sha256} and must have {entry.sha256}.")
    else:
        try:
            stlm.check_saved_together(local.config_path, weights)
        except STLMError as error:
            problems.append(str(error))
    return Verification(alias, weights, sha256, size, tuple(problems))


def register(
    folder: Path,
    alias: str,
    repo_id: str,
    license: str,
    *,
    revision: str | None = None,
    path: Path | None = None,
) -> ZooEntry:
    """Writes the entry of a model folder into zoo.json, from config.json, model.safetensors and results.json.

    Args:
        folder: what `STLM.save_pretrained` wrote; results.json may be missing.
        alias: name in the zoo.
        repo_id: `org/repo` that the model is or will be published as.
        license: of the weights.
        revision: 40-hex commit that it was published as. None keeps the known one as long as the weights are the same.
        path: the zoo.json to write; None is the one of this library.

    Raises:
        ConfigError, WeightsError: the folder is not a model folder, or config.json was changed after saving.
        HubError: a name is malformed.
    """
    from . import hub, stlm

    path = path or ZOO_PATH
    config = STLMConfig.load(folder / hub.CONFIG_NAME)
    weights = folder / hub.WEIGHTS_NAME
    stlm.check_saved_together(folder / hub.CONFIG_NAME, weights)
    results = _read_results(folder / "results.json")
    zoo = load_zoo(path)
    sha256 = hub.file_sha256(weights)
    known = zoo.get(alias)
    if revision is None and known is not None and (known.sha256, known.repo_id) == (sha256, repo_id):
        revision = known.revision
    zoo[alias] = ZooEntry(
        alias=alias,
        repo_id=repo_id,
        revision=revision,
        sha256=sha256,
        bytes=weights.stat().st_size,
        license=license,
        dataset=config.dataset or _dataset_name(results),
        image_size=config.image_size,
        metrics=_metrics(results),
    )
    models = {name: dataclasses.asdict(entry) for name, entry in sorted(zoo.items())}
    for entry in models.values():
        del entry["alias"]
    path.write_text(json.dumps({"models": models}, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return zoo[alias]


def _entry(alias: str) -> ZooEntry:
    entry = load_zoo().get(alias)
    if entry is None:
        raise HubError(unknown_alias(alias))
    return entry


def _read_results(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise HubError(f"{path} is not valid JSON ({error}); evaluate the model again.") from error
    if not isinstance(results, dict):
        raise HubError(f"{path} does not hold a JSON object; evaluate the model again.")
    return results


def _dataset_name(results: dict[str, Any]) -> str:
    dataset = results.get("dataset")
    name = dataset.get("name") if isinstance(dataset, dict) else dataset
    return name if isinstance(name, str) else ""


def _metrics(results: dict[str, Any]) -> dict[str, float]:
    metrics = results.get("metrics")
    if not isinstance(metrics, dict):
        return {}
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }
