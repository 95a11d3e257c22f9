"""The files behind the zoo's entries: getting them, comparing them with zoo.json, writing an entry from them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import stlm
from ..errors import HubError, STLMError, WeightsError
from ..models.stlm.anomaly_maps import KINDS
from ..models.stlm.config import STLMConfig
from . import hub, zoo
from .card.text import official_split
from .hub import LocalModel


@dataclass(frozen=True)
class Verification:
    """What `verify` found. `problems` is empty for a model that is whole; each problem is a sentence."""

    alias: str
    path: Path  # of the weights
    sha256: str
    bytes: int
    problems: tuple[str, ...]


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
    _entry(alias)
    local = hub.resolve(alias, token=token, force_download=force)
    if local.sha256 is not None and hub.file_sha256(local.weights_path) != local.sha256:
        again = "publish it again" if force else f"download it again with: stlm zoo pull {alias} --force"
        raise WeightsError(f"{local.weights_path} was altered or corrupted, it is not {alias} of zoo.json; {again}.")
    return local


def verify(alias: str) -> Verification:
    """Compares the files of a model on this machine with zoo.json. Asks no network.

    Raises:
        HubError: the alias is unknown or its files are not on this machine.
        WeightsError: the alias's folder has no weights.
    """
    entry = _entry(alias)
    folder = zoo.zoo_dir_folder(alias) or zoo.checkout_folder(alias)
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
) -> zoo.ZooEntry:
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
    path = path or zoo.ZOO_PATH
    config = STLMConfig.load(folder / hub.CONFIG_NAME)
    weights = folder / hub.WEIGHTS_NAME
    stlm.check_saved_together(folder / hub.CONFIG_NAME, weights)
    results = _read_results(folder / "results.json")
    entries = zoo.load_zoo(path)
    sha256 = hub.file_sha256(weights)
    known = entries.get(alias)
    if revision is None and known is not None and (known.sha256, known.repo_id) == (sha256, repo_id):
        revision = known.revision
    entries[alias] = zoo.ZooEntry(
        alias=alias,
        repo_id=repo_id,
        revision=revision,
        sha256=sha256,
        bytes=weights.stat().st_size,
        license=license,
        dataset=config.dataset or _dataset_name(results),
        image_size=config.image_size,
        metrics=_metrics(results.get(KINDS[config.anomaly_map].figures)),
        official_split=official_split(results),
    )
    zoo.save_zoo(entries, path)
    return entries[alias]


def _entry(alias: str) -> zoo.ZooEntry:
    entry = zoo.load_zoo().get(alias)
    if entry is None:
        raise HubError(zoo.unknown_alias(alias))
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


def _metrics(metrics: Any) -> dict[str, float]:
    if not isinstance(metrics, dict):
        return {}
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }
