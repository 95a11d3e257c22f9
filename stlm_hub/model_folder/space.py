"""The Gradio page as a Space of the Hub: a folder that needs nothing but PyPI, and its upload.

A Space installs `requirements.txt` before it has the repository, so the library cannot be a wheel in it: its source is
copied beside the page. Models that are published are named in the front matter, and the Hub fetches them when it builds
the Space; models that are not published yet are copied.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from huggingface_hub import HfApi, RepoUrl, SpaceCard, SpaceHardware
from huggingface_hub.errors import HfHubHTTPError

from .. import __version__
from ..errors import HubError
from ..files.whole import made_beside
from ..samples.parts import write_samples
from ..validate import expanded
from . import zoo, zoo_files
from .card.card import template_folder
from .names import CARD_NAME, DECIDING, RESULTS_NAME
from .publish import check_folder
from .upload import check_repo_id, commit, write_errors

PAGE = ("README.md", "requirements.txt", "app.py", "stlm_page")
"""What the page is made of, in space/ of a checkout and in space_files/ of a wheel."""
EXAMPLES = {
    "crack.png": "test/crack/000.png",
    "stain.png": "test/stain/000.png",
    "hole.png": "test/hole/000.png",
    "scratch.png": "test/scratch/000.png",
    "good_1.png": "test/good/000.png",
    "good_2.png": "test/good/001.png",
    "LICENSE.txt": "LICENSE.txt",
}
"""Names in examples/, and the files of `stlm samples` that they are copies of."""

_PACKAGE = Path(__file__).resolve().parents[1]
_CACHES = ("__pycache__", "*.pyc", ".*")
_OURS = "stlm_hub/stlm.py"  # in every Space that was pushed from here
_OF_THE_HUB = (".gitattributes", "README.md")  # what a Space may hold that nothing was uploaded to


@dataclass(frozen=True)
class PublishedSpace:
    """Which Space was written, and the commit that it is at."""

    repo_id: str
    revision: str  # 40-hex commit
    url: str


def build(folder: Path, *, models: Sequence[str] | None = None) -> Path:
    """Writes everything that the Space's repository holds: page, library, example photographs, models.

    `python app.py` in the folder shows the page, with the packages of its requirements.txt and no other.

    Args:
        folder: is created where needed, and must be empty.
        models: aliases to offer; None is every model of the zoo.

    Returns:
        `folder`. It appears only when all of it is written.

    Raises:
        HubError: the folder holds something or cannot be written, an alias is unknown, or a model that is not published
            yet is not on this machine or is not the one of zoo.json.
        ConfigError, WeightsError: a model that is not published yet does not load.
        DataError: scikit-image, which has the example photographs, is not installed.
    """
    folder = expanded(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise HubError(f"{folder} already exists and is not empty; delete it or choose another folder.")
    entries = _entries(models)
    page = zoo.CHECKOUT / "space" if (zoo.CHECKOUT / "pyproject.toml").is_file() else _PACKAGE / "space_files"
    for name in PAGE:
        if not (page / name).exists():
            raise HubError(f"{page / name} is missing, which the Space needs; install stlm_hub again.")
    unpublished = {alias: _unpublished(entry) for alias, entry in entries.items()}
    target = folder.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with made_beside(target) as scratch:
            made = scratch / "space"
            ignored = shutil.ignore_patterns(*_CACHES, "space_files", "zoo.json")
            shutil.copytree(_PACKAGE, made / "stlm_hub", ignore=ignored)
            shutil.copytree(
                template_folder(), made / "stlm_hub" / "model_folder" / "card" / "template", dirs_exist_ok=True
            )
            zoo.save_zoo(entries, made / "stlm_hub" / "model_folder" / "zoo.json")
            _copy_page(page, made, entries)
            write_examples(made / "examples")
            for alias, files in unpublished.items():
                for name, path in files.items():
                    copy = made / "models" / alias / name
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, copy)
            if target.exists():
                target.rmdir()
            made.rename(target)
    except OSError as error:
        detail = " ".join(str(error).split())[:200]
        raise HubError(f"{folder} cannot be written ({detail}); choose another folder.") from error
    return folder


def push(
    repo_id: str,
    *,
    token: str | None = None,
    private: bool = False,
    hardware: str | None = None,
    models: Sequence[str] | None = None,
    endpoint: str | None = None,
) -> PublishedSpace:
    """Builds the Space and uploads it in one commit. Pushing the same twice changes nothing.

    The Space then holds exactly what was built: files of an earlier push that are no longer built are deleted.

    Args:
        repo_id: `org/name`; it is created where needed.
        token: access token with write permission; None uses the one of `hf auth login`.
        private: whether a Space that is created is private.
        hardware: to run on, e.g. "cpu-basic", "zero-a10g", "t4-small"; None is the free CPU, or what the Space has.
        models: aliases to offer; None is every model of the zoo.
        endpoint: of the Hub; None is `HF_ENDPOINT` or huggingface.co.

    Raises:
        HubError: as of `build`; `repo_id` is not of this form, or of a Space of something else; the Hub refuses or is
            out of reach.
        ConfigError, WeightsError, DataError: as of `build`.
    """
    check_repo_id(repo_id)
    api = HfApi(endpoint=endpoint, token=token, library_name="stlm_hub", library_version=__version__)
    with tempfile.TemporaryDirectory(prefix="stlm-space-") as scratch:
        folder = build(Path(scratch) / "space", models=models)
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        with write_errors(repo_id, api.endpoint):
            repo, there = _prepare(api, repo_id, private, hardware)
            stale = [name for name in there if name not in files and name != ".gitattributes"]
            revision = commit(api, repo, files, stale)
    return PublishedSpace(repo.repo_id, revision, f"{api.endpoint}/spaces/{repo.repo_id}")


def write_examples(folder: Path) -> Path:
    """Writes photographs to try the page with, of `EXAMPLES`, and their licence. `folder` must not exist.

    Raises:
        DataError: scikit-image, which has the photographs, is not installed, or there is no room for them.
        OSError: `folder` exists or cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="stlm-samples-") as scratch:
        samples = write_samples(Path(scratch), part="brick", n_train=0, n_good=2, n_defect_each=1, size=256, seed=0)
        folder.mkdir(parents=True)
        for name, source in EXAMPLES.items():
            shutil.copyfile(samples / source, folder / name)
    return folder


