"""Many photographs at once: the table, the files, and what stops a batch."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import gradio as gr
import numpy as np
import pytest
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from stlm_hub.errors import HubError, ImageError
from stlm_hub.predict import stream
from stlm_hub.predict.images import load_image
from stlm_hub.predict.prediction import Prediction, Unusable
from stlm_page import batch_tab
from stlm_page.batch_tab import STOPS, Run, _judged, judge_all
from stlm_page.judge import judge
from stlm_page.uploads import Upload

pytestmark = pytest.mark.usefixtures("page_cache")

VISITOR: Any = SimpleNamespace(session_hash="x")
SUMMARY, GALLERY, TABLE, CSV, ZIP, START, STOP = range(7)


def sent(paths: list[Path]) -> list[dict[str, Any]]:
    return [{"path": save_file_to_cache(path, get_upload_folder()), "orig_name": path.name} for path in paths]


@pytest.fixture
def six(write_photographs: Callable[..., list[Path]], tmp_path: Path) -> list[Path]:
    """Five photographs, and in the third place a file that is none."""
    paths = write_photographs(tmp_path / "parts", 6)
    paths[2].write_bytes(b"not a picture")
    return paths


def test_no_cell_of_the_table_is_a_formula_whatever_separates_them(
    make_prediction: Callable[..., Prediction], tmp_path: Path
) -> None:
    run = Run(tmp_path)
    for name in ("part;=1+1.png", ';"=1+1".png', "a\t=1.png", "a\n=1.png", "=1,=2;=3.png", '";=1.png', "a|@b.png"):
        run.add(name, make_prediction())
        run.refuse(name, ImageError(f"{name} is empty; save it again."))
    text = Path(run.finish()[0]).read_text(encoding="utf-8-sig")
    for separator in (",", ";", "\t", "|"):
        for row in csv.reader(text.splitlines(), delimiter=separator):
            assert not [cell for cell in row if cell.strip(" \"'")[:1] in tuple("=+-@") and cell[:1] != "'"], row


@pytest.fixture
def calls(make_prediction: Callable[..., Prediction], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many photographs each call of the network gets, which itself does not happen."""
    asked: list[int] = []

    def judge(name: str, photographs: list[np.ndarray]) -> list[Prediction]:
        asked.append(len(photographs))
        assert all(image.shape == (70, 90, 3) for image in photographs)
        return [make_prediction(score=float(image.mean()) / 255) for image in photographs]

    monkeypatch.setattr(batch_tab, "judge", judge)
    return asked


def test_calls_keep_the_order_and_leave_broken_files_in_their_place(
    six: list[Path], calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_tab, "PER_CALL", 2)
    found = list(_judged([Upload(path.name, path) for path in six], "model"))
    assert calls == [2, 1, 2]  # what cannot be used counts, too
    broken = found[2]
    assert isinstance(broken, Unusable) and "2.png" in str(broken.error)
    expected = [load_image(path).mean() / 255 for path in six if path.name != "2.png"]
    assert [judged.score for judged in found if isinstance(judged, Prediction)] == pytest.approx(expected)
    assert [isinstance(judged, Prediction) for judged in found] == [path.name != "2.png" for path in six]


def test_calls_are_bounded_by_pixels(six: list[Path], calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_tab, "PER_CALL", 100)
    monkeypatch.setattr(stream, "BATCH_PHOTOGRAPH_PIXELS", 2.5 * 70 * 90)
    found = [Upload(path.name, path) for path in six if path.name != "2.png"]
    assert len(list(_judged(found, "model"))) == 5 and calls == [2, 2, 1]
    calls.clear()
    monkeypatch.setattr(stream, "BATCH_PHOTOGRAPH_PIXELS", 1)  # one that alone is too large is judged alone
    assert len(list(_judged(found, "model"))) == 5 and calls == [1] * 5


