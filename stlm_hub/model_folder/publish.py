"""A model folder -> a repository of the Hub: checked first, uploaded in one commit, tagged."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import HfApi, ModelCard, RepoUrl
from huggingface_hub.errors import RevisionNotFoundError
from yaml import YAMLError

from .. import __version__
from ..errors import HubError
from ..files.whole import replace_file
from ..models.stlm.anomaly_maps import AnomalyMaps
from ..validate import expanded
from . import results
from .card.card import card_of, write_card
from .folder import read_folder
from .local_model import PICKLE_SUFFIXES
from .names import CARD_NAME, FILES, MEMORY_NAME, RESULTS_NAME, WEIGHT_FILES, is_export
from .upload import check_repo_id, commit, write_errors
from .versions import PART, settle
from .weights_file import read_model_weights

ALLOWED = (*FILES, "*.png", ".gitattributes", "LICENSE*")
MIRRORED = (RESULTS_NAME, MEMORY_NAME, "*.png")  # removed from the repository when they are no longer in the folder
MAX_OTHER_BYTES = 20 * 2**20  # of each file but the weights


@dataclass(frozen=True)
class PublishedModel:
    """What was published: `STLM.from_pretrained(repo_id, revision=revision)` loads it for good."""

    repo_id: str
    revision: str  # 40-hex commit
    url: str


def publish(
    folder: Path,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool = False,
    tag: str | None = None,
    endpoint: str | None = None,
) -> PublishedModel:
    """Uploads a model folder in one commit and tags it. Publishing the same folder twice changes nothing.

    Args:
        folder: of a model; plots (*.png) and a licence may be with it. A card is written where there is none.
        repo_id: `org/repo`; it is created where needed.
        token: access token with write permission; None uses the one of `hf auth login`.
        private: whether a repository that is created is private.
        tag: of the commit; None is "v" and the version of stlm_hub.
        endpoint: of the Hub; None is `HF_ENDPOINT` or huggingface.co.

    Raises:
        ConfigError, WeightsError: the folder does not load.
        HubError: `repo_id` is not of this form, a file is missing or does not belong there, the card is not valid, the
            Hub refuses or is out of reach, or the tag stands for another commit.
    """
    check_repo_id(repo_id)
    folder = expanded(folder)
    if _without_card(folder):
        write_card(folder, repo_id)
    files = check_folder(folder)
    card = _addressed(folder, repo_id)
    if card != files[CARD_NAME].read_bytes():
        replace_file(files[CARD_NAME], card)
    tag = tag or f"v{__version__}"
    api = HfApi(endpoint=endpoint, token=token, library_name="stlm_hub", library_version=__version__)
    with write_errors(repo_id, api.endpoint, tag):
        repo = api.create_repo(repo_id, private=private, exist_ok=True)
        there = [file.rfilename for file in api.model_info(repo.repo_id).siblings or []]
        stale = [name for name in there if name not in files and _matches(name, MIRRORED)]
        revision = commit(api, repo, files, stale)
        _tag(api, repo, revision, tag)
    return PublishedModel(repo.repo_id, revision, f"{api.endpoint}/{repo.repo_id}")


def dry_run(folder: Path, repo_id: str) -> dict[str, int]:
    """What `publish` would upload, after all that it checks before it asks the Hub. Nothing is changed or uploaded.

    Returns:
        Sizes in bytes by the path in the repository.

    Raises:
        ConfigError, WeightsError, HubError: as `publish`, as far as this machine can tell.
    """
    check_repo_id(repo_id)
    folder = expanded(folder)
    card = card_of(folder, repo_id).encode() if _without_card(folder) else None
    sizes = {name: path.stat().st_size for name, path in check_folder(folder, card).items()}
    return sizes | {CARD_NAME: len(_addressed(folder, repo_id) if card is None else card)}


def check_folder(folder: Path, card: bytes | None = None) -> dict[str, Path]:
    """The files of a model folder by their path in the repository, after everything that can be checked here was.

    Args:
        folder: of a model.
        card: that will be written into it; None: it is there.

    Raises:
        ConfigError, WeightsError: the folder does not load.
        HubError: a file is missing or does not belong there, or the card is not valid.
    """
    if not folder.is_dir():
        raise HubError(f"There is no folder {folder}; give the folder that STLM.save_pretrained wrote.")
    settle(folder)
    left_out = {PART, *(path.name for path in folder.iterdir() if is_export(path))}  # others export on their machine
    found = [path for path in sorted(folder.rglob("*")) if path.relative_to(folder).parts[0] not in left_out]
    files = {path.relative_to(folder).as_posix(): path for path in found if path.is_file()}
    for path in found:
        if path.is_symlink():  # it may lead to a file that nobody means to publish
            raise HubError(f"{path} is a link; put the file itself there to publish.")
        if not path.is_file() and not path.is_dir():
            raise HubError(f"{path} is not an ordinary file; remove it to publish.")
    for name, path in files.items():
        if name.endswith(PICKLE_SUFFIXES):
            raise HubError(f"{path} looks like a pickle, which can run code at whoever loads it; remove it to publish.")
        if not _matches(name, ALLOWED):
            raise HubError(f"{path} does not belong to a model; move it away. A model has {', '.join(ALLOWED)}.")
        if name not in WEIGHT_FILES and path.stat().st_size > MAX_OTHER_BYTES:
            raise HubError(f"{path} is larger than {MAX_OTHER_BYTES >> 20} MB; make it smaller to publish.")
    _check_card(folder / CARD_NAME, card)
    config, judging = read_folder(folder)
    with torch.device("meta"):  # names, shapes and dtypes are all that is needed
        model = AnomalyMaps(config, judging)
    read_model_weights(folder, model)
    if (folder / RESULTS_NAME).exists():
        known = results.load(folder / RESULTS_NAME)
        results.check_files(known, folder)
        results.validate(known, judging)
    return files


def _without_card(folder: Path) -> bool:
    return folder.is_dir() and not (folder / CARD_NAME).is_file()


def _addressed(folder: Path, repo_id: str) -> bytes:
    """The card. Its snippet named the repository that the training was given; now it is known where the model goes."""
    card = (folder / CARD_NAME).read_bytes()
    if not (folder / RESULTS_NAME).is_file():
        return card
    before = results.load(folder / RESULTS_NAME).provenance.repo_id
    return card.replace(f'"{before}"'.encode(), f'"{repo_id}"'.encode()) if before else card


def _check_card(path: Path, written: bytes | None) -> None:
    if written is None and not path.is_file():
        raise HubError(f"{path} is missing; copy the model's card there.")
    try:
        content = path.read_text(encoding="utf-8") if written is None else written.decode()
        data = ModelCard(content).data.to_dict() if content.startswith("---") else {}
    except (ValueError, TypeError, YAMLError) as error:
        detail = " ".join(str(error).split())[:200]
        raise HubError(f"The front matter of {path} is not valid ({detail}); correct the lines between ---.") from error
    if not data:
        raise HubError(f"{path} has no front matter; a model card begins with license, tags and so on between ---.")


def _tag(api: HfApi, repo: RepoUrl, commit: str, tag: str) -> None:
    try:
        tagged = api.model_info(repo.repo_id, revision=tag).sha
    except RevisionNotFoundError:
        api.create_tag(repo.repo_id, tag=tag, revision=commit)
        return
    if tagged != commit:
        raise HubError(
            f"{repo.repo_id} was uploaded as {commit}, but its tag {tag} already stands for {tagged}; publish again "
            "with another tag."
        )


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
