"""Names of models, without a Hub. See test_hub_end_to_end.py for the rest."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from card_model import RESULTS
from huggingface_hub import constants

from stlm_hub.errors import ConfigError, HubError, WeightsError
from stlm_hub.files.fingerprint import file_sha256
from stlm_hub.model_folder import hub, zoo, zoo_files
from stlm_hub.model_folder import results as facts
from stlm_hub.model_folder.download import Wanted
from stlm_hub.model_folder.hub import companion_file, resolve, results_of
from stlm_hub.model_folder.local_model import LocalModel, needed_files
from stlm_hub.model_folder.results import FileFacts
from stlm_hub.stlm import STLM

pytestmark = pytest.mark.usefixtures("toy_streams")


@pytest.fixture
def own_zoo(saved_toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> zoo.ZooEntry:
    """A zoo of one model, "test-bottle", without a checkout around it."""
    path = tmp_path / "zoo.json"
    path.write_text('{"models": {}}')
    monkeypatch.setattr(zoo, "ZOO_PATH", path)
    monkeypatch.setattr(zoo, "CHECKOUT", tmp_path / "no checkout")
    for name in ("STLM_ZOO_DIR", "STLM_HUB_ORG"):
        monkeypatch.delenv(name, raising=False)
    return zoo_files.register(saved_toy, "test-bottle", "someone/stlm-test-bottle", "apache-2.0")


def other_weights(folder: Path) -> None:
    """Changes one bit of a saved model; its size stays."""
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-100] ^= 1
    (folder / "model.safetensors").write_bytes(data)


@pytest.mark.parametrize("name", ["", "./nowhere", "a/b/c", "/nowhere/at/all", "org/", "~/nowhere", Path("org/repo")])
def test_names_that_lead_nowhere(name: str | Path, own_zoo: zoo.ZooEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match=r"There is no folder|Give the name of a model"):
        resolve(name)


def test_revisions_must_make_sense(saved_toy: Path, own_zoo: zoo.ZooEntry) -> None:
    with pytest.raises(HubError, match="two revisions"):
        resolve("org/repo@v1", revision="v2")
    with pytest.raises(HubError, match="Give the name"):
        resolve("org/repo@")
    with pytest.raises(HubError, match="leave the revision out"):
        resolve(saved_toy, revision="v1")
    with pytest.raises(HubError, match="leave the revision out"):
        resolve(f"{saved_toy}@v1")


def test_a_folder_with_an_at_sign_is_a_folder(saved_toy: Path, own_zoo: zoo.ZooEntry, tmp_path: Path) -> None:
    (tmp_path / "model@home").symlink_to(saved_toy)
    local = resolve(str(tmp_path / "model@home"))
    assert local.folder == tmp_path / "model@home"
    assert STLM.from_pretrained(str(tmp_path / "model@home")).name == "model@home"


def test_a_folder_of_a_memory_alone_is_a_model(saved_memory_alone: Path, own_zoo: zoo.ZooEntry) -> None:
    assert resolve(saved_memory_alone).folder == saved_memory_alone
    assert STLM.from_pretrained(saved_memory_alone).network is None


# ---------------------------------------------------------------- files beside a model


def test_a_companion_of_a_folder_lies_beside_the_config(saved_toy: Path, own_zoo: zoo.ZooEntry, tmp_path: Path) -> None:
    folder = shutil.copytree(saved_toy, tmp_path / "model")
    local = resolve(folder)
    assert companion_file(local, "results.json") is None and results_of(local) is None
    (folder / "results.json").mkdir()
    assert companion_file(local, "results.json") is None
    (folder / "results.json").rmdir()
    (folder / "results.json").write_text("{}")
    assert companion_file(local, "results.json") == folder / "results.json"


def test_results_are_read_where_they_are_of_these_weights(
    saved_toy: Path, own_zoo: zoo.ZooEntry, tmp_path: Path
) -> None:
    folder = shutil.copytree(saved_toy, tmp_path / "model")
    weights, path = folder / "model.safetensors", folder / "results.json"
    own = dataclasses.replace(RESULTS, files={weights.name: FileFacts(file_sha256(weights), 1)})
    facts.save(own, path)
    assert results_of(resolve(folder)) == own
    facts.save(RESULTS, path)
    with pytest.raises(ConfigError, match=r"is of another model\.safetensors"):
        results_of(resolve(folder))
    path.write_text('{"metrics": {}}')
    with pytest.raises(ConfigError, match="is not what stlm_hub writes"):
        results_of(resolve(folder))
    assert STLM.from_pretrained(folder).name == "model"  # which needs none of it


# ---------------------------------------------------------------- aliases


def test_an_unknown_alias_lists_close_matches(own_zoo: zoo.ZooEntry) -> None:
    with pytest.raises(HubError, match=r'no model "test-botle"\. Did you mean test-bottle\?.*"org/repo"'):
        resolve("test-botle")
    with pytest.raises(HubError, match=r'no model "zzz"\. The zoo has: test-bottle\.'):
        resolve("zzz")


def test_an_own_zoo_folder_comes_first_and_is_checked(
    own_zoo: zoo.ZooEntry, saved_toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STLM_ZOO_DIR", str(tmp_path / "models"))
    copy = shutil.copytree(saved_toy, tmp_path / "models" / "test-bottle")
    local = resolve("test-bottle")
    assert (local.folder, local.alias, local.revision) == (copy, "test-bottle", None)
    assert local.sha256 == own_zoo.sha256 and set(local.sha256) == {path.name for path in saved_toy.iterdir()}
    model = STLM.from_pretrained("test-bottle")
    assert (model.config.category, model.name) == ("bottle", "test-bottle")

    changed = json.loads((copy / "calibration.json").read_text()) | {"score_top_k": 1}
    (copy / "calibration.json").write_text(json.dumps(changed))
    with pytest.raises(WeightsError, match=r"calibration\.json is not the one of zoo\.json"):
        STLM.from_pretrained("test-bottle")
    assert STLM.from_pretrained(copy).judging.score_top_k == 1  # a folder of one's own may be edited

    shutil.copy(saved_toy / "calibration.json", copy)
    other_weights(copy)
    with pytest.raises(WeightsError, match="altered or corrupted"):
        STLM.from_pretrained("test-bottle")
    copy.rename(tmp_path / "models" / "my-part")
    assert STLM.from_pretrained("my-part").name == "my-part"  # not in zoo.json: accepted as it is


def test_every_file_that_decides_is_checked_by_name(
    own_zoo: zoo.ZooEntry,
    toy_memory_model: STLM,
    saved_memory_toy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    zoo_files.register(saved_memory_toy, "test-screw", "someone/stlm-test-screw", "apache-2.0")
    monkeypatch.setenv("STLM_ZOO_DIR", str(tmp_path))
    for name in needed_files(toy_memory_model.config):
        copy = shutil.copytree(saved_memory_toy, tmp_path / "test-screw")
        assert STLM.from_pretrained("test-screw").name == "test-screw"
        data = bytearray((copy / name).read_bytes())
        data[-2:] = b"\x01\x01" if name.endswith(".safetensors") else b" }"
        (copy / name).write_bytes(data)
        with pytest.raises(WeightsError, match=rf"{name} (was altered|is not the one of zoo\.json)"):
            STLM.from_pretrained("test-screw")
        shutil.rmtree(copy)


def test_a_checkout_is_used_and_checked(
    own_zoo: zoo.ZooEntry, saved_toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo, "CHECKOUT", tmp_path)
    copy = shutil.copytree(saved_toy, tmp_path / "model_cards" / "test-bottle")
    with pytest.raises(HubError, match="not in the cache"):  # without pyproject.toml it is not a checkout
        resolve("test-bottle", local_files_only=True)
    (tmp_path / "pyproject.toml").touch()
    local = resolve("test-bottle", local_files_only=True)
    assert local.folder == copy and local.alias == "test-bottle"
    with pytest.raises(HubError, match="not in the cache"):  # a revision is one of the Hub
        resolve("test-bottle@main", local_files_only=True)
    other_weights(copy)
    with pytest.raises(WeightsError, match="altered or corrupted"):
        STLM.from_pretrained("test-bottle", local_files_only=True)
    (copy / "model.safetensors").unlink()
    with pytest.raises(HubError, match="not in the cache"):  # a checkout without its large files
        resolve("test-bottle", local_files_only=True)


def test_another_organisation_can_serve_the_aliases(own_zoo: zoo.ZooEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HubError, match=r"someone/stlm-test-bottle is not in the cache"):
        resolve("test-bottle", local_files_only=True)
    monkeypatch.setenv("STLM_HUB_ORG", "factory")
    with pytest.raises(HubError, match=r"factory/stlm-test-bottle is not in the cache"):
        resolve("test-bottle", local_files_only=True)


def test_a_name_decides_what_is_asked_of_the_hub(
    own_zoo: zoo.ZooEntry, saved_toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Wanted] = []
    monkeypatch.setattr(hub, "download", asked.append)
    resolve("org/repo@v1", token="mine", local_files_only=True, force_download=True, check=print)
    assert asked.pop() == Wanted("org/repo", "v1", None, "mine", True, True, print)
    for address, revision in (("", None), ("/", None), ("/tree/v1", "v1"), ("?library=stlm_hub", None)):
        resolve(f"https://huggingface.co/org/repo{address}")
        assert asked.pop() == Wanted("org/repo", revision, None), address
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.factory:8080/")
    resolve("http://hub.factory:8080/org/repo")
    assert asked.pop() == Wanted("org/repo", None, None)
    monkeypatch.delenv("HF_ENDPOINT")

    commit = "a" * 40
    entry = zoo_files.register(saved_toy, "test-bottle", "someone/stlm-test-bottle", "apache-2.0", revision=commit)
    resolve("test-bottle")
    assert asked.pop() == Wanted("someone/stlm-test-bottle", commit, entry)
    resolve("test-bottle@main")  # not what zoo.json vouches for
    assert asked.pop() == Wanted("someone/stlm-test-bottle", "main")
    monkeypatch.setenv("STLM_HUB_ORG", "factory")
    resolve("test-bottle")  # commits of another organisation differ, the files are to be the same
    assert asked.pop() == Wanted("factory/stlm-test-bottle", None, entry)


def test_a_companion_is_of_the_commit_of_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, object, object]] = []

    def metadata(url: str, *, token: object, timeout: float) -> SimpleNamespace:
        asked.append((url, token, timeout))
        return SimpleNamespace(size=10)

    def download(repo_id: str, name: str, *, revision: object, token: object, **_: object) -> str:
        asked.append((f"{repo_id}/{name}", revision, token))
        return str(tmp_path / "elsewhere" / name)

    monkeypatch.setattr(hub, "get_hf_file_metadata", metadata)
    monkeypatch.setattr(hub, "hf_hub_download", download)
    local, commit = LocalModel(tmp_path, "org/repo", "a" * 40), "a" * 40
    found = companion_file(local, "losses.png", token="mine")
    assert found == tmp_path / "elsewhere" / "losses.png"
    assert asked == [
        (f"{constants.ENDPOINT}/org/repo/resolve/{commit}/losses.png", "mine", hub.TIMEOUT),
        ("org/repo/losses.png", commit, "mine"),
    ]


def test_offline_mode_has_its_own_sentence(own_zoo: zoo.ZooEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        resolve("org/not-downloaded-before")
    with pytest.raises(HubError, match='give it as "org/repo"'):
        resolve("org/a--b")


@pytest.mark.parametrize("size", [1001, None])
def test_a_companion_that_is_too_large_is_not_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int | None
) -> None:
    local = LocalModel(tmp_path, "org/repo", "a" * 40)
    monkeypatch.setattr(hub, "get_hf_file_metadata", lambda *_, **__: SimpleNamespace(size=size))
    monkeypatch.setattr(hub, "hf_hub_download", lambda *_, **__: pytest.fail("it was downloaded"))
    assert companion_file(local, "README.md", max_bytes=1000) is None
    (tmp_path / "README.md").write_bytes(bytes(1001))
    assert companion_file(local, "README.md", max_bytes=1000) is None
    assert companion_file(local, "README.md", max_bytes=1001) == tmp_path / "README.md"
