"""From a name to local files of one commit: an alias, `org/repo`, `org/repo@revision` or a folder."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

from .. import __version__
from ..errors import HubError
from ..models.stlm.config import CONFIG_NAME, STLMConfig
from . import zoo
from .download import Wanted, download
from .hub_answers import TIMEOUT, hub_errors
from .local_model import LocalModel, in_folder
from .names import RESULTS_NAME, WEIGHTS_NAME

if TYPE_CHECKING:
    from .results import Results

_REVISION = re.compile(r"[\w./+-]{0,200}")

logger = logging.getLogger(__name__)


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
        name: alias, `org/repo`, `org/repo@revision`, its address on the Hub, or a folder.
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
    if isinstance(name, str):
        text = name = zoo.of_address(name)
    if isinstance(name, str) and "@" in text and zoo.folder_of(text) is None:
        text, _, tail = text.rpartition("@")
        if revision not in (None, tail):
            raise HubError(f'"{name}" and revision="{revision}" name two revisions of {text}; give only one.')
        revision = tail
    if revision is not None and (".." in revision or not _REVISION.fullmatch(revision)):
        raise HubError(f'"{revision:.80}" is no revision; give a branch, a tag or a commit.')  # it becomes a path
    if not text or revision == "":
        raise HubError('Give the name of a model: an alias, "org/repo", "org/repo@revision" or a folder.')

    def of_the_hub(repo_id: str, commit: str | None, entry: zoo.ZooEntry | None = None) -> LocalModel:
        return download(Wanted(repo_id, commit, entry, token, local_files_only, force_download, check))

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
                return of_the_hub(repo_id, revision)
            pinned = entry.revision if repo_id == entry.repo_id else None  # commits of another organisation differ
            return of_the_hub(repo_id, pinned, entry)

    folder = zoo.folder_of(text)
    if folder is not None:
        if revision is not None:
            raise HubError(f'{folder} is a folder and has no revision "{revision}"; leave the revision out.')
        return in_folder(folder, None)
    if bare:
        raise HubError(zoo.unknown_alias(text))
    if isinstance(name, str) and re.fullmatch(r"\w[\w.-]*/[\w.-]+", text):
        return of_the_hub(text, revision)
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
