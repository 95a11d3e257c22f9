"""The scale under a verdict: well-formed, true to the figures, and inside its frame whatever they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

import numpy as np
import pytest

from stlm_page.scale import HEIGHT, WIDTH, score_scale

NORMAL = np.random.default_rng(0).beta(2, 60, 31).tolist()
EXTREMES = (0.0, 1e-6, 1e-3, 0.5, 1 - 1e-6, 1.0)
CHARACTER = {"tick-text": 6.2, "threshold-text": 6.6, "score-text": 7.2}  # units a character takes, at most


def drawn(
    scores: Sequence[float],
    threshold: float,
    score: float | None = None,
    probes: Sequence[float] = (),
    review: float | None = None,
) -> ElementTree.Element:
    return ElementTree.fromstring(score_scale(scores, threshold, score, probe_scores=probes, review_threshold=review))


def number(element: ElementTree.Element, name: str) -> float:
    value = element.get(name)
    assert value is not None
    return float(value)


def of_class(svg: ElementTree.Element, kind: str) -> list[ElementTree.Element]:
    return [element for element in svg if element.get("class") == kind]


def corners(element: ElementTree.Element) -> list[tuple[float, float]]:
    """Two opposite corners of what an element covers."""
    if element.tag == "rect":
        x, y, width, height = (number(element, name) for name in ("x", "y", "width", "height"))
        assert width >= 0 and height >= 0
        return [(x, y), (x + width, y + height)]
    if element.tag == "line":
        return [(number(element, "x1"), number(element, "y1")), (number(element, "x2"), number(element, "y2"))]
    if element.tag == "path":
        start = re.match(r"M(\S+) (\S+) h12 L(\S+) (\S+) z", element.get("d") or "")
        assert start
        x, y = float(start[1]), float(start[2])
        return [(x, y), (x + 12, y), (float(start[3]), float(start[4]))]
    assert element.tag == "text" and element.text
    length = CHARACTER[element.get("class") or ""] * len(element.text)
    before = {"middle": 0.5, "end": 1.0, None: 0.0}[element.get("text-anchor")] * length
    x, y = number(element, "x"), number(element, "y")
    return [(x - before, y - 10), (x - before + length, y)]


@pytest.mark.parametrize("score", [None, *EXTREMES])
@pytest.mark.parametrize("threshold", EXTREMES)
@pytest.mark.parametrize(
    "scores",
    [[], NORMAL, [0.0] * 5, [1.0] * 5, [0.0, 1.0], [0.3]],
    ids=["none", "some", "zeros", "ones", "both", "one"],
)
def test_nothing_leaves_the_drawing(scores: list[float], threshold: float, score: float | None) -> None:
    svg = drawn(scores, threshold, score, probes=[*scores, 0.7], review=0.3)
    assert svg.get("viewBox") == f"0 0 {WIDTH} {HEIGHT}"
    assert len(svg) >= 6
    for element in svg:
        for x, y in corners(element):
            assert 0 <= x <= WIDTH and 0 <= y <= HEIGHT, ElementTree.tostring(element)


def test_the_text_alternative_says_all_figures() -> None:
    svg = drawn([0.01, 0.2, 0.05], 0.3, 0.7654)
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == (
        "Scale of the anomaly score. 3 normal parts lie from 0.01 to 0.2. The threshold is at 0.3. "
        "This photograph is at 0.765."
    )


def test_the_text_alternative_claims_nothing_that_is_not_known() -> None:
    assert drawn([], 0.5).get("aria-label") == (
        "Scale of the anomaly score. Where normal parts lie is not known. The threshold is at 0.5."
    )


def test_labels_are_the_figures_and_without_a_score_there_is_no_photograph() -> None:
    texts = [element.text for element in drawn(NORMAL, 0.25, 0.75) if element.tag == "text"]
    assert {"threshold 0.25", "this photograph 0.75", "normal", "anomalous", "0.5"} <= set(texts)
    without = drawn(NORMAL, 0.25)
    assert (
        not of_class(without, "score") and not of_class(without, "score-text") and not of_class(without, "score-head")
    )


@pytest.mark.parametrize(("threshold", "score"), [(0.3, 0.31), (0.3, 0.29), (1e-4, 0.9), (0.99, 0.2), (0.4, 0.4)])
def test_lines_are_in_the_order_of_the_figures(threshold: float, score: float) -> None:
    svg = drawn(NORMAL, threshold, score)
    (at_threshold,), (at_score,) = of_class(svg, "threshold"), of_class(svg, "score")
    difference = number(at_score, "x1") - number(at_threshold, "x1")
    assert np.sign(difference) == np.sign(score - threshold)
    (below,), (above,) = of_class(svg, "below"), of_class(svg, "above")
    assert number(below, "x") + number(below, "width") == pytest.approx(number(at_threshold, "x1"), abs=0.1)
    assert number(above, "x") == number(at_threshold, "x1")
    assert number(above, "x") + number(above, "width") == pytest.approx(WIDTH - number(below, "x"), abs=0.1)


def test_bars_add_up_to_the_scores() -> None:
    scores = [1e-4, *NORMAL]  # the first alone in its bar
    heights = [number(bar, "height") for bar in of_class(drawn(scores, 0.5), "bar")]
    assert number(of_class(drawn(scores, 0.5), "bar")[0], "height") == min(heights)
    assert sum(round(height / min(heights)) for height in heights) == len(scores)
    assert not of_class(drawn([], 0.5), "bar")


def test_heights_of_bars_are_in_proportion() -> None:
    small, large = of_class(drawn([0.01] * 10 + [0.2] * 30, 0.5), "bar")
    assert number(large, "height") == pytest.approx(3 * number(small, "height"), abs=0.2)
    assert number(small, "x") < number(large, "x")
    assert corners(small)[1][1] == pytest.approx(corners(large)[1][1], abs=0.1)  # both stand on the axis


@pytest.mark.parametrize("score", [0.0, 1e-3, 0.2, 0.9, 1.0])
def test_a_bar_stands_where_its_score_is_marked(score: float) -> None:
    svg = drawn([score] * 4, 0.5, score)
    (bar,), (mark,) = of_class(svg, "bar"), of_class(svg, "score")
    (left, _), (right, _) = corners(bar)
    assert left - 0.6 <= number(mark, "x1") <= right + 0.6


def test_painted_defects_and_the_band_for_review_are_drawn_and_said() -> None:
    svg = drawn([0.1] * 8 + [0.2] * 2, 0.5, 0.9, probes=[0.2] * 3 + [0.8] * 3, review=0.4)
    tall, small = of_class(svg, "bar")
    probes = of_class(svg, "bar probe")
    assert [number(bar, "height") for bar in probes] == pytest.approx([number(tall, "height") * 0.5 / 0.8] * 2, abs=0.2)
    assert number(probes[0], "x") == number(small, "x")
    (below,), (review,), (above,) = of_class(svg, "below"), of_class(svg, "review"), of_class(svg, "above")
    assert number(below, "x") + number(below, "width") == pytest.approx(number(review, "x"), abs=0.1)
    assert number(review, "x") + number(review, "width") == pytest.approx(number(above, "x"), abs=0.1)
    assert number(review, "width") > 0
    assert svg.get("aria-label") == (
        "Scale of the anomaly score. 10 normal parts lie from 0.1 to 0.2. 6 painted defects lie from 0.2 to 0.8. The "
        "threshold is at 0.5. Scores from 0.4 to it are for review. This photograph is at 0.9."
    )


def test_a_review_threshold_at_or_above_the_other_has_no_band() -> None:
    for review in (0.5, 0.6):
        svg = drawn(NORMAL, 0.5, review=review)
        assert not of_class(svg, "review") and "review" not in (svg.get("aria-label") or "")