def _entries(models: Sequence[str] | None) -> dict[str, zoo.ZooEntry]:
    known = zoo.load_zoo()
    wanted = sorted(known if models is None else set(models))
    for alias in wanted:
        if alias not in known:
            raise HubError(zoo.unknown_alias(alias))
    if not wanted:
        raise HubError("A Space needs a model to show; name one that `stlm zoo list` shows.")
    return {alias: known[alias] for alias in wanted}


def _unpublished(entry: zoo.ZooEntry) -> dict[str, Path]:
    """The files of a model that the Hub does not have yet, by name, if they may be published; none of one it has."""
    if entry.revision is not None:
        return {}
    try:
        found = zoo_files.verify(entry.alias)
    except HubError as error:
        raise HubError(
            f"{entry.alias} is not on the Hub yet and not on this machine; set STLM_ZOO_DIR to the folder that has "
            f"{entry.alias}/ in it, or choose other models."
        ) from error
    if found.problems:
        raise HubError(f"{found.problems[0]} Only the model of zoo.json can go into the Space.")
    return check_folder(found.folder)


def _copy_page(page: Path, made: Path, entries: dict[str, zoo.ZooEntry]) -> None:
    for name in PAGE:
        if (page / name).is_dir():
            shutil.copytree(page / name, made / name, ignore=shutil.ignore_patterns(*_CACHES))
        else:
            shutil.copyfile(page / name, made / name)
    card = SpaceCard((page / "README.md").read_text(encoding="utf-8"))
    preloaded = [
        f"{entry.repo_id} {','.join(_preloaded(entry))} {entry.revision}"
        for entry in entries.values()
        if entry.revision
    ]
    card.data["models"] = [entry.repo_id for entry in entries.values()]
    card.data["preload_from_hub"] = preloaded or None  # None is left out
    (made / "README.md").write_text(str(card), encoding="utf-8", newline="\n")


def _preloaded(entry: zoo.ZooEntry) -> list[str]:
    """Files that the Hub fetches when it builds the Space: not all models have a memory."""
    return [*(name for name in DECIDING if name in entry.sha256), RESULTS_NAME, CARD_NAME]


def _prepare(api: HfApi, repo_id: str, private: bool, hardware: str | None) -> tuple[RepoUrl, list[str]]:
    """The Space, created where needed and on the hardware that is wanted, and the files that it holds."""
    flavour = cast("SpaceHardware | None", hardware)  # the Hub knows more of them than the client's list
    try:
        repo = api.create_repo(
            repo_id, repo_type="space", space_sdk="gradio", space_hardware=flavour, private=private, exist_ok=True
        )
        info = api.space_info(repo.repo_id)
        there = [file.rfilename for file in info.siblings or []]
        if _OURS not in there and not set(there) <= set(_OF_THE_HUB):
            raise HubError(f"{repo.repo_id} is a Space of something else; give another name, or delete that one first.")
        if flavour and (info.runtime is None or info.runtime.requested_hardware != flavour):
            api.request_space_hardware(repo.repo_id, flavour)  # the Space was there before
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status == 402 or (hardware and status in (400, 403)):
            detail = " ".join((error.server_message or "").split())[:200] or f"HTTP {status}"
            raise HubError(
                f"The Hub refuses {repo_id} on {hardware or 'free hardware'} ({detail}); choose other hardware, or see "
                f"{api.endpoint}/pricing."
            ) from error
        raise
    return repo, there
