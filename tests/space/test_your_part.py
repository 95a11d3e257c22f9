"""Your part: what seconds are enough for, and how a training that fails differs from a stopped one."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from stlm_hub.errors import TrainingError
from stlm_hub.training.observer import Observer
from stlm_page import judge, your_part_tab
from stlm_page.build import build_page
from stlm_page.judge import MODELS
from stlm_page.long_run import Progress
from stlm_page.where_to_look import EVERYWHERE
from stlm_page.your_part_form import ANEW, QUICK, STEPS, TIME
from stlm_page.your_part_result import Made, Wanted
from stlm_page.your_part_tab import make_in_seconds, offer, push_to_hub

pytestmark = pytest.mark.usefixtures("page_cache")

VISITOR: Any = SimpleNamespace(session_hash="x")
WANTED = Wanted("line-2", TIME)
STATUS, CURVE, SCALE, FINISHED, ARCHIVE, MADE, _UNUSUAL, _GALLERY, _NAMES, START, STOP = range(11)
WritePhotographs = Callable[..., list[Path]]


def sent(paths: list[Path]) -> list[dict[str, Any]]:
    return [{"path": save_file_to_cache(path, get_upload_folder()), "orig_name": path.name} for path in paths]


def calibrate(files: list[dict[str, Any]], base: str, name: str, percent: float) -> Iterator[list[Any]]:
    return make_in_seconds(files, base, name, percent, ANEW, EVERYWHERE, None, VISITOR)


@pytest.mark.parametrize(("seconds_only", "choices"), [(True, [QUICK, ANEW]), (False, [QUICK, TIME, STEPS])])
def test_a_memory_comes_first_and_training_is_offered_where_there_is_time(
    seconds_only: bool, choices: list[str]
) -> None:
    page = build_page([], seconds_only=seconds_only)
    (how,) = [block for block in page.blocks.values() if getattr(block, "elem_id", None) == "part-how"]
    assert [value for _, value in how.choices] == choices and how.value == QUICK
    names = {str(function.api_name) for function in page.fns.values()}
    assert ("train" in names, "make_in_seconds" in names) == (not seconds_only, seconds_only)


def test_a_memory_is_made_in_seconds_and_says_what_it_is(
    good_parts: list[Path], own_model: str, scratch_folders: Path
) -> None:
    running = make_in_seconds(sent(good_parts[:8]), own_model, "line-3", 1.0, QUICK, EVERYWHERE, None, VISITOR)
    first, last = running
    assert "Remembering" in first[STATUS]
    assert "a memory of good parts alone, without training" in last[STATUS]
    config = MODELS.get(last[MADE].model).network.config
    assert not config.streams and config.patch_memory is not None and config.category == "line-3"
    assert not list(scratch_folders.rglob("photographs")) and not list(scratch_folders.rglob("*.run"))
    assert your_part_tab._offer_training(last[MADE], QUICK)["visible"]
    assert not your_part_tab._offer_training(last[MADE], TIME)["visible"]
    assert not your_part_tab._offer_training(None, QUICK)["visible"]


def test_more_photographs_than_the_seconds_are_enough_for_are_refused(
    write_photographs: WritePhotographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_model: str
) -> None:
    monkeypatch.setattr(judge, "ON_ZERO_GPU", True)
    monkeypatch.setattr(judge, "MAX_REMEMBERED", 8)
    monkeypatch.setattr(judge, "finetune", lambda *_, **__: pytest.fail("it was begun"))
    files = sent(write_photographs(tmp_path / "good", 9))
    with pytest.raises(gr.Error, match=r"These are 9 photographs.*enough for 8"):
        list(make_in_seconds(files, own_model, "line-3", 1.0, QUICK, EVERYWHERE, None, VISITOR))


@pytest.mark.parametrize("how", ["", TIME, "anything"])
def test_what_is_not_offered_is_not_made(own_model: str, how: str) -> None:
    with pytest.raises(gr.Error, match="Choose what is to be made"):
        list(make_in_seconds([], own_model, "line-3", 1.0, how, EVERYWHERE, None, VISITOR))


def test_calibration_ends_with_a_model_that_can_be_used(
    own_model: str, write_photographs: WritePhotographs, tmp_path: Path, scratch_folders: Path
) -> None:
    first, last = calibrate(sent(write_photographs(tmp_path / "good", 5)), own_model, "line-2", 5.0)
    assert own_model in first[STATUS] and not first[START]["interactive"] and not first[STOP]["interactive"]
    made = last[MADE]
    assert isinstance(made, Made) and made.wanted.name == "line-2" and made.model != own_model
    calibration = MODELS.get(made.model).network.calibration
    assert calibration is not None and calibration.n == 5 and calibration.false_alarm_rate == pytest.approx(0.05)
    assert "line-2 is finished" in last[STATUS] and "Of 5 good photographs 0 reach it" in last[STATUS]
    assert "<svg" in last[SCALE]["value"] and last[FINISHED]["visible"] and last[START]["interactive"]
    with zipfile.ZipFile(last[ARCHIVE]) as archive:
        names = {"config.json", "model.safetensors", "familiarity.safetensors", "results.json", "README.md"}
        assert names <= set(archive.namelist())
    assert not list(scratch_folders.rglob("*.png"))  # the visitor's photographs are not kept
    shown = offer(made)
    assert shown["value"] == made.model and (f"{made.wanted.name} · made here", made.model) in shown["choices"]


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
        for each in calibrate(sent(write_photographs(tmp_path / "good", count)), own_model, "line-2", 1.0):
            shown.append(each)
    assert shown[-1][START]["interactive"]  # it can be tried again
    assert not list(scratch_folders.rglob("*.png"))


@pytest.mark.parametrize("name", ["../../elsewhere", "/tmp/elsewhere", "", "a b", "a/b", "x" * 100])
def test_a_name_that_would_be_a_path_is_refused(
    own_model: str, write_photographs: WritePhotographs, tmp_path: Path, scratch_folders: Path, name: str
) -> None:
    files = sent(write_photographs(tmp_path / "good", 5))
    with pytest.raises(gr.Error, match="name is made of letters"):
        list(calibrate(files, own_model, name, 1.0))
    assert not list(tmp_path.rglob("*.zip"))


def test_a_visitor_who_leaves_is_no_error(
    own_model: str, write_photographs: WritePhotographs, tmp_path: Path, scratch_folders: Path
) -> None:
    running = calibrate(sent(write_photographs(tmp_path / "good", 5)), own_model, "line-2", 1.0)
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
    running = your_part_tab._train(fails, Progress(), WANTED, tmp_path, VISITOR)
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

    running = your_part_tab._train(work, Progress(), WANTED, tmp_path, VISITOR)
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
        push_to_hub(Made(WANTED, "own-1", tmp_path), repo, token, True)


def test_what_an_upload_that_cannot_be_used_has_left_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = SimpleNamespace(name="1.png", read=lambda: b"a photograph")
    bomb = SimpleNamespace(name="2.png", read=lambda: pytest.fail("it unpacks to gigabytes"))
    monkeypatch.setattr(your_part_tab, "uploads", lambda files: [good, bomb])
    with pytest.raises(pytest.fail.Exception):
        your_part_tab._unpack([], tmp_path / "photographs")
    assert list(tmp_path.iterdir()) == []