def test_the_files_hold_what_was_judged(make_prediction: Callable[..., Prediction], tmp_path: Path) -> None:
    run = Run(tmp_path)
    bad, good = make_prediction(), make_prediction(score=0.25)
    run.add('line, "1"/=Ü.png', bad)
    run.refuse("-broken.png", ImageError("-broken.png is empty; save it again."))
    run.add('line, "1"/=Ü.png', good)
    assert (run.anomalous, run.unusable, len(run.gallery)) == (1, 1, 2)
    table, archive = run.finish()
    assert Path(table).read_bytes().startswith(b"\xef\xbb\xbf")
    with Path(table).open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ['line, "1"/=Ü.png', "'-broken.png", 'line, "1"/=Ü.png']
    assert [row["verdict"] for row in rows] == ["Reject", "unusable", "Pass"]
    assert [row["score"] for row in rows] == ["0.9", "", "0.25"]
    assert [row["marked_area_percent"] for row in rows] == ["4.167", "", "0.0"]
    assert rows[1]["note"] == "'-broken.png is empty; save it again."
    with zipfile.ZipFile(archive) as made:
        names = made.namelist()
        assert made.read("verdicts.csv") == Path(table).read_bytes()
        assert names == [
            "panels/0001_line___1___Ü.png",
            "masks/0001_line___1___Ü_mask.png",
            "panels/0003_line___1___Ü.png",
            "masks/0003_line___1___Ü_mask.png",
            "verdicts.csv",
        ]
        mask = cv2.imdecode(np.frombuffer(made.read(names[1]), np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(mask > 0, bad.mask)


def test_what_needs_a_look_is_called_so_and_counted_apart(
    make_prediction: Callable[..., Prediction], tmp_path: Path
) -> None:
    run = Run(tmp_path)
    run.add("bad.png", make_prediction())
    run.add("near.png", make_prediction(score=0.4, review_threshold=0.3))
    run.add("cat.png", make_prediction(unfamiliarity=2.0))
    run.add("good.png", make_prediction(score=0.2, review_threshold=0.3))
    assert [row[1] for row in run.rows] == ["Reject", "Review", "Unfamiliar", "Pass"]
    assert (run.anomalous, run.others, run.unusable) == (1, 2, 0)
    assert [caption for _, caption in run.gallery][1:3] == ["near.png: Review, 0.400", "cat.png: Unfamiliar, 0.900"]


def test_a_batch_says_how_many_more_need_a_look(
    six: list[Path], own_model: str, make_prediction: Callable[..., Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    def near(name: str, photographs: list[np.ndarray]) -> list[Prediction]:
        return [make_prediction(score=0.4, review_threshold=0.3) for _ in photographs]

    monkeypatch.setattr(batch_tab, "judge", near)
    last = list(judge_all(sent(six[:2]), own_model, VISITOR))[-1]
    assert last[SUMMARY] == "**0 of 2 photographs are rejected**, 2 more need a look."


def test_paths_of_the_upload_do_not_become_paths_of_the_archive(
    make_prediction: Callable[..., Prediction], tmp_path: Path
) -> None:
    run = Run(tmp_path)
    for name in ("../../up.png", "/etc/passwd.png", "..\\back.png", "a" * 500 + ".png"):
        run.add(name, make_prediction())
    with zipfile.ZipFile(run.finish()[1]) as made:
        for name in made.namelist()[:-1]:
            folder, _, file = name.partition("/")
            assert folder in ("panels", "masks") and ".." not in name and "/" not in file and "\\" not in file
            assert len(file) < 90


def test_a_batch_reports_each_file_in_its_place(
    six: list[Path], own_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_brightness(name: str, photographs: list[np.ndarray]) -> list[Prediction]:
        """Untrained, the model has one score for all."""
        return [replace(found, score=float(found.image.mean()) / 255) for found in judge(name, photographs)]

    monkeypatch.setattr(batch_tab, "PER_CALL", 2)
    monkeypatch.setattr(batch_tab, "judge", by_brightness)
    shown = []
    for each in judge_all(sent(six), own_model, VISITOR):
        shown.append(each)
        files = [Path(each[i]["value"] or "") for i in (CSV, ZIP) if "value" in each[i]]
        assert all(file.is_file() for file in files) == (len(shown) == 5 or not files)  # there while they are shown
    first, *middle, last = shown
    assert first[SUMMARY] == "0 of 6" and not first[START]["interactive"] and first[STOP]["interactive"]
    assert [shown[SUMMARY] for shown in middle] == ["2 of 6", "4 of 6", "6 of 6"]
    rows = last[TABLE]["value"]
    assert [row[0] for row in rows] == [path.name for path in six]
    assert [row[1] == "unusable" for row in rows] == [False, False, True, False, False, False]
    scores = [load_image(path).mean() / 255 for path in six if path.name != "2.png"]
    assert [row[2] for row in rows if row[2] is not None] == pytest.approx(scores, abs=1e-4)
    anomalous = sum(score >= 0.5 for score in scores)
    assert sum(row[1] == "Reject" for row in rows) == anomalous
    assert last[SUMMARY] == (
        f"**{anomalous} of 5 photographs are rejected**, 1 could not be used (the table says why)."
    )
    assert len(last[GALLERY]["value"]) == 5
    assert all(Path(picture).is_file() for picture, _ in last[GALLERY]["value"])
    assert not Path(last[CSV]["value"]).parent.exists()  # photographs do not stay
    assert last[START]["interactive"] and not last[STOP]["interactive"]
    assert "x" not in STOPS


def test_a_batch_stops_when_its_visitor_asks(six: list[Path], own_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_tab, "PER_CALL", 2)
    running = judge_all(sent(six), own_model, VISITOR)
    next(running)
    STOPS.ask(SimpleNamespace(session_hash="somebody else"))  # type: ignore[arg-type]
    assert next(running)[SUMMARY] == "2 of 6"
    assert STOPS.ask(VISITOR) == gr.update(interactive=False)
    (last,) = running
    assert last[SUMMARY].endswith("Stopped after 2 of 6.")
    assert [row[0] for row in last[TABLE]["value"]] == ["0.png", "1.png"]
    assert last[CSV]["value"] and last[START]["interactive"]
    assert "x" not in STOPS


def test_a_stop_of_the_batch_before_does_not_stop_the_next(six: list[Path], own_model: str) -> None:
    for _ in range(2):
        running = judge_all(sent(six[:2]), own_model, VISITOR)
        assert next(running)[SUMMARY] == "0 of 2"
        assert next(running)[SUMMARY] == "2 of 2"
        STOPS.ask(VISITOR)
        list(running)


def test_only_broken_files_are_a_result_too(six: list[Path], own_model: str) -> None:
    last = list(judge_all(sent([six[2]]), own_model, VISITOR))[-1]
    assert last[SUMMARY].startswith("**0 of 0 photographs are rejected**, 1 could not be used")
    assert not last[GALLERY]["visible"] and last[TABLE]["visible"]


@pytest.mark.parametrize(
    ("files", "name", "sentence"), [([], None, "no photographs yet"), (None, "nowhere", "no model")]
)
def test_what_prevents_a_batch_is_a_sentence(
    six: list[Path], own_model: str, files: list[Any] | None, name: str | None, sentence: str
) -> None:
    with pytest.raises(gr.Error, match=sentence):
        list(judge_all(sent(six) if files is None else files, name or own_model, VISITOR))
    assert "x" not in STOPS


def test_a_batch_that_breaks_off_can_be_started_again(
    six: list[Path], own_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise HubError("The graphics card is gone; try again later.")

    monkeypatch.setattr(batch_tab, "judge", fails)
    shown = []
    with pytest.raises(gr.Error, match="graphics card is gone"):
        for each in judge_all(sent(six), own_model, VISITOR):
            shown.append(each)
    assert shown[-1][START]["interactive"] and not shown[-1][STOP]["interactive"]
    assert "x" not in STOPS
