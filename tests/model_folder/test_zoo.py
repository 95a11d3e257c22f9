"""The zoo: zoo.json says what the folders of its models hold, and notices when they hold something else."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from card_model import RESULTS

from stlm_hub.errors import ConfigError, HubError, WeightsError
from stlm_hub.files.fingerprint import file_sha256
from stlm_hub.model_folder import results as facts
from stlm_hub.model_folder import zoo, zoo_files
from stlm_hub.model_folder.figures import METRICS, OF_PIXELS, MapFigures
from stlm_hub.model_folder.folder import read_folder
from stlm_hub.model_folder.names import DECIDING
from stlm_hub.model_folder.provenance import Split
from stlm_hub.model_folder.results import Results
from stlm_hub.model_folder.weights_file import read_model_weights
from stlm_hub.models.stlm.anomaly_maps import AnomalyMaps

CARDS = Path(__file__).parents[2] / "model_cards"
FIGURES = MapFigures(i_auroc=0.99, p_auroc=0.97, aupro=0.9, ap=0.6, f1_max=0.61)
COMMIT = "0123456789" * 4


@pytest.fixture
def empty_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty zoo without a checkout around it, in place of the library's."""
    path = tmp_path / "zoo.json"
    path.write_text('{"models": {}}')
    monkeypatch.setattr(zoo, "ZOO_PATH", path)
    monkeypatch.setattr(zoo, "CHECKOUT", tmp_path / "no checkout")
    monkeypatch.delenv("STLM_ZOO_DIR", raising=False)
    return path


def results(split: Split | None = None) -> Results:
    dataset = dataclasses.replace(Results().dataset, name="Elsewhere", split=split)
    other = MapFigures(i_auroc=0.5, fnr=0.5)
    return Results(dataset=dataset, maps={"cosine": other, "aggregation": FIGURES})


@pytest.fixture
def folder(saved_toy: Path, tmp_path: Path, empty_zoo: Path) -> Path:
    """A copy of the saved model with results."""
    copy = shutil.copytree(saved_toy, tmp_path / "models" / "test-bottle")
    facts.save(results(), copy / "results.json")
    return copy


@pytest.fixture
def memory_folder(saved_memory_toy: Path, tmp_path: Path, empty_zoo: Path) -> Path:
    """A copy of the saved model with a memory, without results."""
    return shutil.copytree(saved_memory_toy, tmp_path / "models" / "test-screw")


def registered(folder: Path, alias: str = "test-bottle", repo_id: str = "someone/x", **options: str) -> zoo.ZooEntry:
    return zoo_files.register(folder, alias, repo_id, "apache-2.0", **options)  # type: ignore[arg-type]


# ---------------------------------------------------------------- the zoo of this library


@pytest.mark.parametrize("entry", zoo.list_models(), ids=lambda entry: entry.alias)
def test_an_entry_of_this_library_is_what_its_folder_holds(entry: zoo.ZooEntry) -> None:
    model = CARDS / entry.alias
    config, judging = read_folder(model, entry.sha256)
    deciding = {name: model / name for name in DECIDING if (model / name).is_file()}
    assert entry.sha256 == {name: file_sha256(path) for name, path in deciding.items()}
    assert entry.bytes == sum(path.stat().st_size for path in deciding.values())
    assert ("patch_memory.safetensors" in entry.sha256) == (config.patch_memory is not None)
    known = facts.load(model / "results.json")
    judged, drawn = (known.maps[name].to_dict() for name in (judging.judge_by, judging.drawn))
    assert entry.metrics == {name: (drawn if name in OF_PIXELS else judged)[name] for name in judged}
    split = known.dataset.split
    assert entry.official_split == (split.official if split else None)
    assert (entry.input_size, entry.dataset) == (config.network.frame_size, config.dataset)
    assert zoo_files.verify(entry.alias).problems == ()
    with torch.device("meta"):
        network = AnomalyMaps(config, judging)
    assert read_model_weights(model, network, entry.sha256).keys() == {name for name, _ in network.named_children()}
    assert config.category and judging.calibration is not None


def test_every_model_of_the_checkout_is_in_the_zoo_in_order() -> None:
    aliases = [entry.alias for entry in zoo.list_models()]
    assert aliases == sorted(path.parent.name for path in CARDS.glob("*/config.json"))
    assert list(json.loads(zoo.ZOO_PATH.read_text())["models"]) == aliases


