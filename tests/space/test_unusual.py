"""Your part: good photographs that are unusual are shown, and can be left out of a model that is made anew."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from stlm_hub.predict.prediction import Prediction
from stlm_page import long_run, your_part_tab
from stlm_page.unusual import Unusual, drawn, update
from stlm_page.where_to_look import EVERYWHERE
from stlm_page.your_part_form import MINUTES, QUICK, TIME
from stlm_page.your_part_result import Made, Wanted
from stlm_page.your_part_tab import make_in_seconds, to_leave_out, train

pytestmark = pytest.mark.usefixtures("page_cache")

VISITOR: Any = SimpleNamespace(session_hash="x")
STATUS, MADE, SECTION, GALLERY, NAMES = 0, 5, 6, 7, 8
Make = Callable[..., Iterator[list[Any]]]


def sent(paths: list[Path]) -> list[dict[str, Any]]:
    return [{"path": save_file_to_cache(path, get_upload_folder()), "orig_name": path.name} for path in paths]


def at_once(files: list[dict[str, Any]], leave_out: tuple[str, ...] = ()) -> Iterator[list[Any]]:
    """As where the graphics card is lent for seconds."""
    return make_in_seconds(files, "", "line-2", 1.0, QUICK, EVERYWHERE, None, VISITOR, leave_out)


def in_a_thread(files: list[dict[str, Any]], leave_out: tuple[str, ...] = ()) -> Iterator[list[Any]]:
    """As where there is time to train."""
    look = (EVERYWHERE, None)
    return train(files, "line-2", 1.0, QUICK, 1, 1, 256, "always the same way", *look, VISITOR, leave_out)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_run, "POLL", 0.05)


@pytest.fixture
def mislabelled(good_parts: list[Path], photographs: Path) -> list[Path]:
    """Eleven good bricks and a cracked one."""
    return [*good_parts[:11], photographs / "crack.png"]


@pytest.mark.parametrize("make", [at_once, in_a_thread])
def test_a_defect_among_the_good_ones_is_shown_and_left_out_on_request(
    mislabelled: list[Path], scratch_folders: Path, make: Make
) -> None:
    files = sent(mislabelled)
    first, *_, last = make(files)
    made = last[MADE]
    assert not first[SECTION]["visible"] and last[SECTION]["visible"]
    assert made.unusual == ("crack.png",) and last[NAMES]["choices"] == ["crack.png"]
    ((picture, caption),) = last[GALLERY]["value"]
    assert Path(picture).is_relative_to(get_upload_folder()) and caption.startswith("crack.png: score 0.")
    assert not list(scratch_folders.rglob("*.run")) and not list(scratch_folders.rglob("crack.png"))

    how, leave_out = to_leave_out(made, ["crack.png"])
    assert (how, leave_out) == (QUICK, ("crack.png",))
    *_, again = make(files, leave_out)
    assert "Left out: crack.png." in again[STATUS] and not again[SECTION]["visible"] and again[NAMES]["choices"] == []
    commands = json.loads((again[MADE].folder / "results.json").read_text())["provenance"]["commands"]
    assert "crack.png" in str(commands)
    assert again[MADE].wanted.left_out == leave_out and again[MADE].model != made.model


@pytest.mark.parametrize("make", [at_once, in_a_thread])
@pytest.mark.parametrize(
    ("leave_out", "sentence"),
    [
        (("other.png",), r"^'There is no photograph other\.png in the upload that could be left out"),
        (("../000.png",), r"^'There is no photograph \.\./000\.png in the upload"),
        (tuple(f"{number:03d}.png" for number in range(4, 9)), r"^'7 photographs are left; training needs at least 8"),
    ],
)
def test_what_cannot_be_left_out_is_said_while_the_finished_model_is_still_there(
    mislabelled: list[Path], scratch_folders: Path, make: Make, leave_out: tuple[str, ...], sentence: str
) -> None:
    shown = []
    with pytest.raises(gr.Error, match=sentence):
        for each in make(sent(mislabelled), leave_out):
            shown.append(each)
    assert all(each[MADE] == gr.skip() for each in shown)
    assert not list(scratch_folders.rglob("*.png"))


def made_of(*unusual: str, how: str = TIME, left_out: tuple[str, ...] = ()) -> Made:
    return Made(Wanted("line-2", how, left_out), "own-1", Path("made"), unusual)


@pytest.mark.parametrize(
    ("made", "names", "sentence"),
    [
        (None, ["a.png"], "no finished model yet"),
        (made_of("a.png"), [], "Choose the photographs that are not good"),
        (made_of("a.png"), None, "Choose the photographs that are not good"),
        (made_of("a.png"), ["a.png", "b.png"], "Choose among the photographs that are shown"),
        (made_of(), ["a.png"], "Choose among the photographs that are shown"),
    ],
)
def test_only_what_is_shown_can_be_left_out(made: Made | None, names: list[str] | None, sentence: str) -> None:
    with pytest.raises(gr.Error, match=sentence):
        to_leave_out(made, names)


def test_what_was_left_out_before_stays_out() -> None:
    made = made_of("b.png", "c.png", left_out=("a.png",))
    assert to_leave_out(made, ["c.png"]) == [TIME, ("a.png", "c.png")]
    how, minutes, _, left_out = your_part_tab._train_longer(made)
    assert (how, minutes, left_out) == (TIME, MINUTES, ("a.png",))


@pytest.mark.parametrize(("height", "width", "rows"), [(60, 80, 1), (80, 60, 1), (40, 200, 2)])
def test_a_photograph_stands_beside_its_map_or_above_it(
    make_prediction: Callable[..., Prediction], height: int, width: int, rows: int
) -> None:
    one = drawn("part.png", make_prediction(height, width, score=0.75))
    found_height, found_width, _ = one.picture.shape
    assert (one.name, one.score) == ("part.png", 0.75)
    assert found_width / found_height == pytest.approx((3 - rows) * width / (rows * height), rel=0.02)
    photograph, heatmap = np.split(one.picture, 2, axis=2 - rows)
    assert photograph.max() < 100 < heatmap.max()  # the photograph is dim, the defect on the map is not


def test_pictures_become_files_when_they_are_shown(page_cache: Path) -> None:
    hostile = "<img src=x> ![a](b).png"
    found = Unusual(hostile, 0.876, np.full((8, 16, 3), 90, np.uint8))
    assert not list(page_cache.rglob("*.jpg"))
    section, gallery, names = update([found])
    assert section["visible"] and names["choices"] == [hostile] and names["value"] == []
    ((picture, caption),) = gallery["value"]
    assert Path(picture).name == "unusual.jpg" and caption == f"{hostile}: score 0.88"
    assert list(page_cache.rglob("*.jpg")) == [Path(picture)]
