"""The models that visitors had the page download: bounded on the disk, those not used for the longest time go first.

Nothing else in the Hub's cache is touched. What lay there before, or was downloaded by others, belongs to whoever runs
the page: a mark beside each snapshot says that the page made it.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CachedRepoInfo, CachedRevisionInfo, constants, scan_cache_dir
from huggingface_hub.errors import CacheNotFound
from huggingface_hub.file_download import repo_folder_name

MAX_BYTES = int(os.environ.get("STLM_SPACE_CACHE_BYTES", 10 * 2**30))
"""Of all models together that the page has downloaded; one takes 35 MB. Those that are loaded stay in any case."""

_MARKS = ".stlm_page"  # folder beside a repository's snapshots, with a file for each commit; its age is the last use

logger = logging.getLogger(__name__)


class HubCache:
    """What the page has downloaded into the Hub's cache.

    Args:
        loaded: gives the snapshots of models in memory, whose further files are still read.
        max_bytes: of all of it together.
    """

    def __init__(self, loaded: Callable[[], set[Path]], max_bytes: int = MAX_BYTES) -> None:
        self.loaded = loaded
        self.max_bytes = max_bytes
        self._busy: Counter[Path] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def using(self, repo_id: str) -> Iterator[None]:
        """While the block runs, nothing of a repository is deleted; what is new there afterwards is the page's.

        Then others go, where it is too much. What a block leaves that fails counts as well.
        """
        repo = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo_id, repo_type="model")
        with self._lock:
            self._busy[repo] += 1
            before = _snapshots(repo)
        try:
            yield
        finally:
            with self._lock:
                new = _snapshots(repo) - before
                for commit in new:
                    (repo / _MARKS).mkdir(exist_ok=True)
                    (repo / _MARKS / commit).touch()
                self._busy[repo] -= 1
            if new:
                self._trim()

    def used(self, snapshot: Path) -> None:
        """Notes that a model was loaded."""
        if _mark(snapshot).is_file():
            _mark(snapshot).touch()

    def _trim(self) -> None:
        with self._lock:  # whoever wants to use one of them meanwhile downloads it again
            busy = {repo for repo, count in self._busy.items() if count}
            keep = self.loaded()  # asked after: a model is busy until it is loaded
            for folder in keep:
                self.used(folder)
            tried: set[Path] = set()
            while True:
                repos = _marked()
                if sum(map(_size, repos)) <= self.max_bytes:
                    return
                free = [
                    (_mark(revision.snapshot_path).stat().st_mtime, revision.snapshot_path, repo)
                    for repo in repos
                    for revision in repo.revisions
                    if repo.repo_path not in busy and revision.snapshot_path not in keep | tried
                    if _is_marked(revision)
                ]
                if not free:
                    return
                _, folder, repo = min(free, key=lambda each: each[:2])
                _delete(folder, repo)
                tried.add(folder)


def _snapshots(repo: Path) -> set[str]:
    """Commits of which there are files."""
    try:
        return {path.name for path in (repo / "snapshots").iterdir()}
    except OSError:
        return set()


def _mark(snapshot: Path) -> Path:
    return snapshot.parent.parent / _MARKS / snapshot.name


def _is_marked(revision: CachedRevisionInfo) -> bool:
    return _mark(revision.snapshot_path).is_file()


def _size(repo: CachedRepoInfo) -> int:
    """Bytes of the page's snapshots, without what others hold as well."""
    blobs = {file.blob_path: file.size_on_disk for each in repo.revisions if _is_marked(each) for file in each.files}
    others = {file.blob_path for each in repo.revisions if not _is_marked(each) for file in each.files}
    return sum(size for path, size in blobs.items() if path not in others)


def _marked() -> list[CachedRepoInfo]:
    """Repositories with files that the page has downloaded."""
    try:
        found = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return []
    return [repo for repo in found if repo.repo_type == "model" and (repo.repo_path / _MARKS).is_dir()]


def _delete(folder: Path, repo: CachedRepoInfo) -> None:
    """Deletes a snapshot, and the blobs that no other of the repository has."""
    # In this repository alone: others may have a commit of that name.
    alone = dataclasses.replace(scan_cache_dir(constants.HF_HUB_CACHE), repos=frozenset([repo]))
    alone.delete_revisions(folder.name).execute()
    _mark(folder).unlink(missing_ok=True)
    logger.info("Deleted %s of %s, not used for the longest time.", folder.name, repo.repo_id)
