"""The files behind the zoo's entries: getting them, comparing them with zoo.json, writing an entry from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import HubError, WeightsError
from ..files.fingerprint import file_sha256
from ..models.stlm.config import STLMConfig
from . import hub, results, zoo
from .folder import read_folder
from .local_model import LocalModel, in_folder, needed_files
from .names import DECIDING, RESULTS_NAME


@dataclass(frozen=True)
class Verification:
    """What `verify` found. `problems` is empty for a model that is whole; each problem is a sentence."""

    alias: str
    folder: Path
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
    if problems := _differences(local.folder, local.sha256):
        again = "publish it again" if force else f"download it again with: stlm zoo pull {alias} --force"
        raise WeightsError(f"{problems[0]} {again[0].upper()}{again[1:]}.")
    return local


def verify(alias: str) -> Verification:
    """Compares the files of a model on this machine with zoo.json. Asks no network.

    Raises:
        HubError: the alias is unknown or its files are not on this machine.
        WeightsError: the alias's folder has no weights.
    """
    entry = _entry(alias)
    folder = zoo.zoo_dir_folder(alias) or zoo.checkout_folder(alias)
    local = in_folder(folder, entry) if folder is not None else hub.resolve(alias, local_files_only=True)
    return Verification(alias, local.folder, _bytes(local.folder), tuple(_differences(local.folder, entry.sha256)))


def register(
    folder: Path,
    alias: str,
    repo_id: str,
    license: str,
    *,
    revision: str | None = None,
    path: Path | None = None,
) -> zoo.ZooEntry:
    """Writes the entry of a model folder into zoo.json.

    Args:
        folder: what `STLM.save_pretrained` wrote; results.json may be missing.
        alias: name in the zoo.
        repo_id: `org/repo` that the model is or will be published as.
        license: of the weights.
        revision: 40-hex commit that it was published as. None keeps the known one as long as the files are the same.
        path: the zoo.json to write; None is the one of this library.

    Raises:
        ConfigError, WeightsError: the folder is not a model folder.
        HubError: a name is malformed.
    """
    path = path or zoo.ZOO_PATH
    config, judging = read_folder(folder)
    known_results = results.load(folder / RESULTS_NAME) if (folder / RESULTS_NAME).is_file() else results.Results()
    split = known_results.dataset.split
    entries = zoo.load_zoo(path)
    sha256 = {name: file_sha256(folder / name) for name in _deciding(folder, config)}
    known = entries.get(alias)
    if revision is None and known is not None and (known.sha256, known.repo_id) == (sha256, repo_id):
        revision = known.revision
    entries[alias] = zoo.ZooEntry(
        alias=alias,
        repo_id=repo_id,
        revision=revision,
        sha256=sha256,
        bytes=_bytes(folder),
        license=license,
        dataset=config.dataset or known_results.dataset.name,
        input_size=config.network.frame_size,
        metrics=known_results.shown(judging),
        official_split=split.official if split else None,
    )
    zoo.save_zoo(entries, path)
    return entries[alias]


def _deciding(folder: Path, config: STLMConfig) -> list[str]:
    """Names of the files that decide a prediction of this model.

    Raises:
        WeightsError: one is missing.
    """
    names = needed_files(config)
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise WeightsError(f"{folder} has no {missing[0]}; get the whole folder anew, or save the model again.")
    return names


def _differences(folder: Path, sha256: Mapping[str, str]) -> list[str]:
    """A sentence for each file that is not the one of zoo.json."""
    found = []
    for name, expected in sha256.items():
        path = folder / name
        if not path.is_file():
            found.append(f"{path} is missing.")
        elif (digest := file_sha256(path)) != expected:
            found.append(f"{path} has SHA-256 {digest} and must have {expected}.")
    return found


def _bytes(folder: Path) -> int:
    return sum((folder / name).stat().st_size for name in DECIDING if (folder / name).is_file())


def _entry(alias: str) -> zoo.ZooEntry:
    entry = zoo.load_zoo().get(alias)
    if entry is None:
        raise HubError(zoo.unknown_alias(alias))
    return entry
