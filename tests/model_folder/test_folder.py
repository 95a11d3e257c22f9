"""A model folder: its small files, and what it may be written over."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from stlm_hub.errors import ConfigError, WeightsError
from stlm_hub.model_folder.folder import (
    check_output,
    make_parent,
    move_folder,
    read_folder,
    write_config,
    write_judging,
)
from stlm_hub.model_folder.names import FILES, PLOTS
from stlm_hub.stlm import STLM

pytestmark = pytest.mark.usefixtures("toy_streams")


def test_what_a_model_is_and_how_it_judges_come_back(toy_memory_model: STLM, tmp_path: Path) -> None:
    write_config(tmp_path, toy_memory_model.config)
    write_judging(tmp_path, toy_memory_model.judging)
    assert read_folder(tmp_path) == (toy_memory_model.config, toy_memory_model.judging)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(written) == {"config.json", "calibration.json"}
    for name, parsed in zip(("config.json", "calibration.json"), read_folder(tmp_path), strict=True):
        assert json.loads(written[name]) == parsed.to_dict() and written[name].endswith(b"\n")
    write_judging(tmp_path, toy_memory_model.judging)
    assert (tmp_path / "calibration.json").read_bytes() == written["calibration.json"]


@pytest.mark.parametrize("name", ["config.json", "calibration.json"])
def test_an_altered_or_missing_small_file_is_refused(name: str, saved_toy: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved_toy, tmp_path / "model")
    sha256 = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest()}
    assert read_folder(folder, sha256) == read_folder(folder)
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    read_folder(folder)
    with pytest.raises(WeightsError, match=rf"{name} is not the one of zoo\.json.*stlm zoo pull NAME --force"):
        read_folder(folder, sha256)
    (folder / name).unlink()
    with pytest.raises(ConfigError, match=rf"{name} is missing"):
        read_folder(folder, sha256)


# ---------------------------------------------------------------- where one may be written


@pytest.mark.parametrize(
    "names", [(), FILES, ("model.safetensors",), ("config.json", "scores.png"), (".DS_Store", ".config.json.part")]
)
def test_nothing_or_an_earlier_model_may_be_written_over(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).touch()
    check_output(tmp_path, ("scores.png",))
    check_output(tmp_path / "new")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("README.md",), "README.md"),
        ((*FILES, "photo.jpg"), "photo.jpg"),
        ((*FILES, "scores.png"), "scores.png"),
        (("results.json", "README.md"), "README.md"),
        (("calibration.json",), "calibration.json"),
    ],
)
def test_anything_else_may_not(names: tuple[str, ...], told: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=f"already holds {told}; name a new folder"):
        check_output(tmp_path)


def test_an_export_in_the_folder_of_a_model_does_not_keep_it_from_being_made_again(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "config.json").touch()
    with pytest.raises(ConfigError, match="already holds onnx"):
        check_output(tmp_path)
    (tmp_path / "onnx" / "model.onnx").touch()
    check_output(tmp_path)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model").touch()
    with pytest.raises(ConfigError, match="is a file; name a new folder"):
        check_output(tmp_path / "model")
    with pytest.raises(ConfigError, match=r"cannot be written .*name another folder"):
        make_parent(tmp_path / "model" / "new")


def test_the_parent_is_made_and_left_empty(tmp_path: Path) -> None:
    make_parent(tmp_path / "a" / "b" / "model")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_finished_folder_takes_the_place_of_an_earlier_model(tmp_path: Path) -> None:
    made, output = tmp_path / "made", tmp_path / "model"
    for folder, names, text in (
        (made, ("config.json", "model.safetensors", "scores.png"), "new"),
        (output, (*FILES, *PLOTS, "LICENSE"), "old"),
    ):
        folder.mkdir()
        for name in names:
            (folder / name).write_text(text)
    move_folder(made, output)
    assert {path.name: path.read_text() for path in output.iterdir()} == {
        "config.json": "new",
        "model.safetensors": "new",
        "scores.png": "new",
        "LICENSE": "old",  # neither a plot nor a file of a model
    }
    assert list(made.iterdir()) == []
    made.rmdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text("first")
    move_folder(tmp_path / "other", tmp_path / "fresh")
    assert (tmp_path / "fresh" / "config.json").read_text() == "first"
