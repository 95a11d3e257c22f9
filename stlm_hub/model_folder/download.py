"""A model of the Hub -> its files of one commit on this machine, from the cache or downloaded."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

from .. import __version__
from ..errors import HubError, STLMError, WeightsError
from ..models.stlm.config import CONFIG_NAME, STLMConfig
from ..validate import MAX_JSON_BYTES
from .hub_answers import TIMEOUT, HTTPError, hub_errors, is_out_of_reach, patiently
from .local_model import LocalModel, needed_files, no_weights
from .names import CALIBRATION_NAME, DECIDING, MAX_WEIGHT_BYTES, MEMORY_NAME, WEIGHT_FILES, WEIGHTS_NAME
from .zoo import ZooEntry

_LARGEST = dict.fromkeys(WEIGHT_FILES, MAX_WEIGHT_BYTES)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """A model of the Hub as somebody asks for it.

    Args:
        repo_id: `org/repo`.
        revision: branch, tag or commit; None: the main branch.
        entry: of zoo.json, where it vouches for the files.
        token, local_files_only, force_download, check: see `hub.resolve`.
    """

    repo_id: str
    revision: str | None
    entry: ZooEntry | None = None
    token: str | bool | None = None
    local_files_only: bool = False
    force_download: bool = False
    check: Callable[[STLMConfig], None] | None = None


def download(wanted: Wanted) -> LocalModel:
    """The deciding files of one commit.

    A commit that is in the cache is that. A branch or a tag may have moved, so the Hub is asked; the cache serves where
    it is out of reach.

    Raises:
        HubError: there is no such model, or it cannot be had.
        WeightsError: it has no weights, or larger ones than any model.
    """
    with hub_errors(wanted.repo_id, wanted.revision):
        pinned = wanted.revision is not None and _COMMIT.fullmatch(wanted.revision) is not None
        local = None
        if not wanted.force_download:
            try:
                local = _cached(wanted)
            except STLMError:
                if pinned or wanted.local_files_only:
                    raise
            if local is not None and (pinned or wanted.local_files_only):
                return local
        if wanted.local_files_only:
            raise LocalEntryNotFoundError("local_files_only")
        try:
            return _downloaded(wanted)
        except (HTTPError, OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
            if local is None or not (is_out_of_reach(error) or isinstance(error, LocalEntryNotFoundError)):
                raise
            if not isinstance(error, OfflineModeIsEnabled):
                logger.warning("The Hub is out of reach; %s is loaded from the cache.", wanted.repo_id)
            return local


def _cached(wanted: Wanted) -> LocalModel | None:
    revision = wanted.revision or constants.DEFAULT_REVISION
    config = try_to_load_from_cache(wanted.repo_id, CONFIG_NAME, revision=revision)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    needed = needed_files(STLMConfig.load(Path(config)))
    return _found(wanted, folder) if all((folder / name).is_file() for name in needed) else None


def _downloaded(wanted: Wanted) -> LocalModel:
    repo_id, revision = wanted.repo_id, wanted.revision
    api = HfApi(token=wanted.token, library_name="stlm_hub", library_version=__version__)
    # One question before any download: without a network it fails at once, where downloads would retry for most of a
    # minute.
    info = patiently(lambda: api.model_info(repo_id, revision=revision, files_metadata=True, timeout=TIMEOUT))
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
    if not {WEIGHTS_NAME, MEMORY_NAME} & sizes.keys():
        raise WeightsError(no_weights(repo_id, sizes))
    if missing := [name for name in (CONFIG_NAME, CALIBRATION_NAME) if name not in sizes]:
        raise HubError(f"{repo_id} has no {missing[0]}: it is not a model of stlm_hub, give another name.")
    if any(sizes.get(name, 0) > _LARGEST.get(name, MAX_JSON_BYTES) for name in DECIDING):
        raise WeightsError(f"The files of {repo_id} are larger than any model of stlm_hub; give another name.")
    # The branch may have moved since: the commit of the config that was downloaded decides.
    config = _fetch(wanted, CONFIG_NAME, revision)
    loaded = STLMConfig.load(config)
    if wanted.check is not None:
        wanted.check(loaded)
    for name in needed_files(loaded):
        _fetch(wanted, name, config.parent.name)
    return _found(wanted, config.parent)


def _fetch(wanted: Wanted, name: str, revision: str | None) -> Path:
    return patiently(
        lambda: Path(
            hf_hub_download(
                wanted.repo_id,
                name,
                revision=revision,
                token=wanted.token,
                force_download=wanted.force_download,
                library_name="stlm_hub",
                library_version=__version__,
            )
        )
    )


def _found(wanted: Wanted, folder: Path) -> LocalModel:
    """The model in a folder of the cache, which is named by the commit."""
    # Large files of the cache are links to blobs that are named by their SHA-256.
    links = {name: folder / name for name in DECIDING if (folder / name).is_symlink()}
    blobs = {name: link.readlink().name for name, link in links.items()}
    known = {name: blob for name, blob in blobs.items() if _SHA256.fullmatch(blob)}
    sha256, alias = (wanted.entry.sha256, wanted.entry.alias) if wanted.entry else (known, None)
    return LocalModel(folder, wanted.repo_id, folder.name, sha256, alias)
