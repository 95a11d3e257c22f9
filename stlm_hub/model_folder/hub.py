"""From a name to local files of one commit: an alias, `org/repo`, `org/repo@revision` or a folder."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import (
    HfApi,
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

from .. import __version__
from ..errors import HubError, STLMError, WeightsError
from ..models.stlm.config import CONFIG_NAME, STLMConfig
from ..validate import MAX_JSON_BYTES
from . import zoo
from .hub_answers import TIMEOUT, HTTPError, hub_errors, is_out_of_reach, patiently
from .names import (
    ALWAYS,
    CALIBRATION_NAME,
    DECIDING,
    MAX_WEIGHT_BYTES,
    MEMORY_NAME,
    REGION_NAME,
    RESULTS_NAME,
    WEIGHT_FILES,
    WEIGHTS_NAME,
)
from .versions import settle

if TYPE_CHECKING:
    from .results import Results

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")

_LARGEST = dict.fromkeys(WEIGHT_FILES, MAX_WEIGHT_BYTES)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REVISION = re.compile(r"[\w./+-]{0,200}")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LocalModel:
    """Where the files of a model are, and what is known about them before they are read.

    Args:
        folder: holds them all, of one commit.
        source: the folder or repository that they come from.
        revision: 40-hex commit; None for a folder.
        sha256: what files must hash to, by name; files that nobody vouches for are left out.
        alias: set where zoo.json vouches for every file that decides a prediction.
    """

    folder: Path
    source: str
    revision: str | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)
    alias: str | None = None


def resolve(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    check: Callable[[STLMConfig], None] | None = None,
) -> LocalModel:
    """Finds a model and downloads it where needed. Files are not read here, so nothing is hashed.

    An alias is looked for in `$STLM_ZOO_DIR`, then in `model_cards/` of a checkout, then on the Hub. `$STLM_HUB_ORG`
    names another organisation to download aliases from.

    Args:
        name: alias, `org/repo`, `org/repo@revision` or a folder.
        revision: branch, tag or commit; an alias with a revision of its own is no longer checked against zoo.json.
        token: access token of the Hub; None uses the one of `hf auth login`.
        local_files_only: use folders and the cache only.
        force_download: download again what is in the cache.
        check: is given the configuration before weights are downloaded; what it raises refuses the model.

    Raises:
        HubError: there is no such model, or it cannot be downloaded.
        WeightsError: it has no model.safetensors.
    """
    text = os.fspath(name)
    if isinstance(name, str) and "@" in text and zoo.folder_of(text) is None:
        text, _, tail = text.rpartition("@")
        if revision not in (None, tail):
            raise HubError(f'"{name}" and revision="{revision}" name two revisions of {text}; give only one.')
        revision = tail
    if revision is not None and (".." in revision or not _REVISION.fullmatch(revision)):
        raise HubError(f'"{revision:.80}" is no revision; give a branch, a tag or a commit.')  # it becomes a path
    if not text or revision == "":
        raise HubError('Give the name of a model: an alias, "org/repo", "org/repo@revision" or a folder.')

    def download(repo_id: str, commit: str | None, entry: zoo.ZooEntry | None = None) -> LocalModel:
        return _download(repo_id, commit, token, local_files_only, force_download, entry, check)

    bare = isinstance(name, str) and zoo.is_bare(text)
    if bare:
        entry = zoo.load_zoo().get(text)
        if revision is None and (own := zoo.zoo_dir_folder(text)) is not None:
            return in_folder(own, entry)
        if entry is not None:
            if revision is None and not force_download and (checkout := zoo.checkout_folder(text)) is not None:
                return in_folder(checkout, entry)
            repo_id = repository(text)
            if revision is not None:
                return download(repo_id, revision)
            pinned = entry.revision if repo_id == entry.repo_id else None  # commits of another organisation differ
            return download(repo_id, pinned, entry)

    folder = zoo.folder_of(text)
    if folder is not None:
        if revision is not None:
            raise HubError(f'{folder} is a folder and has no revision "{revision}"; leave the revision out.')
        return in_folder(folder, None)
    if bare:
        raise HubError(zoo.unknown_alias(text))
    if isinstance(name, str) and re.fullmatch(r"\w[\w.-]*/[\w.-]+", text):
        return download(text, revision)
    raise HubError(
        f'There is no folder {text:.200}; give an alias, "org/repo" or a folder with {CONFIG_NAME} and {WEIGHTS_NAME}.'
    )


def repository(name: str) -> str:
    """The `org/repo` that an alias, or a name with or without a revision, is downloaded from."""
    text = name.partition("@")[0]
    entry = zoo.load_zoo().get(text)
    if entry is None:
        return text
    org = os.environ.get("STLM_HUB_ORG")
    return f"{org}/{entry.repo_id.partition('/')[2]}" if org else entry.repo_id


def companion_file(
    local: LocalModel, name: str, *, token: str | bool | None = None, max_bytes: int | None = None
) -> Path | None:
    """A further file of a model that `resolve` found, of the same commit, e.g. results.json; None if it has none.

    A model works without its companions, so a Hub that is out of reach counts as "none", too. So does a file of more
    than `max_bytes`: it is not downloaded.
    """
    beside = local.folder / name
    if local.revision is None or beside.is_file():
        fits = beside.is_file() and (max_bytes is None or beside.stat().st_size <= max_bytes)
        return beside if fits else None
    try:
        with hub_errors(local.source, local.revision):
            # One question before any download: it fails at once where downloads would retry for most of a minute.
            url = hf_hub_url(local.source, name, revision=local.revision)
            size = get_hf_file_metadata(url, token=token, timeout=TIMEOUT).size
            if max_bytes is not None and (size is None or size > max_bytes):
                return None
            return Path(
                hf_hub_download(
                    local.source,
                    name,
                    revision=local.revision,
                    token=token,
                    etag_timeout=TIMEOUT,
                    library_name="stlm_hub",
                    library_version=__version__,
                )
            )
    except HubError as error:
        logger.info("%s of %s: %s", name, local.source, error)
        return None


def results_of(local: LocalModel, *, token: str | bool | None = None) -> Results | None:
    """What results.json of a model says; None where it has none.

    Raises:
        ConfigError: it is not what stlm_hub writes, or it is of other weights.
    """
    from . import results  # its parser is not needed to judge photographs

    path = companion_file(local, RESULTS_NAME, token=token, max_bytes=results.MAX_BYTES)
    if path is None:
        return None
    found = results.load(path)
    results.check_files(found, local.folder)
    return found


def in_folder(folder: Path, entry: zoo.ZooEntry | None) -> LocalModel:
    """The model of a folder; of a zoo entry where it must be that one."""
    settle(folder)
    names = [path.name for path in folder.iterdir()]
    if {"model.onnx", "model.xml"} & set(names):
        raise WeightsError(f"{folder} is an export, which only judges; name the model that it was made from.")
    if not {WEIGHTS_NAME, MEMORY_NAME} & set(names):
        raise WeightsError(_no_weights(str(folder), names))
    if entry is None:
        return LocalModel(folder, str(folder))
    return LocalModel(folder, str(folder), None, entry.sha256, entry.alias)


def _download(
    repo_id: str,
    revision: str | None,
    token: str | bool | None,
    local_files_only: bool,
    force_download: bool,
    entry: zoo.ZooEntry | None,
    check: Callable[[STLMConfig], None] | None,
) -> LocalModel:
    """The deciding files of one commit, from the cache or the Hub."""

    def found(folder: Path) -> LocalModel:
        # Large files of the cache are links to blobs that are named by their SHA-256.
        links = {name: folder / name for name in DECIDING if (folder / name).is_symlink()}
        blobs = {name: link.readlink().name for name, link in links.items()}
        known = {name: blob for name, blob in blobs.items() if _SHA256.fullmatch(blob)}
        sha256, alias = (entry.sha256, entry.alias) if entry else (known, None)
        return LocalModel(folder, repo_id, folder.name, sha256, alias)

    def cached() -> LocalModel | None:
        config = try_to_load_from_cache(repo_id, CONFIG_NAME, revision=revision or constants.DEFAULT_REVISION)
        if not isinstance(config, str):
            return None
        folder = Path(config).parent
        return (
            found(folder)
            if all((folder / name).is_file() for name in needed_files(STLMConfig.load(Path(config))))
            else None
        )

    def fetch(filename: str, commit: str | None) -> Path:
        return Path(
            hf_hub_download(
                repo_id,
                filename,
                revision=commit,
                token=token,
                force_download=force_download,
                library_name="stlm_hub",
                library_version=__version__,
            )
        )

    def download() -> LocalModel:
        api = HfApi(token=token, library_name="stlm_hub", library_version=__version__)
        # One question before any download: without a network it fails at once, where downloads would retry for most of
        # a minute.
        info = patiently(lambda: api.model_info(repo_id, revision=revision, files_metadata=True, timeout=TIMEOUT))
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        if not {WEIGHTS_NAME, MEMORY_NAME} & sizes.keys():
            raise WeightsError(_no_weights(repo_id, sizes))
        if missing := [name for name in (CONFIG_NAME, CALIBRATION_NAME) if name not in sizes]:
            raise HubError(f"{repo_id} has no {missing[0]}: it is not a model of stlm_hub, give another name.")
        if any(sizes.get(name, 0) > _LARGEST.get(name, MAX_JSON_BYTES) for name in DECIDING):
            raise WeightsError(f"The files of {repo_id} are larger than any model of stlm_hub; give another name.")
        # The branch may have moved since: the commit of the config that was downloaded decides.
        config = patiently(lambda: fetch(CONFIG_NAME, revision))
        loaded = STLMConfig.load(config)
        if check is not None:
            check(loaded)
        for name in needed_files(loaded):
            patiently(lambda name=name: fetch(name, config.parent.name))  # type: ignore[misc]
        return found(config.parent)

    with hub_errors(repo_id, revision):
        pinned = revision is not None and _COMMIT.fullmatch(revision) is not None
        local = None
        if not force_download:
            try:
                local = cached()
            except STLMError:
                if pinned or local_files_only:
                    raise
            if local is not None and (pinned or local_files_only):
                return local
        if local_files_only:
            raise LocalEntryNotFoundError("local_files_only")
        try:
            return download()
        except (HTTPError, OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
            if local is None or not (is_out_of_reach(error) or isinstance(error, LocalEntryNotFoundError)):
                raise
            if not isinstance(error, OfflineModeIsEnabled):
                logger.warning("The Hub is out of reach; %s is loaded from the cache.", repo_id)
            return local


def needed_files(config: STLMConfig) -> list[str]:
    """Names of the files that decide a prediction of a model with this config."""
    absent = {MEMORY_NAME} if config.patch_memory is None else set()
    absent |= set() if config.streams else {WEIGHTS_NAME}
    absent |= set() if config.region else {REGION_NAME}
    return [name for name in DECIDING if name not in absent]


def _no_weights(place: str, names: Iterable[str]) -> str:
    pickles = sorted(name for name in names if name.endswith(PICKLE_SUFFIXES))
    if pickles:
        return (
            f"{place} has its weights only as a pickle ({pickles[0]}), which can run any code when it is read. "
            f"stlm_hub reads only {WEIGHTS_NAME}: ask whoever made the model to save it with STLM.save_pretrained."
        )
    return f"{place} has no {WEIGHTS_NAME}; a model has {', '.join(ALWAYS)}, as STLM.save_pretrained writes."
