"""What visitors have downloaded is bounded, and nothing else in the Hub's cache is touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import HubServer
from huggingface_hub import constants

from benchmarks.page_process import ROOT
from stlm_page.hub_cache import HubCache

PROGRAM = """
import json, sys
import pytest, torch, toy_streams
from pathlib import Path
from huggingface_hub import constants, hf_hub_download
from stlm_hub.errors import STLMError
from stlm_page.models import Models

torch.set_num_threads(1)
toy_streams.install(pytest.MonkeyPatch())
of_the_owner, bound, *names = sys.argv[1:]
hf_hub_download(of_the_owner, "config.json")
models = Models(max_bytes=1)  # one at a time in memory
models.cache.max_bytes = int(bound)
for name in names:
    try:
        card = models.read(models.get(name), "README.md", 1000)
        found = name if card is None else card.decode()
    except STLMError as error:
        found = str(error)
    kept = sorted(str(path.relative_to(constants.HF_HUB_CACHE)) for path in
                  Path(constants.HF_HUB_CACHE).glob("models--*/snapshots/*"))
    print(json.dumps([found, kept]))
"""


def folder(repo_id: str, commit: str) -> str:
    return f"models--{repo_id.replace('/', '--')}/snapshots/{commit}"


def test_the_models_not_used_for_the_longest_time_go_first(hub: HubServer, saved_toy: Path, tmp_path: Path) -> None:
    files = {path.name: path.read_bytes() for path in saved_toy.iterdir() if path.is_file()}
    size = sum(map(len, files.values()))
    commits = {name: hub.put(name, {**files, "README.md": name.encode()}) for name in ("org/a", "org/b", "org/c")}
    commits["org/own"] = hub.put("org/own", files)
    first = commits["org/a"]
    second = hub.put("org/a", {"README.md": b"newer"})  # shares its weights with the first
    env = {**os.environ, "HF_HOME": str(tmp_path), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
    env["PYTHONPATH"] = os.pathsep.join(str(path) for path in (ROOT, ROOT / "tests", ROOT / "space"))
    names = [f"org/a@{first}", "org/b", f"org/a@{first}", "org/c", "org/a", "org/own", "org/c"]
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, "org/own", str(int(2.5 * size)), *names],
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stderr
    answers = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [said for said, _ in answers] == ["org/a", "org/b", "org/a", "org/c", "newer", "org/own", "org/c"]
    own, old, new = (folder("org/own", commits["org/own"]), folder("org/a", first), folder("org/a", second))
    b, c = folder("org/b", commits["org/b"]), folder("org/c", commits["org/c"])
    assert [kept for _, kept in answers] == [
        sorted(kept)
        for kept in (
            [own, old],
            [own, old, b],
            [own, old, b],
            [own, old, c],  # b was not used for longer
            [own, old, c, new],  # the weights are there once
            [own, old, c, new],  # what the owner has downloaded counts nothing and stays
            [own, old, c, new],
        )
    ]


class Cache(HubCache):
    """A cache of the page in a folder of its own, of three files of 100 bytes."""

    def __init__(self, folder: Path) -> None:
        super().__init__(lambda: self.in_memory, max_bytes=300)
        self.folder = folder
        self.in_memory: set[Path] = set()

    def download(self, repo: str, commit: str) -> Path:
        """A snapshot of one file."""
        snapshot = self.folder / f"models--{repo.replace('/', '--')}" / "snapshots" / commit
        snapshot.mkdir(parents=True)
        stored = snapshot.parent.parent / "blobs" / commit
        stored.parent.mkdir(exist_ok=True)
        stored.write_bytes(bytes(100))
        (snapshot / "config.json").symlink_to(stored)
        return snapshot

    def fetch(self, repo: str, commit: str, age: int = 0) -> Path:
        """A snapshot that the page has downloaded, last used that many seconds ago."""
        with self.using(repo):
            snapshot = self.download(repo, commit)
        mark = snapshot.parent.parent / ".stlm_page" / commit
        os.utime(mark, (mark.stat().st_atime, mark.stat().st_mtime - age))
        return snapshot


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return Cache(tmp_path)


def test_what_is_loaded_or_being_downloaded_stays(cache: Cache) -> None:
    loaded, busy, idle = (cache.fetch(f"org/{name}", name, age) for name, age in (("a", 30), ("b", 20), ("c", 10)))
    cache.in_memory = {loaded}
    with cache.using("org/b"):
        cache.fetch("org/d", "d")
    assert loaded.is_dir() and busy.is_dir() and not idle.parent.parent.exists()
    cache.in_memory = set()
    cache.fetch("org/e", "e")
    assert loaded.is_dir() and not busy.exists()  # it was in use when b no longer was


def test_what_is_used_again_is_no_longer_the_oldest(cache: Cache) -> None:
    old, other, _ = (cache.fetch(f"org/{name}", name, age) for name, age in (("a", 30), ("b", 20), ("c", 10)))
    cache.used(old)
    cache.used(cache.folder)  # of a model that lies elsewhere
    cache.fetch("org/d", "d")
    assert old.is_dir() and not other.exists()


def test_a_commit_of_the_owner_stays_even_if_a_visitor_names_its_twin(cache: Cache) -> None:
    owners = [cache.download("owner/part", "twin"), cache.download("owner/other", "x")]
    further = cache.fetch("owner/part", "newer", 50)
    copies = [cache.fetch(f"org/{n}", "twin", 40 - n) for n in range(4)]
    assert all(path.is_dir() for path in owners)
    assert not further.exists() and [path.is_dir() for path in copies] == [False, True, True, True]


def test_what_breaks_off_counts_and_nothing_to_delete_is_no_endless_search(cache: Cache) -> None:
    cache.in_memory = {cache.fetch("org/a", str(n), n) for n in range(3)}
    for n in range(3, 5):
        cache.in_memory.add(cache.folder / "models--org--a" / "snapshots" / str(n))
        cache.fetch("org/a", str(n))
    assert all(path.is_dir() for path in cache.in_memory)
    with pytest.raises(ValueError, match="broken off"), cache.using("org/new"):
        cache.download("org/new", "half")
        raise ValueError("broken off")
    assert not (cache.folder / "models--org--new").exists()
