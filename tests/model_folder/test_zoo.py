from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from stlm_hub.errors import HubError, WeightsError
from stlm_hub.fingerprint import file_sha256
from stlm_hub.model_folder import zoo, zoo_files
from stlm_hub.models.stlm.anomaly_maps import KINDS
from stlm_hub.models.stlm.config import STLMConfig

METRICS = {"i_auroc": 0.99, "p_auroc": 0.97, "aupro": 0.9, "ap": 0.6, "f1_max": 0.61, "fnr": 0.05}


@pytest.fixture(autouse=True)
def empty_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty zoo without a checkout around it, in place of the library's."""
    path = tmp_path / "zoo.json"
    path.write_text('{"models": {}}')
    monkeypatch.setattr(zoo, "ZOO_PATH", path)
    monkeypatch.setattr(zoo, "CHECKOUT", tmp_path / "no checkout")
    monkeypatch.delenv("STLM_ZOO_DIR", raising=False)
    return path


@pytest.fixture
def folder(saved_model: Path, tmp_path: Path) -> Path:
    """A copy of the saved model with results."""
    copy = shutil.copytree(saved_model, tmp_path / "models" / "test-bottle")
    results = {"alias": "test-bottle", "dataset": {"name": "Elsewhere"}, "metrics": {**METRICS, "fnr": None}}
    (copy / "results.json").write_text(json.dumps(results))
    return copy


def test_the_zoo_of_this_library_is_whole() -> None:
    path = Path(zoo.__file__).with_name("zoo.json")
    entries = zoo.load_zoo(path)
    assert list(entries) == sorted(entries)
    cards = Path(__file__).parents[2] / "model_cards"
    for alias, entry in entries.items():
        weights = cards / alias / "model.safetensors"
        assert (file_sha256(weights), weights.stat().st_size) == (entry.sha256, entry.bytes), alias
        results = json.loads((cards / alias / "results.json").read_text())
        judging = STLMConfig.load(cards / alias / "config.json").anomaly_map
        assert entry.metrics == results[KINDS[judging].figures], alias
        assert entry.official_split == {"official": True, "as in the folder": None}.get(
            results["dataset"]["split"], False
        ), alias


def test_entry_says_what_the_folder_holds(folder: Path) -> None:
    entry = zoo_files.register(folder, "test-bottle", "someone/stlm-test-bottle", "apache-2.0")
    weights = folder / "model.safetensors"
    assert entry == zoo.ZooEntry(
        alias="test-bottle",
        repo_id="someone/stlm-test-bottle",
        revision=None,
        sha256=file_sha256(weights),
        bytes=weights.stat().st_size,
        license="apache-2.0",
        dataset="drawn by the tests",  # the configuration goes before results.json
        image_size=64,
        metrics={name: value for name, value in METRICS.items() if name != "fnr"},
    )
    assert zoo.list_models() == [entry]


@pytest.mark.parametrize(
    ("split", "official"),
    [
        ("official", True),
        ("not the official one: 48 train instead of 60", False),
        ("own photographs", None),
        (None, None),
        (7, None),
    ],
)
def test_entry_says_whether_its_figures_are_of_the_official_split(
    folder: Path, split: object, official: bool | None
) -> None:
    results = json.loads((folder / "results.json").read_text())
    results["dataset"] = {"name": "Elsewhere", "split": split}
    (folder / "results.json").write_text(json.dumps(results))
    assert zoo_files.register(folder, "test-bottle", "someone/x", "apache-2.0").official_split is official
    assert zoo.list_models()[0].official_split is official


def test_entries_are_sorted_and_writing_them_again_changes_nothing(folder: Path, empty_zoo: Path) -> None:
    for alias in ("test-z", "test-a"):
        zoo_files.register(folder, alias, f"someone/stlm-{alias}", "apache-2.0")
    written = empty_zoo.read_bytes()
    assert [entry.alias for entry in zoo.list_models()] == ["test-a", "test-z"]
    assert written.index(b"test-a") < written.index(b"test-z") and written.endswith(b"}\n")
    zoo_files.register(folder, "test-z", "someone/stlm-test-z", "apache-2.0")
    assert empty_zoo.read_bytes() == written


