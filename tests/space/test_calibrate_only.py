"""Your part: calibration where there is no time to train, and how a training that fails differs from a stopped one."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from stlm_hub.errors import TrainingError
from stlm_hub.training.pipeline import Observer
from stlm_page import your_part_tab
from stlm_page.build import build_page
from stlm_page.judge import MODELS
from stlm_page.long_run import Progress
from stlm_page.your_part_tab import Made, calibrate, offer, push_to_hub

pytestmark = pytest.mark.usefixtures("page_cache")

VISITOR: Any = SimpleNamespace(session_hash="x")
STATUS, CURVE, SCALE, FINISHED, ARCHIVE, MADE, START, STOP = range(8)
WritePhotographs = Callable[..., list[Path]]


def sent(paths: list[Path]) -> list[dict[str, Any]]:
    return [{"path": save_file_to_cache(path, get_upload_folder()), "orig_name": path.name} for path in paths]


def buttons(page: gr.Blocks) -> set[str]:
    return {str(block.value) for block in page.blocks.values() if isinstance(block, gr.Button)}


@pytest.fixture
def scratch_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the page makes for the visitor, under one folder."""
    root = tmp_path / "scratch"
    root.mkdir()

    def folder() -> Path:
        made = root / f"visit-{len(list(root.iterdir()))}"
        made.mkdir()
        return made

    monkeypatch.setattr(your_part_tab, "SCRATCH", SimpleNamespace(folder=folder))
    return root


@pytest.mark.parametrize(
    ("calibrate_only", "there", "not_there"), [(True, "Calibrate", "Fine-tune"), (False, "Fine-tune", "Calibrate")]
)
def test_the_page_offers_calibration_in_place_of_training(calibrate_only: bool, there: str, not_there: str) -> None:
    shown = buttons(build_page([], calibrate_only=calibrate_only))
    assert there in shown and not_there not in shown


def test_calibration_ends_with_a_model_that_can_be_used(
    own_model: str, write_photographs: WritePhotographs, tmp_path: Path, scratch_folders: Path
) -> None:
    first, last = calibrate(sent(write_photographs(tmp_path / "good", 5)), own_model, "line-2", 5.0, VISITOR)
    assert own_model in first[STATUS] and not first[START]["interactive"] and not first[STOP]["interactive"]
    made = last[MADE]
    assert isinstance(made, Made) and made.name == "line-2" and made.model != own_model
    calibration = MODELS.get(made.model).network.calibration
    assert calibration is not None and calibration.n == 5 and calibration.false_alarm_rate == pytest.approx(0.05)
    assert "line-2 is finished" in last[STATUS] and "Of 5 good photographs 0 reach it" in last[STATUS]
    assert "<svg" in last[SCALE]["value"] and last[FINISHED]["visible"] and last[START]["interactive"]
    with zipfile.ZipFile(last[ARCHIVE]) as archive:
        names = {"config.json", "model.safetensors", "familiarity.safetensors", "results.json", "README.md"}
        assert names <= set(archive.namelist())
    assert not list(scratch_folders.rglob("*.png"))  # the visitor's photographs are not kept
    shown = offer(made)
    assert shown["value"] == made.model and (f"{made.name} · made here", made.model) in shown["choices"]


@pytest.mark.parametrize(
    ("count", "sentence"),
    [(3, "The upload holds 3 photographs; calibration needs at least 4"), (0, "no photographs yet")],
)
def test_too_few_photographs_end_in_a_sentence(
    own_model: str,
    write_photographs: WritePhotographs,
    tmp_path: Path,
    scratch_folders: Path,
    count: int,
    sentence: str,
) -> None:
    shown = []
    with pytest.raises(gr.Error, match=sentence):
        for each in calibrate(sent(write_photographs(tmp_path / "good", count)), own_model, "line-2", 1.0, VISITOR):
            shown.append(each)
    assert shown[-1][START]["interactive"]  # it can be tried again
    assert not list(scratch_folders.rglob("*.png"))


