"""results.json: read back as written, and any other thing in its place refused with one sentence."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from card_model import JUDGING, RESULTS
from recalibrated import OLD, SEED
from recalibrated import RESULTS as OTHER

from stlm_hub.errors import ConfigError
from stlm_hub.files.fingerprint import file_sha256
from stlm_hub.model_folder.figures import MapFigures, TestScores
from stlm_hub.model_folder.provenance import CalibrationFacts
from stlm_hub.model_folder.results import (
    MAX_BYTES,
    FileFacts,
    Results,
    check_files,
    load,
    save,
    validate,
)
from stlm_hub.models.stlm.judging import Judging

CARDS = Path(__file__).parents[2] / "model_cards"
FULL = dataclasses.replace(
    RESULTS,
    other_seeds=(SEED,),
    recalibration=CalibrationFacts(calibration=OLD, held_out=OTHER.dataset.held_out, trained_map="cosine"),
    curves={"combined": {"roc_x": (0.0, 0.1 + 0.2, 1.0), "roc_y": ()}},
    nuisance={"gain": 0.15, "jpeg_quality": 60},
    maps={**RESULTS.maps, "memory": MapFigures(), "combined": MapFigures(i_auroc=1.0, fnr=0.0)},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.json"


def written(results: Results, path: Path) -> Any:
    save(results, path)
    return json.loads(path.read_bytes())


# ---------------------------------------------------------------- what is written


@pytest.mark.parametrize("results", [Results(), RESULTS, OTHER, FULL], ids=["nothing", "card", "recalibrated", "full"])
def test_what_is_saved_is_what_is_loaded(results: Results, path: Path) -> None:
    save(results, path)
    assert load(path) == results
    first = path.read_bytes()
    save(load(path), path)
    assert path.read_bytes() == first and first.endswith(b"}\n")
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]  # no part of one is left


@pytest.mark.parametrize("alias", sorted(path.parent.name for path in CARDS.glob("*/results.json")))
def test_results_of_the_zoo_are_read_and_written_back_as_they_are(alias: str, path: Path) -> None:
    published = CARDS / alias / "results.json"
    results = load(published)
    save(results, path)
    assert path.read_bytes() == published.read_bytes()
    validate(results, Judging.load(published.with_name("calibration.json")))
    check_files(results, published.parent)


def test_every_field_of_the_file_is_one_of_the_dataclass(path: Path) -> None:
    assert set(written(FULL, path)) == {field.name for field in dataclasses.fields(Results)}


def test_missing_fields_are_the_defaults(path: Path) -> None:
    path.write_text("{}")
    assert load(path) == Results()
    path.write_text('{"maps": {"cosine": {"ap": 1}}, "dataset": {"train": {"n": 3}}}')
    assert load(path).maps == {"cosine": MapFigures(ap=1.0)} and load(path).figures("aggregation") is None


# ---------------------------------------------------------------- what is refused


def at(*place: str | int, to: Any) -> Callable[[Any], Any]:
    """A change of parsed JSON: the value at a place becomes another one."""

    def change(data: Any) -> Any:
        inner = data
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = to
        return data

    return change


NUMBERS: tuple[Any, ...] = (float("nan"), float("inf"), "0.5", True, [0.5], {}, -0.1, 1.1, 10**400)
COUNTS: tuple[Any, ...] = (-1, 1.5, "1", True, [1], None, 10**13, 10**400, float("nan"))
TEXTS: tuple[Any, ...] = (5, None, ["x"], {}, True, "x" * 4001)
OBJECTS: tuple[Any, ...] = (5, "x", [], [{}], True, {"unknown": 1}, {"__class__": "os.system"})
CHANGES = [
    *(at("maps", "aggregation", "ap", to=value) for value in NUMBERS),
    *(at("test_scores", "anomalous", 0, to=value) for value in (*NUMBERS, None)),
    *(at("dataset", "train", "n", to=value) for value in COUNTS),
    *(at("training", "steps", to=value) for value in COUNTS),
    *(at("provenance", "alias", to=value) for value in TEXTS),
    *(at("dataset", "note", to=value) for value in TEXTS),
    *(at("training", "precision", to=value) for value in TEXTS),
    *(at("provenance", "made", "versions", "commit", to=value) for value in TEXTS),
    *(at("dataset", to=value) for value in (*OBJECTS, None)),
    *(at("provenance", to=value) for value in (*OBJECTS, None)),
    *(at("training", to=value) for value in OBJECTS),
    *(at("latency", to=value) for value in OBJECTS),
    *(at("paper", to=value) for value in OBJECTS),
    *(at("recalibration", to=value) for value in OBJECTS),
    *(at("maps", "aggregation", to=value) for value in (*OBJECTS, None)),
    *(at("maps", to=value) for value in (5, "x", [], None, {"heat": {}}, {"": {}}, {"cosine\n": {}})),
    *(at("other_seeds", to=value) for value in (5, {}, [3], [{}], [{"seed": 1}], None)),
    *(at("other_seeds", 0, "maps", to=value) for value in ("x", {"heat": {}}, None)),
    *(at("provenance", "commands", to=value) for value in ("rm -rf /", ["ls"], [{}], [{"program": 5}], None)),
    *(
        at("provenance", "commands", 0, "options", to=value)
        for value in ([], {"a": None}, {"a": []}, {"a": [5]}, {"a": {}}, "x")
    ),
    *(at("provenance", "commands", 0, "arguments", to=value) for value in ("FOLDER", [5], [None], {})),
    *(at("dataset", "split", to=value) for value in ("official", True, {}, {"official": "yes"}, {"official": 1})),
    *(at("training", "settings", to=value) for value in (5, [], None, {"seed": float("nan")})),
    *(at("nuisance", to=value) for value in (5, "x", [], True, {"gain": float("nan")}, {"noise": [float("inf")]})),
    at("training", "settings", "synthesis", to=[{"probability": float("inf")}]),
    *(at("training", "final_losses", to=value) for value in (5, {"a": "x"}, {"a": None}, {"a": float("inf")})),
    *(at("training", "seconds", to=value) for value in (-1.0, "60", None, float("inf"))),
    *(at("recalibration", "calibration", to=value) for value in (5, {}, {"threshold": 0.5})),
    at("recalibration", "calibration", "threshold", to=1.5),
    *(at("recalibration", "calibration", "threshold", to=value) for value in ("0.5", None, True, float("nan"))),
    *(at("recalibration", "calibration", "n", to=value) for value in (0, "4", 4.0, True)),
    *(at("recalibration", "calibration", "review_threshold", to=value) for value in (0.9, "0.01", None, -0.1)),
    *(at("recalibration", "calibration", "highest_rate", to=value) for value in (1.1, "0.1", None)),
    *(at("recalibration", "calibration", "miss_rate", to=value) for value in (1.1, "0.1", -0.1)),
    at("recalibration", "calibration", "more", to=1),
    at("recalibration", "calibration", "date", to="2" * 300),
    at("recalibration", "trained_map", to="heat"),
    *(at("files", to=value) for value in (5, [], {"model.safetensors": "cc"}, {"model.safetensors": {}}, None)),
    at("files", "model.safetensors", "bytes", to=-1),
    *(at("curves", to=value) for value in (5, [], {"a": []}, {"a": {"x": "0"}}, {"a": {"x": [float("nan")]}})),
    *(at("format_version", to=value) for value in (0, 2, "1", 1.0, True, None)),
    at("evil", to=1),
    at("config", to={}),
    lambda data: [data],
    lambda data: None,
    lambda data: "results",
    lambda data: 5,
]


@pytest.mark.parametrize("number", range(len(CHANGES)))
def test_odd_values_end_in_one_sentence(number: int, path: Path) -> None:
    data = copy.deepcopy(written(FULL, path))
    path.write_text(json.dumps(CHANGES[number](data)))
    refused(path)


def test_there_are_many_of_them() -> None:
    assert len(CHANGES) >= 60


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe{}",
        b"\x00",
        b"[" * 100_000,
        b'{"training":' * 50_000,
        b'{"parameters": ' + b"9" * 5000 + b"}",
        b'{"maps": {"cosine": {"ap": 1e999}}}',
        b'{"dataset": {"name": "\\ud800"}}',
        b'{"dataset": {"name": "\n"}}',
        b'{"maps": {"' + b"x" * 10_000 + b'": {}}}',
        b'{"\\u001b[31mred\\nline\\r\\t": 1}',
    ],
    ids=lambda content: str(content[:16]),
)
def test_odd_files_end_in_one_sentence(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    refused(path)


def test_what_is_no_file_or_too_large_ends_in_one_sentence(path: Path) -> None:
    refused(path)
    path.mkdir()
    refused(path)
    path.rmdir()
    os.mkfifo(path)
    refused(path)
    path.unlink()
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    refused(path)


def refused(path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load(path)
    sentence = str(error.value)
    assert str(path) in sentence and sentence.endswith(".") and sentence.isprintable()
    assert len(sentence) < 600 + len(str(path))


# ---------------------------------------------------------------- what belongs together


def test_results_of_other_scores_than_beside_them_are_refused() -> None:
    validate(RESULTS, JUDGING)
    validate(Results(), Judging())
    validate(RESULTS, Judging("memory"))  # which has no figures
    unknown = dataclasses.replace(RESULTS, maps={"aggregation": MapFigures(i_auroc=0.9)})
    validate(unknown, JUDGING)
    for results, judging in (
        (dataclasses.replace(RESULTS, test_scores=TestScores((), (0.9,))), JUDGING),
        (dataclasses.replace(RESULTS, maps={"aggregation": MapFigures(fnr=0.5)}), JUDGING),
        (RESULTS, JUDGING.replace(judge_by="cosine")),
        (RESULTS, JUDGING.replace(calibration=dataclasses.replace(OLD, threshold=0.9))),
    ):
        with pytest.raises(ConfigError, match=r"results\.json says fnr .*evaluate the model again"):
            validate(results, judging)


def test_results_of_other_weights_are_refused(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    results = dataclasses.replace(Results(), files={weights.name: FileFacts("cc", 1)})
    check_files(results, tmp_path)  # there are no weights to compare
    weights.write_bytes(b"weights")
    with pytest.raises(ConfigError, match=r"results\.json is of another model\.safetensors"):
        check_files(results, tmp_path)
    check_files(dataclasses.replace(results, files={weights.name: FileFacts(file_sha256(weights), 7)}), tmp_path)
    check_files(Results(), tmp_path)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "config.json", "README.md"])
def test_no_other_file_is_looked_at_whatever_results_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "model"
    folder.mkdir()
    for file in ("config.json", "README.md"):
        (folder / file).write_text("x")
    check_files(dataclasses.replace(Results(), files={name: FileFacts("cc", 1)}), folder)