# ---------------------------------------------------------------- writing an entry


def test_an_entry_says_what_the_folder_holds(folder: Path) -> None:
    entry = registered(folder, repo_id="someone/stlm-test-bottle")
    files = {name: folder / name for name in DECIDING if name not in ("patch_memory.safetensors", "region.safetensors")}
    assert entry == zoo.ZooEntry(
        alias="test-bottle",
        repo_id="someone/stlm-test-bottle",
        revision=None,
        sha256={name: file_sha256(path) for name, path in files.items()},
        bytes=sum(path.stat().st_size for path in files.values()),
        license="apache-2.0",
        dataset="drawn by the tests",  # the configuration goes before results.json
        input_size=(64, 64),
        metrics={name: value for name, value in vars(FIGURES).items() if name in METRICS and name != "fnr"},
    )
    assert zoo.list_models() == [entry]


def test_a_memory_is_pinned_too(memory_folder: Path) -> None:
    entry = registered(memory_folder, "test-screw")
    assert set(entry.sha256) == set(DECIDING) - {"region.safetensors"} and entry.metrics == {}
    assert entry.sha256["patch_memory.safetensors"] == file_sha256(memory_folder / "patch_memory.safetensors")
    (memory_folder / "patch_memory.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"has no patch_memory\.safetensors"):
        registered(memory_folder, "test-screw")


def test_a_model_without_streams_has_no_file_of_them(
    saved_memory_alone: Path, empty_zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = registered(saved_memory_alone, "test-memory")
    assert set(entry.sha256) == set(DECIDING) - {"model.safetensors", "region.safetensors"}
    assert entry.bytes == sum(path.stat().st_size for path in saved_memory_alone.iterdir())
    monkeypatch.setenv("STLM_ZOO_DIR", str(saved_memory_alone.parent))
    assert zoo_files.verify("test-memory").problems == ()


@pytest.mark.parametrize(
    ("split", "official"), [(Split(True), True), (Split(False, "48 train instead of 60"), False), (None, None)]
)
def test_an_entry_says_whether_its_figures_are_of_the_official_split(
    folder: Path, split: Split | None, official: bool | None
) -> None:
    facts.save(results(split), folder / "results.json")
    assert registered(folder).official_split is official
    assert zoo.list_models()[0].official_split is official


def test_entries_are_sorted_and_writing_them_again_changes_nothing(folder: Path, empty_zoo: Path) -> None:
    for alias in ("test-z", "test-a"):
        registered(folder, alias, f"someone/stlm-{alias}")
    written = empty_zoo.read_bytes()
    assert [entry.alias for entry in zoo.list_models()] == ["test-a", "test-z"]
    assert written.index(b"test-a") < written.index(b"test-z") and written.endswith(b"}\n")
    registered(folder, "test-z", "someone/stlm-test-z")
    assert empty_zoo.read_bytes() == written


def test_results_may_be_missing_but_not_broken(folder: Path) -> None:
    facts.save(Results(), folder / "results.json")
    assert registered(folder).metrics == {}
    (folder / "results.json").unlink()
    assert registered(folder).metrics == {}
    for content in ("{", "[]", '{"metrics": null}'):
        (folder / "results.json").write_text(content)
        with pytest.raises(ConfigError, match=r"results\.json .*evaluate the model again"):
            registered(folder)


def test_a_revision_holds_only_for_the_files_that_were_published(folder: Path) -> None:
    registered(folder, revision=COMMIT)
    assert zoo_files.register(folder, "test-bottle", "someone/x", "mit").revision == COMMIT
    assert registered(folder, repo_id="someone/y").revision is None
    registered(folder, revision=COMMIT)
    facts.save(RESULTS, folder / "results.json")  # decides nothing
    assert registered(folder).revision == COMMIT
    for name in ("calibration.json", "config.json"):
        registered(folder, revision=COMMIT)
        (folder / name).write_bytes((folder / name).read_bytes() + b"\n")
        assert registered(folder).revision is None, name


def test_malformed_names_and_broken_folders_are_not_registered(folder: Path, empty_zoo: Path) -> None:
    for alias, repo_id, revision in (
        ("../x", "someone/x", None),
        ("Test", "someone/x", None),
        ("test", "x", None),
        ("test", "someone/x", "main"),
    ):
        with pytest.raises(HubError, match="zoo entry must match"):
            zoo_files.register(folder, alias, repo_id, "apache-2.0", revision=revision)
    for name, error in (("calibration.json", ConfigError), ("model.safetensors", WeightsError)):
        kept = (folder / name).read_bytes()
        (folder / name).unlink()
        with pytest.raises(error, match=name):
            registered(folder)
        (folder / name).write_bytes(kept)
    assert json.loads(empty_zoo.read_text()) == {"models": {}}


ENTRY = {
    "repo_id": "a/b",
    "revision": None,
    "sha256": {},
    "bytes": 1,
    "license": "mit",
    "dataset": "",
    "input_size": [64, 64],
    "metrics": {},
}


@pytest.mark.parametrize(
    "models",
    [
        [],
        {"a": {}},
        {"a": {"evil": 1}},
        {"a": {**ENTRY, "evil": 1}},
        {"../a": ENTRY},
        {"a": {**ENTRY, "repo_id": "a/b/c"}},
        {"a": {**ENTRY, "revision": "main"}},
        {"a": {**ENTRY, "sha256": "00"}},
        {"a": {**ENTRY, "sha256": {"../x": "0" * 64}}},
        {"a": {**ENTRY, "sha256": {"config.json": "0" * 63}}},
        {"a": {**ENTRY, "sha256": {"config.json": 5}}},
    ],
    ids=str,
)
def test_a_zoo_with_a_broken_entry_is_a_sentence(models: object, empty_zoo: Path) -> None:
    empty_zoo.write_text(json.dumps({"models": models}))
    with pytest.raises(HubError, match=r"zoo\.json is not a zoo .*install stlm_hub again|of a zoo entry must"):
        zoo.list_models()


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", "{"])
def test_a_broken_zoo_is_a_sentence(content: str, empty_zoo: Path) -> None:
    empty_zoo.write_text(content)
    with pytest.raises(HubError, match=r"zoo\.json is not a zoo .*install stlm_hub again"):
        zoo.list_models()


# ---------------------------------------------------------------- comparing files with it


def test_verify_finds_what_is_wrong(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = registered(folder, repo_id="someone/stlm-never-downloaded")
    with pytest.raises(HubError, match="not in the cache"):
        zoo_files.verify("test-bottle")
    monkeypatch.setenv("STLM_ZOO_DIR", str(folder.parent))
    report = zoo_files.verify("test-bottle")
    assert report == zoo_files.Verification("test-bottle", folder, entry.bytes, ())
    assert zoo_files.pull("test-bottle").folder == folder

    for name in ("config.json", "model.safetensors", "calibration.json"):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(kept + b"\0")
        report = zoo_files.verify("test-bottle")
        assert report.bytes == entry.bytes + 1
        assert len(report.problems) == 1 and f"{name} has SHA-256" in report.problems[0]
        assert entry.sha256[name] in report.problems[0]
        with pytest.raises(WeightsError, match=rf"{name} has SHA-256 .*stlm zoo pull test-bottle --force"):
            zoo_files.pull("test-bottle")
        (folder / name).write_bytes(kept)
    (folder / "calibration.json").unlink()
    assert zoo_files.verify("test-bottle").problems == (f"{folder / 'calibration.json'} is missing.",)
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"has no model\.safetensors"):
        zoo_files.verify("test-bottle")


@pytest.mark.parametrize("name", ["patch_memory.safetensors", "familiarity.safetensors"])
def test_verify_finds_an_altered_memory_or_familiarity(
    name: str, memory_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(memory_folder, "test-screw")
    monkeypatch.setenv("STLM_ZOO_DIR", str(memory_folder.parent))
    assert zoo_files.verify("test-screw").problems == ()
    data = bytearray((memory_folder / name).read_bytes())
    data[-1] ^= 1
    (memory_folder / name).write_bytes(data)
    assert f"{name} has SHA-256" in zoo_files.verify("test-screw").problems[0]


def test_an_unknown_alias_lists_close_matches(folder: Path) -> None:
    registered(folder, "test-bottle")
    registered(folder, "test-pill", "someone/y")
    for ask in (zoo_files.pull, zoo_files.verify):
        with pytest.raises(HubError, match=r"Did you mean test-bottle\?"):
            ask("test-bottel")
        with pytest.raises(HubError, match=r"Did you mean test-pill\?"):
            ask("pills")