@pytest.mark.parametrize("name", ["../../elsewhere", "/tmp/elsewhere", "", "a b", "a/b", "x" * 100])
def test_a_name_that_would_be_a_path_is_refused(
    own_model: str, write_photographs: WritePhotographs, tmp_path: Path, scratch_folders: Path, name: str
) -> None:
    files = sent(write_photographs(tmp_path / "good", 5))
    with pytest.raises(gr.Error, match="name is made of letters"):
        list(calibrate(files, own_model, name, 1.0, VISITOR))
    assert not list(tmp_path.rglob("*.zip"))


def test_a_visitor_who_leaves_is_no_error(
    own_model: str, write_photographs: WritePhotographs, tmp_path: Path, scratch_folders: Path
) -> None:
    running = calibrate(sent(write_photographs(tmp_path / "good", 5)), own_model, "line-2", 1.0, VISITOR)
    next(running)
    running.close()
    assert not list(scratch_folders.rglob("*.png"))


def test_photographs_of_one_name_and_of_endless_names_are_all_unpacked(
    write_photographs: WritePhotographs, tmp_path: Path
) -> None:
    paths = write_photographs(tmp_path / "good", 3)
    names = ["same.png", "line 2/same.png", "\N{CJK UNIFIED IDEOGRAPH-4E00}" * 200 + ".png"]
    files = [{**file, "orig_name": name} for file, name in zip(sent(paths), names, strict=True)]
    folder = your_part_tab._unpack(files, tmp_path / "unpacked")
    found = sorted(folder.iterdir())
    assert sorted(path.read_bytes() for path in found) == sorted(path.read_bytes() for path in paths)
    assert {"same.png", "0001_same.png"} < {path.name for path in found}
    assert all(path.suffix == ".png" for path in found)


def fails(observer: Observer) -> Path:
    raise TrainingError("The loss is not finite; train with a lower learning rate.")


def test_a_training_that_fails_is_not_called_stopped(tmp_path: Path) -> None:
    shown = []
    running = your_part_tab._train(fails, Progress(), "line-2", tmp_path, VISITOR)
    with pytest.raises(TrainingError, match="not finite"):
        for each in running:
            shown.append(each)
    assert shown[-1][STATUS] == "That did not work." and shown[-1][START]["interactive"]
    assert "x" not in your_part_tab.STOPS


def test_a_training_that_its_visitor_stops_is_called_stopped(tmp_path: Path) -> None:
    asked = threading.Event()

    def work(observer: Observer) -> Path:
        assert asked.wait(5)
        assert observer.should_stop and observer.should_stop()
        raise TrainingError("Training stopped after step 1 of 9.")

    running = your_part_tab._train(work, Progress(), "line-2", tmp_path, VISITOR)
    next(running)
    your_part_tab.STOPS.ask(VISITOR)
    asked.set()
    last = list(running)[-1]
    assert last[STATUS] == "Stopped. Nothing was kept." and last[START]["interactive"]
    assert "x" not in your_part_tab.STOPS


@pytest.mark.parametrize("handler", [lambda: offer(None), lambda: push_to_hub(None, "me/part", "token", True)])
def test_nothing_can_be_done_with_a_model_that_is_not_there(handler: Callable[[], object]) -> None:
    with pytest.raises(gr.Error, match="no finished model yet"):
        handler()


@pytest.mark.parametrize(
    ("repo", "token", "sentence"),
    [
        ("part", "token", "Name the repository"),
        ("a/b/c", "token", "Name the repository"),
        ("me/part", "", "access token"),
    ],
)
def test_pushing_needs_a_repository_and_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repo: str, token: str, sentence: str
) -> None:
    monkeypatch.setattr(your_part_tab, "publish", lambda *_, **__: pytest.fail("it was published"))
    with pytest.raises(gr.Error, match=sentence):
        push_to_hub(Made("part", "own-1", tmp_path), repo, token, True)
