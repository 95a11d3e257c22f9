"""What happens before a training starts: the right reader, and what the card will say of the photographs."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import train.__main__ as main
from stlm_hub.errors import ConfigError, DataError
from train.recipe import load_recipe


@pytest.fixture
def handed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What `make` hands to the run, which itself does not happen."""
    seen: dict[str, Any] = {}

    def run(split: Any, model: Any, training: Any, weights: Any, source: Any, **options: Any) -> dict[str, Any]:
        seen.update(split=split, source=source, **options)
        return {"metrics": {}, "metrics_without_aggregation": {}, "dataset": source.dataset}

    monkeypatch.setattr(main, "run", run)
    monkeypatch.setattr(main, "starting_weights", lambda *args, **options: None)
    return seen


def make(alias: str, data: Path | None, tmp_path: Path) -> None:
    main.make(alias, "cpu", data, tmp_path / "runs", tmp_path / "out", "org", None, None, None, 0)


def test_visa_goes_to_its_reader(
    visa_root: Path, tmp_path: Path, handed_over: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    make("visa-candle", visa_root, tmp_path)
    assert "The split is not the official one" in capsys.readouterr().out
    assert len(handed_over["split"].train) + len(handed_over["split"].held_out) == 3
    assert [path.name for path in handed_over["test"].masks] == ["000.png", "001.png"]
    dataset = handed_over["source"].dataset
    assert (dataset["name"], dataset["license"]) == ("VisA", "cc-by-4.0")
    assert dataset["split"].startswith("not the official one")
    assert dataset["note"].startswith("Trained and evaluated on photographs scaled down to 8x8 px")
    assert handed_over["source"].paper is None


def test_dagm_goes_to_its_reader(dagm_class: Path, tmp_path: Path, handed_over: dict[str, Any]) -> None:
    make("dagm-class3", dagm_class.parent, tmp_path)
    assert len(handed_over["split"].train) + len(handed_over["split"].held_out) == 30
    assert len(handed_over["test"].good) == 30 and len(handed_over["test"].anomalous) == 10
    note = handed_over["source"].dataset["note"]
    assert "coarse ellipses" in note and note.endswith("8x8 px; the data set ships others.")
    assert handed_over["source"].paper is None


def test_mvtec_goes_to_its_reader_with_the_papers_figures(
    tmp_path: Path, picture: Callable[..., None], handed_over: dict[str, Any]
) -> None:
    folder = tmp_path / "mvtec_ad" / "cable"
    for i in range(3):
        picture(folder / "train" / "good" / f"{i}.png")
    picture(folder / "test" / "good" / "0.png")
    picture(folder / "test" / "bent_wire" / "0.png")
    picture(folder / "ground_truth" / "bent_wire" / "0_mask.png")
    make("mvtec-cable", folder.parent, tmp_path)
    assert handed_over["test"].anomalous == [folder / "test" / "bent_wire" / "0.png"]
    assert handed_over["source"].paper["p_auroc"] == 0.9695
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|", handed_over["source"].commit)
    for profile in ("cpu-short", "cpu-paper"):
        with pytest.raises(ConfigError, match=f"{profile} is for `python -m train ablate`"):
            main.make(
                "mvtec-cable", profile, folder.parent, tmp_path / "runs", tmp_path / "out", "org", None, None, None, 0
            )
    shutil.rmtree(folder / "test" / "bent_wire")
    with pytest.raises(DataError, match="holds no anomalous test photographs; figures need both"):
        make("mvtec-cable", folder.parent, tmp_path)


def test_code_that_is_not_committed_is_dirty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *words], cwd=tmp_path, check=True)

    monkeypatch.setattr(main, "ROOT", tmp_path)
    git("init", "-q")
    (tmp_path / "a.py").write_text("1")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    (tmp_path / "results.json").write_text("what the program writes")
    assert re.fullmatch(r"[0-9a-f]{40}", main._commit())
    (tmp_path / "new.yaml").write_text("a recipe that is not added yet")
    assert main._commit().endswith("-dirty")


def test_a_data_set_needs_its_folder(tmp_path: Path, handed_over: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="pass --data with the folder that DAGM 2007 was unpacked to"):
        make("dagm-class10", None, tmp_path)
    with pytest.raises(DataError, match=r"Class10.Train.Label.Labels\.txt is missing"):
        make("dagm-class10", tmp_path, tmp_path)
    assert not handed_over


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"teacher_checkpoint": Path("sam_vit_h.pth")}, "needs no --teacher-checkpoint"),
        ({"seed": 1, "memory_entries": 16}, "leave out --memory-entries and --memory-encoder, or --seed"),
        ({"seed": 1, "memory_encoder": "plain"}, "leave out --memory-entries and --memory-encoder, or --seed"),
        ({"memory_encoder": "vit_h"}, "memory_encoder must be one of"),
        ({"memory_encoder": "plain", "memory_entries": 0}, "mvtec-bottle has no memory, whose encoder could be named"),
        ({"network": Path("model"), "textures": Path("dtd")}, "--network trains nothing; leave out --textures"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: dict[str, Any], sentence: str, tmp_path: Path, handed_over: dict[str, Any]
) -> None:
    given = {"org": "org", "textures": None, "teacher_checkpoint": None, "weights": None, "workers": 0} | options
    with pytest.raises(ConfigError, match=sentence):
        main.make("mvtec-bottle", "cpu", tmp_path, tmp_path / "runs", tmp_path / "out", **given)
    assert not handed_over


def test_photographs_at_their_own_size_need_no_note(tmp_path: Path) -> None:
    for side, noted in {699: True, 700: False}.items():
        Image.fromarray(np.zeros((side, 600), np.uint8)).save(tmp_path / "x.png")
        assert (main._note(load_recipe("mvtec-cable", "paper-gpu"), tmp_path / "x.png") is not None) == noted
    Image.fromarray(np.zeros((512, 512), np.uint8)).save(tmp_path / "x.png")
    Image.fromarray(np.zeros((512, 512), np.uint8)).save(tmp_path / "x.jpg")
    note = main._note(load_recipe("mvtec-cable", "paper-gpu"), tmp_path / "x.jpg")
    assert note is not None and "scaled down to 512x512 px and stored as .jpg instead of .png; the data set" in note
    note = main._note(load_recipe("dagm-class1", "cpu"), tmp_path / "x.png")
    assert note is not None and "ellipses" in note and "scaled down" not in note
