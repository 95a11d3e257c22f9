"""What the page shows and hands out of a prediction: pictures, words, files."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from stlm_hub.predict.prediction import VERDICTS, Prediction, Verdict
from stlm_page.models import LoadedModel
from stlm_page.pictures import (
    MAX_SIDE,
    MIN_SIDE,
    SIGNS,
    empty_verdict,
    facts,
    mask_png,
    panel_png,
    pictures,
    threshold_words,
    thumbnail,
    verdict,
    verdict_json,
)

pytestmark = pytest.mark.usefixtures("page_cache")

HOSTILE = "../../<script>alert(1)</script>\x00\n\"' %2e\\" + "\N{CJK UNIFIED IDEOGRAPH-4E00}" * 200
NORMAL = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09]

MakePrediction = Callable[..., Prediction]
MakeLoaded = Callable[..., LoadedModel]


def read(path: str) -> np.ndarray:
    picture = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    assert picture is not None
    return picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def text_of(html: str) -> str:
    return "".join(ElementTree.fromstring(html).itertext())


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (60, 80, (540, 720)),
        (720, 500, (720, 500)),
        (1000, 900, (1000, 900)),
        (1400, 700, (1400, 700)),
        (1500, 3000, (700, 1400)),
        (8, 400, (14, 720)),
    ],
)
def test_pictures_have_one_size_within_the_limits(
    make_prediction: MakePrediction, height: int, width: int, expected: tuple[int, int]
) -> None:
    shown = pictures(make_prediction(height, width, defect=(slice(2, 5), slice(2, 5))))
    sizes = {read(path).shape for path in (shown.photograph, shown.heatmap, shown.outline)}
    assert sizes == {(*expected, 3)}
    assert MIN_SIDE <= max(expected) <= MAX_SIDE


def test_a_defect_of_one_pixel_stays_visible_on_a_large_photograph(make_prediction: MakePrediction) -> None:
    where = (1501, 2002)
    with_defect = pictures(make_prediction(3000, 3000, defect=where))
    without = pictures(make_prediction(3000, 3000, defect=(slice(0), slice(0))))
    y, x = (round(place * MAX_SIDE / 3000) for place in where)
    around = slice(y - 8, y + 9), slice(x - 8, x + 9)

    def changed(kind: str) -> np.ndarray:
        pair = (read(getattr(each, kind)).astype(int) for each in (with_defect, without))
        return np.abs(next(pair) - next(pair)).max(-1)

    assert changed("heatmap")[around].max() > 100
    assert (changed("outline")[around] > 100).sum() >= 20
    far = changed("outline")
    far[y - 60 : y + 60, x - 60 : x + 60] = 0
    assert far.max() == 0
    assert changed("photograph").max() == 0


def test_the_outline_is_where_the_mask_is_and_the_photograph_is_left_alone(make_prediction: MakePrediction) -> None:
    shown = pictures(make_prediction(800, 800, defect=(slice(100, 200), slice(300, 500))))
    difference = np.abs(read(shown.outline).astype(int) - read(shown.photograph)).max(-1) > 100
    ys, xs = np.nonzero(difference)
    assert 85 <= ys.min() < 100 and 199 < ys.max() <= 215 and 285 <= xs.min() < 300 and 499 < xs.max() <= 515
    good = pictures(make_prediction(800, 800, score=0.2))
    assert np.array_equal(read(good.outline), read(good.photograph))


def test_thumbnails_are_small_and_outlined(make_prediction: MakePrediction) -> None:
    large = read(thumbnail(make_prediction(900, 1200, defect=(slice(300, 301), slice(600, 601)))))
    plain = read(thumbnail(make_prediction(900, 1200, score=0.2)))
    assert large.shape == plain.shape == (240, 320, 3)
    assert np.abs(large.astype(int) - plain)[60:100, 140:180].max() > 100
    assert read(thumbnail(make_prediction(60, 80))).shape == (60, 80, 3)


@pytest.mark.parametrize(("height", "width"), [(60, 80), (1501, 2003)])
def test_the_mask_has_the_size_of_the_photograph(make_prediction: MakePrediction, height: int, width: int) -> None:
    prediction = make_prediction(height, width)
    mask = read(mask_png(prediction, "part"))
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, prediction.mask * np.uint8(255))
    assert mask.any()
    assert not read(mask_png(prediction.with_threshold(0.95), "part")).any()


def test_the_panel_is_that_of_the_library(make_prediction: MakePrediction) -> None:
    prediction = make_prediction()
    assert np.array_equal(read(panel_png(prediction, "part")), prediction.panel("part"))


def test_the_json_file_says_verdict_model_and_rate(make_prediction: MakePrediction, make_loaded: MakeLoaded) -> None:
    path = verdict_json(make_prediction(), make_loaded(0.5, NORMAL), "part 1", "org/model")
    said = json.loads(Path(path).read_text())
    assert (said["photograph"], said["model"], said["weights_revision"]) == ("part 1", "org/model", None)
    assert (said["is_anomalous"], said["score"], said["threshold"]) == (True, 0.9, 0.5)
    assert (said["width"], said["height"]) == (80, 60)
    assert said["anomalous_area"] == pytest.approx(200 / 4800)
    assert (said["verdict"], said["review_threshold"], said["unfamiliarity"]) == ("reject", None, 0.0)
    assert said["expected_false_alarm_rate"] == pytest.approx(0.1)  # none of 9: no less than 1 in 10 can be said


def test_the_rate_is_null_where_it_is_not_known(make_prediction: MakePrediction, make_loaded: MakeLoaded) -> None:
    few = make_loaded(None, NORMAL[:3])
    assert facts(make_prediction(), few, "part", "model")["expected_false_alarm_rate"] is None


@pytest.mark.parametrize("title", [HOSTILE, "..", "/etc/passwd", "a" * 300, "\N{CJK UNIFIED IDEOGRAPH-4E00}" * 90])
def test_file_names_of_visitors_stay_inside_the_cache(
    make_prediction: MakePrediction, make_loaded: MakeLoaded, page_cache: Path, title: str
) -> None:
    prediction = make_prediction()
    made = [
        mask_png(prediction, title),
        panel_png(prediction, title),
        verdict_json(prediction, make_loaded(), title, "model"),
    ]
    for path in map(Path, made):
        assert path.is_file() and path.resolve().is_relative_to(page_cache.resolve())
        assert len(path.name.encode()) < 256
        assert all(char.isalnum() or char in "._-" for char in path.name)
    assert [Path(path).suffix for path in made] == [".png", ".png", ".json"]


def test_words_on_the_empty_page_are_escaped() -> None:
    html = empty_verdict('<img src=x onerror="alert(1)"> & more')
    assert "<img" not in html and escape("<img") in html
    assert text_of(html) == '<img src=x onerror="alert(1)"> & more'


def test_the_verdict_on_an_anomalous_part(make_prediction: MakePrediction, make_loaded: MakeLoaded) -> None:
    html = verdict(make_prediction(), make_loaded(0.5, NORMAL), 0.1234)
    root, text = ElementTree.fromstring(html), text_of(html)
    assert root.get("class") == "verdict anomalous" and root.get("role") == "status"
    assert "Reject" in text and "score 0.9 reaches the threshold 0.5" in text
    assert "4.2 % of it is marked" in text and "Judged in 123 ms; 80 x 60 px" in text
    assert "Blue bars: scores of 9 photographs of good parts." in text
    assert len(root.findall("svg")) == 1


def test_the_verdict_on_a_normal_part(make_prediction: MakePrediction, make_loaded: MakeLoaded) -> None:
    html = verdict(make_prediction(score=0.2), make_loaded(), 0.1)
    text = text_of(html)
    assert ElementTree.fromstring(html).get("class") == "verdict normal"
    assert "Pass" in text and "score 0.2 is below the threshold 0.5" in text and "Nothing is marked" in text
    assert "Bars" not in text  # there are none


def test_the_verdict_on_a_part_that_is_worth_a_second_look(
    make_prediction: MakePrediction, make_loaded: MakeLoaded
) -> None:
    html = verdict(make_prediction(score=0.4, review_threshold=0.3), make_loaded(0.5, NORMAL), 0.1)
    text = text_of(html)
    assert ElementTree.fromstring(html).get("class") == "verdict review"
    assert "? Review" in text and "score 0.4 is just below the threshold 0.5" in text
    assert "Nothing is marked" in text and "Pass" not in text
    below = text_of(verdict(make_prediction(score=0.2, review_threshold=0.3), make_loaded(0.5, NORMAL), 0.1))
    assert "Pass" in below


@pytest.mark.parametrize("score", [0.2, 0.9])
def test_the_verdict_on_what_is_not_the_part(
    make_prediction: MakePrediction, make_loaded: MakeLoaded, score: float
) -> None:
    html = verdict(make_prediction(score=score, unfamiliarity=1.5), make_loaded(0.5, NORMAL), 0.1)
    text = text_of(html)
    assert ElementTree.fromstring(html).get("class") == "verdict unfamiliar"
    assert "Unfamiliar" in text and "so its score says nothing" in text
    assert "Pass" not in text and "Reject" not in text and "marked" not in text


def test_every_verdict_of_the_library_has_words_of_its_own() -> None:
    assert set(VERDICTS) == set(get_args(Verdict)) == set(SIGNS)
    assert [word.lower() for word, _ in VERDICTS.values()] == list(get_args(Verdict))
    assert len({meaning for _, meaning in VERDICTS.values()}) == 4
    assert len({sign for _, sign in SIGNS.values()}) == 4  # for those who do not see the colours


def test_a_score_at_the_threshold_is_anomalous_in_words_too(
    make_prediction: MakePrediction, make_loaded: MakeLoaded
) -> None:
    assert "Reject" in verdict(make_prediction(score=0.5), make_loaded(), 0.1)


def test_the_calibrated_threshold_is_called_so_with_its_rate(make_loaded: MakeLoaded) -> None:
    model = make_loaded(0.2, NORMAL)
    calibrated = threshold_words(model, 0.2)
    assert "At 0.2 (the calibrated one) about 10 %" in calibrated and "Of 9 good photographs 0 reach it." in calibrated
    other = threshold_words(model, 0.075)
    assert "calibrated" not in other
    assert "At 0.075 about 30 % of good parts" in other and "Of 9 good photographs 2 reach it." in other
    assert "faint defects" not in calibrated + other


def test_what_a_threshold_misses_of_painted_defects_is_said(make_loaded: MakeLoaded) -> None:
    model = make_loaded(0.2, NORMAL, [0.1, 0.2, 0.3, 0.9])
    assert "Of 4 faint defects painted on good photographs it misses 25 %." in threshold_words(model, 0.2)
    assert "it misses 100 %." in threshold_words(model, 0.95)


@pytest.mark.parametrize("scores", [[], NORMAL[:3]])
def test_no_rate_is_claimed_on_too_few_photographs(make_loaded: MakeLoaded, scores: list[float]) -> None:
    words = threshold_words(make_loaded(0.2, scores), 0.2)
    assert "not known" in words and "%" not in words
