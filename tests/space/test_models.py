"""Which names visitors may type, how models are loaded once and dropped, and what hostile files of a model do."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from stlm_hub.errors import HubError
from stlm_hub.model_folder import hub, zoo
from stlm_hub.model_folder import results as model_results
from stlm_hub.model_folder.figures import MapFigures
from stlm_hub.model_folder.folder import write_config
from stlm_hub.model_folder.local_model import LocalModel
from stlm_hub.model_folder.provenance import DatasetFacts, Provenance, Split
from stlm_hub.model_folder.results import Results
from stlm_hub.models.stlm.config import STLMConfig
from stlm_hub.models.stlm.judging import Calibration, Judging
from stlm_hub.stlm import STLM
from stlm_page import build
from stlm_page.models import LoadedModel, Models, choices, offered
from stlm_page.pictures import threshold_words

BYTES = 400  # of the weights of each model of `Loads`


class Loads:
    """Stands in for everything that fetches and reads a model; notes who asked for what."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.judging = Judging()
        (folder / "config.json").write_text(json.dumps(STLMConfig().to_dict()))
        self.loaded: list[str] = []
        self.options: list[dict[str, Any]] = []
        self.threads: set[str] = set()
        self.broken: set[str] = set()
        self.gates: dict[str, threading.Event] = {}
        self.began: dict[str, threading.Event] = {}

    def resolve(self, name: str | Path, **options: Any) -> LocalModel:
        self.options.append(options)
        if str(name) in self.gates:
            self.began[str(name)].set()
            assert self.gates[str(name)].wait(5)
        return LocalModel(self.folder, str(name))

    def from_pretrained(self, name: str | Path, **options: Any) -> SimpleNamespace:
        self.options.append(options)
        self.loaded.append(str(name))
        self.threads.add(threading.current_thread().name)
        if name in self.broken:
            raise HubError("The Hub is out of reach; try again later.")
        weights = {"weight": torch.zeros(BYTES // 4)}
        config = STLMConfig()
        size = config.network.frame_size
        return SimpleNamespace(config=config, judging=self.judging, frame_size=size, state_dict=lambda: weights)

    def companion_file(self, local: LocalModel, name: str, **options: Any) -> None:
        self.options.append(options)

    def hold(self, name: str) -> None:
        self.gates[name], self.began[name] = threading.Event(), threading.Event()


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Loads:
    loads = Loads(tmp_path)
    monkeypatch.setattr(hub, "resolve", loads.resolve)
    monkeypatch.setattr(hub, "companion_file", loads.companion_file)
    monkeypatch.setattr(STLM, "from_pretrained", loads.from_pretrained)
    monkeypatch.delenv("STLM_ZOO_DIR", raising=False)
    return loads


def in_thread(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()
    return thread, found


@pytest.mark.parametrize(
    "name", ["sample-brick", "org/repo", "org/repo.v2@main", f"org/repo@{'a' * 40}", " sample-brick "]
)
def test_aliases_and_repositories_are_loaded_without_the_spaces_own_token(loads: Loads, name: str) -> None:
    model = Models().get(name)
    assert model.name == name.strip() and loads.loaded == [name.strip()]
    resolved, read, companion = loads.options
    assert resolved["token"] is False and companion["token"] is False
    assert read["local_files_only"] is True  # what was resolved is on this machine: nothing is asked of the Hub again


def test_networks_are_built_in_one_thread(loads: Loads) -> None:
    models = Models()
    threads = [in_thread(lambda name=name: models.get(name))[0] for name in ("org/a", "org/b", "org/c")]  # type: ignore[misc]
    for thread in threads:
        thread.join(5)
    assert len(loads.loaded) == 3 and len(loads.threads) == 1


def test_a_model_of_the_hub_is_read_at_the_commit_that_was_resolved(
    loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = loads.resolve
    commit = "b" * 40
    monkeypatch.setattr(
        hub, "resolve", lambda name, **options: dataclasses.replace(resolve("org/repo", **options), revision=commit)
    )
    Models().get("org/repo@main")
    assert loads.loaded == ["org/repo"] and loads.options[1]["revision"] == commit


def test_files_beside_a_model_are_asked_for_without_the_spaces_own_token(loads: Loads) -> None:
    models = Models()
    model = models.get("org/repo")
    loads.options.clear()
    assert models.read(model, "README.md", 1000) is None
    assert [options["token"] for options in loads.options] == [False]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", "Choose a model first"),
        ("   ", "Choose a model first"),
        ("mvtec-botle", r'There is no model "mvtec-botle"\. Did you mean mvtec-bottle\?'),
        ("own-0123456789abcdef", 'There is no model "own-'),
        (".", "There is no model"),
        ("..", "There is no model"),
        ("~", "There is no model"),
        ("model_cards", "There is no model"),
        ("model_cards/sample-brick", "cannot be loaded here"),
        ("model_cards/.", "cannot be loaded here"),
        ("./model_cards", "is not a model on the Hub"),
        ("../secret", "is not a model on the Hub"),
        ("model_cards/..", "is not a model on the Hub"),
        ("model_cards/sample-brick/", "is not a model on the Hub"),
        ("org/repo/more", "is not a model on the Hub"),
        ("org/repo@../../x", "is not a model on the Hub"),
        ("~/model", "is not a model on the Hub"),
        ("/", "is not a model on the Hub"),
        ("/etc", "is not a model on the Hub"),
        ("file:///etc", "is not a model on the Hub"),
        ("https://example.com/model", "is not a model on the Hub"),
        ("org/repo\nmore", "is not a model on the Hub"),
    ],
)
def test_everything_else_is_refused_before_anything_is_looked_for(
    loads: Loads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sentence: str
) -> None:
    (tmp_path / "work" / "model_cards" / "sample-brick").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(HubError, match=sentence):
        Models().get(name)
    assert loads.loaded == [] and loads.options == []


def test_an_absolute_folder_that_exists_is_refused(loads: Loads, saved_model: Path) -> None:
    with pytest.raises(HubError, match="is not a model on the Hub"):
        Models().get(str(saved_model))
    assert loads.options == []


def test_the_sentence_about_an_endless_name_has_an_end(loads: Loads) -> None:
    for name in ("a" * 10_000, "a/" * 10_000):
        with pytest.raises(HubError) as raised:
            Models().get(name)
        assert len(str(raised.value)) < 500


def test_a_model_of_the_zoo_folder_is_loaded_by_its_name_only(
    loads: Loads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "zoo" / "line-2").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("STLM_ZOO_DIR", str(tmp_path / "zoo"))
    assert Models().get("line-2").name == "line-2"
    with pytest.raises(HubError):
        Models().get("../elsewhere")


def test_a_model_is_loaded_once_and_only_a_loaded_one_counts_as_loaded(loads: Loads) -> None:
    models = Models()
    assert not models.is_loaded("org/a")
    first = models.get("org/a")
    assert models.get("org/a") is first and models.is_loaded("org/a") and not models.is_loaded("org/b")
    assert loads.loaded == ["org/a"] and first.bytes == BYTES


def test_the_least_recently_used_is_dropped_at_the_bound(loads: Loads) -> None:
    models = Models(max_bytes=2 * BYTES)
    for name in ("org/a", "org/b", "org/a", "org/c"):
        models.get(name)
    assert [models.is_loaded(name) for name in ("org/a", "org/b", "org/c")] == [True, False, True]
    models.get("org/b")
    assert [models.is_loaded(name) for name in ("org/a", "org/b", "org/c")] == [False, True, True]
    assert loads.loaded == ["org/a", "org/b", "org/c", "org/b"]


def test_the_newest_stays_even_if_it_alone_is_too_large(loads: Loads) -> None:
    models = Models(max_bytes=1)
    models.get("org/a")
    assert models.is_loaded("org/a")
    models.get("org/b")
    assert models.is_loaded("org/b") and not models.is_loaded("org/a")


def test_many_at_once_share_one_load(loads: Loads) -> None:
    models = Models()
    loads.hold("org/a")
    waiting = [in_thread(lambda: models.get("org/a")) for _ in range(8)]
    assert loads.began["org/a"].wait(5)
    time.sleep(0.05)  # the others arrive
    loads.gates["org/a"].set()
    for thread, _ in waiting:
        thread.join(5)
    assert loads.loaded == ["org/a"]
    assert len({id(found[0]) for _, found in waiting}) == 1


def test_a_slow_download_keeps_nobody_else_waiting(loads: Loads) -> None:
    models = Models()
    models.get("org/loaded")
    loads.hold("org/slow")
    thread, found = in_thread(lambda: models.get("org/slow"))
    assert loads.began["org/slow"].wait(5)
    for name in ("org/other", "org/loaded"):
        other, done = in_thread(lambda name=name: models.get(name))  # type: ignore[misc]
        other.join(5)
        assert done and done[0].name == name
    assert not found and not models.is_loaded("org/slow")
    loads.gates["org/slow"].set()
    thread.join(5)
    assert found[0].name == "org/slow"


def test_a_load_that_fails_leaves_nothing_behind_and_can_be_tried_again(loads: Loads) -> None:
    models = Models()
    loads.broken.add("org/a")
    for _ in range(2):
        with pytest.raises(HubError, match="out of reach"):
            models.get("org/a")
        assert not models.is_loaded("org/a") and not models._loading
    loads.broken.clear()
    assert models.get("org/a").name == "org/a" and not models._loading


def test_own_models_have_names_that_nobody_guesses(loads: Loads, tmp_path: Path) -> None:
    models = Models()
    made = [models.add_own(tmp_path) for _ in range(20)]
    assert len(set(made)) == 20 and all(len(name) >= 20 for name in made)
    assert models.get(made[0]).name == made[0] and loads.loaded == [str(tmp_path)]
    with pytest.raises(HubError):
        Models().get(made[0])


def test_an_own_model_whose_folder_is_gone_is_a_sentence(loads: Loads, tmp_path: Path) -> None:
    models = Models()
    name = models.add_own(tmp_path / "gone")
    with pytest.raises(HubError, match=r"no longer kept here; make it again"):
        models.get(name)
    assert loads.loaded == []


def test_an_own_model_is_the_one_of_its_folder(own_model: str, tiny_model: STLM) -> None:
    from stlm_page.judge import MODELS

    model = MODELS.get(own_model)
    assert model.network.config == tiny_model.config and not model.network.training
    assert model.results is None and model.threshold == 0.5
    expected = sum(p.numel() * 4 for p in tiny_model.state_dict().values())
    assert model.bytes == pytest.approx(expected, rel=0.01)


def with_results(
    monkeypatch: pytest.MonkeyPatch, folder: Path, results: bytes | Results, judging: Judging | None = None
) -> LoadedModel:
    """A model with this results.json."""
    loads = Loads(folder)
    loads.judging = judging or loads.judging
    monkeypatch.setattr(STLM, "from_pretrained", loads.from_pretrained)
    write_config(folder, STLMConfig())
    (folder / "model.safetensors").write_bytes(b"read by nobody here")
    if isinstance(results, Results):
        model_results.save(results, folder / "results.json")
    else:
        (folder / "results.json").write_bytes(results)
    models = Models()
    return models.get(models.add_own(folder))


def licensed(license: str) -> Results:
    return Results(provenance=Provenance(weights_license=license))


def test_results_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    maps = {"aggregation": MapFigures(0.98, 0.5), "cosine": MapFigures(0.11, 0.12)}
    results = dataclasses.replace(licensed("cc-by-nc-sa-4.0"), maps=maps)
    calibration = Calibration(0.75, 0.5, 0.01, 4, 0.53, None, "order statistic", "2026-01-02")
    judging = Judging(calibration=calibration, normal_scores=(0.1, 0, 0.3, 1))
    model = with_results(monkeypatch, tmp_path, results, judging)
    assert model.results == results
    assert model.normal_scores == [0.1, 0.0, 0.3, 1.0] and model.threshold == 0.75
    facts = build._facts(model)
    assert "98.0 %" in facts and "50.0 %" in facts and "Not for commercial use" in facts
    assert "split" not in facts and "11.0 %" not in facts
    other = build._facts(with_results(monkeypatch, tmp_path, results, Judging("cosine")))
    assert "11.0 %" in other and "98.0 %" not in other  # of the map that judges
    drawn = build._facts(with_results(monkeypatch, tmp_path, results, Judging("aggregation", draw_by="cosine")))
    assert "98.0 %" in drawn and "12.0 %" in drawn  # pixels are those of the map that is shown


def test_figures_of_another_split_say_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def facts(split: Split) -> str:
        results = Results(dataset=DatasetFacts(split=split), maps={"aggregation": MapFigures(i_auroc=0.98)})
        return build._facts(with_results(monkeypatch, tmp_path, results))

    said = facts(Split(False, "1 train"))
    assert "On its test photographs, **not the official split**: Image-level AUROC 98.0 %." in said
    assert "On its test photographs: Image-level AUROC 98.0 %." in facts(Split(True))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{not json",
        b"\xff\xfe\x00",
        b"[1, 2]",
        b"[" * 100_000,
        b'"text"',
        b" " * (4 * 2**20) + b"{}x",
        b'{"held_out_scores": [0.1, 0.2, 0.3, 0.4]}',  # of an older version
        b'{"maps": {"aggregation": {"i_auroc": 1.5}}}',
        b'{"maps": {"aggregation": {"i_auroc": -0.1}}}',
        b'{"maps": {"aggregation": {"i_auroc": NaN}}}',
        b'{"maps": {"aggregation": {"i_auroc": Infinity}}}',
        b'{"maps": {"aggregation": {"i_auroc": "0.4"}}}',
        b'{"maps": {"aggregation": {"i_auroc": [0.4]}}}',
        b'{"maps": {"aggregation": {"i_auroc": "<b>", "p_auroc": null}}, "provenance": {"weights_license": 7}}',
        b'{"maps": {"<b>": {"i_auroc": 0.4}}}',
        b'{"maps": [1], "provenance": {"weights_license": {"a": 1}}}',
        b'{"files": {"model.safetensors": {"sha256": "of other weights", "bytes": 2}}}',
    ],
)
def test_a_model_works_without_results_that_make_no_sense(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: bytes
) -> None:
    model = with_results(monkeypatch, tmp_path, data)
    assert model.results is None and model.normal_scores == [] and model.threshold == 0.5
    assert "not known" in threshold_words(model, 0.5)
    facts = build._facts(model)
    assert "Input: 1024 px." in facts and "<b>" not in facts and "Licence" not in facts


def test_results_beyond_the_limit_are_not_even_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = b'{"provenance": {"alias": "part"}}'
    assert with_results(monkeypatch, tmp_path, data.ljust(4 * 2**20)).results == Results(Provenance("part"))
    assert with_results(monkeypatch, tmp_path, data.ljust(4 * 2**20 + 1)).results is None


def test_a_licence_cannot_draw_on_the_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hostile = licensed("x ![](https://example.com/who.png)")
    facts = build._facts(with_results(monkeypatch, tmp_path, hostile))
    assert "example.com" not in facts and "![" not in facts
    assert "Licence: bsd-3-clause." in build._facts(with_results(monkeypatch, tmp_path, licensed("bsd-3-clause")))


def test_the_offered_models_are_of_the_zoo_and_the_examples_model_is_the_first() -> None:
    entries = offered()
    assert entries and {entry.alias for entry in entries} <= set(zoo.load_zoo())
    assert entries[0].alias == "sample-brick"
    shown = {alias: text for text, alias in choices()}
    assert shown["sample-brick"].startswith("sample-brick · I-AUROC 100.0 % · ")
    for alias in ("mvtec-grid", "mvtec-bottle"):
        assert (" % (not on the official split) · " in shown[alias]) == (alias == "mvtec-grid")