def test_results_may_be_missing_but_not_broken(folder: Path) -> None:
    (folder / "results.json").write_text('{"metrics": null}')
    assert zoo_files.register(folder, "test-bottle", "someone/x", "apache-2.0").metrics == {}
    (folder / "results.json").unlink()
    assert zoo_files.register(folder, "test-bottle", "someone/x", "apache-2.0").metrics == {}
    for content in ("{", "[]"):
        (folder / "results.json").write_text(content)
        with pytest.raises(HubError, match=r"results\.json .*evaluate the model again"):
            zoo_files.register(folder, "test-bottle", "someone/x", "apache-2.0")


def test_revision_holds_only_for_the_weights_that_were_published(folder: Path, empty_zoo: Path) -> None:
    commit = "0123456789" * 4
    zoo_files.register(folder, "test-bottle", "someone/x", "apache-2.0", revision=commit)
    assert zoo_files.register(folder, "test-bottle", "someone/x", "mit").revision == commit
    assert zoo_files.register(folder, "test-bottle", "someone/y", "mit").revision is None
    zoo_files.register(folder, "test-bottle", "someone/x", "apache-2.0", revision=commit)
    data = json.loads(empty_zoo.read_text())
    data["models"]["test-bottle"]["sha256"] = "0" * 64  # as if other weights had been published
    empty_zoo.write_text(json.dumps(data))
    assert zoo_files.register(folder, "test-bottle", "someone/x", "apache-2.0").revision is None


def test_malformed_names_and_changed_configs_are_not_registered(folder: Path, empty_zoo: Path) -> None:
    for alias, repo_id, revision in (
        ("../x", "someone/x", None),
        ("Test", "someone/x", None),
        ("test", "x", None),
        ("test", "someone/x", "main"),
    ):
        with pytest.raises(HubError, match="zoo entry must match"):
            zoo_files.register(folder, alias, repo_id, "apache-2.0", revision=revision)
    (folder / "config.json").write_text('{"image_size": 64}')
    with pytest.raises(WeightsError, match=r"not saved together.*STLM\.save_pretrained"):
        zoo_files.register(folder, "test-bottle", "someone/x", "apache-2.0")
    assert json.loads(empty_zoo.read_text()) == {"models": {}}


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"models": []}', '{"models": {"a": {}}}', '{"models": {"a": {"evil": 1}}}']
)
def test_broken_zoo_is_a_sentence(content: str, empty_zoo: Path) -> None:
    empty_zoo.write_text(content)
    with pytest.raises(HubError, match=r"zoo\.json is not a zoo .*install stlm_hub again"):
        zoo.list_models()


def test_verify_finds_what_is_wrong(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = zoo_files.register(folder, "test-bottle", "someone/stlm-never-downloaded", "apache-2.0")
    with pytest.raises(HubError, match="not in the cache"):
        zoo_files.verify("test-bottle")
    monkeypatch.setenv("STLM_ZOO_DIR", str(folder.parent))
    weights = folder / "model.safetensors"
    report = zoo_files.verify("test-bottle")
    assert report == zoo_files.Verification("test-bottle", weights, entry.sha256, entry.bytes, ())
    assert zoo_files.pull("test-bottle").weights_path == weights

    (folder / "config.json").write_text('{"image_size": 64}')
    assert "not saved together" in zoo_files.verify("test-bottle").problems[0]
    (folder / "config.json").write_text("{")
    assert "not valid JSON" in zoo_files.verify("test-bottle").problems[0]

    weights.write_bytes(weights.read_bytes() + b"\0")
    report = zoo_files.verify("test-bottle")
    assert report.bytes == entry.bytes + 1 and report.sha256 != entry.sha256
    assert [("bytes" in problem, "SHA-256" in problem) for problem in report.problems] == [(True, False), (False, True)]
    with pytest.raises(WeightsError, match="altered or corrupted"):
        zoo_files.pull("test-bottle")


def test_unknown_alias_lists_close_matches(folder: Path) -> None:
    zoo_files.register(folder, "test-bottle", "someone/x", "apache-2.0")
    zoo_files.register(folder, "test-pill", "someone/y", "apache-2.0")
    for ask in (zoo_files.pull, zoo_files.verify):
        with pytest.raises(HubError, match=r"Did you mean test-bottle\?"):
            ask("test-bottel")
        with pytest.raises(HubError, match=r"Did you mean test-pill\?"):
            ask("pills")
