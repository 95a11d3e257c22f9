"""Which photographs are shown, and what panels and overview contain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn import write_photographs
from PIL import Image

from stlm_hub.drawing.heatmap import GROUND_TRUTH_COLOUR, draw_contour
from stlm_hub.drawing.panel import panel, tile_size
from stlm_hub.evaluation.evaluate import Evaluation, TestSet
from stlm_hub.evaluation.pictures import (
    GOOD,
    MOST_UNUSUAL,
    JudgedPhotograph,
    choose,
    judged_photographs,
    ranked,
    write_overview,
    write_panels,
    write_unusual,
)
from stlm_hub.model_folder.figures import MapFigures
from stlm_hub.stlm import STLM

MASK = np.zeros((40, 60), bool)
MASK[10:20, 15:30] = True


def judged(
    folder: Path, kind: str, number: int, score: float, iou: float | None = None, marked: bool = True
) -> JudgedPhotograph:
    path = folder / kind / f"{number:03d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 60, 3), 120, np.uint8)).save(path)
    truth = MASK & (kind != GOOD) & marked
    return JudgedPhotograph(path, kind, score, np.where(MASK, score, 0.01).astype(np.float32), truth, iou)


def test_defects_are_ranked_by_overlap_and_good_ones_by_score(tmp_path: Path) -> None:
    dents = [
        judged(tmp_path, "dent", i, score, iou)
        for i, (score, iou) in enumerate([(0.9, 0.2), (0.8, 0.9), (0.3, 0.0), (0.2, 0.0)])
    ]
    assert [photograph.path.stem for photograph in ranked(dents)] == ["003", "002", "000", "001"]
    good = [judged(tmp_path, GOOD, i, score) for i, score in enumerate([0.2, 0.6, 0.1])]
    assert [photograph.path.stem for photograph in ranked(good)] == ["001", "000", "002"]


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (0, {}),
        (1, {"only": 0}),
        (2, {"worst": 0, "best": 1}),
        (3, {"worst": 0, "median": 1, "best": 2}),
        (6, {"worst": 0, "median": 2, "best": 5}),
    ],
)
def test_worst_median_and_best_are_different_photographs(tmp_path: Path, n: int, expected: dict[str, int]) -> None:
    photographs = [judged(tmp_path, "dent", i, 0.5, iou=i / 10) for i in range(n)]
    found = choose(photographs[::-1])
    assert {place: photographs.index(photograph) for place, photograph in found.items()} == expected


def test_an_anomalous_photograph_with_an_empty_ground_truth_is_not_ranked(tmp_path: Path) -> None:
    photographs = [judged(tmp_path, "dent", 0, 0.5, iou=None, marked=False), judged(tmp_path, "dent", 1, 0.5, iou=0.3)]
    assert choose(photographs) == {"only": photographs[1]}


def test_overlap_is_that_of_the_models_mask_and_zero_for_a_missed_defect() -> None:
    masks = [np.zeros((40, 60), bool), MASK, MASK, np.zeros((40, 60), bool)]
    maps = [np.where(mask, 0.9, 0.1).astype(np.float32) for mask in (MASK, MASK, MASK, MASK)]
    maps[1][10:20, 30:45] = 0.5  # as much again beside the defect, at the threshold
    test = TestSet([Path("good/0.png")], [Path(f"dent/{i}.png") for i in (1, 2, 3)], [Path("mask")] * 3)
    scores = [0.1, 0.7, 0.49, 0.8]
    evaluation = Evaluation(
        {"aggregation": MapFigures()}, scores[:1], scores[1:], 1.0, scores, [0, 1, 1, 1], maps, masks
    )
    found = judged_photographs(test, evaluation, 0.5)
    assert [photograph.score for photograph in found] == scores
    assert [photograph.kind for photograph in found] == [GOOD, "dent", "dent", "dent"]
    assert [photograph.iou for photograph in found] == [None, 0.5, 0.0, None]  # the last one's mask marks nothing


def test_panels_are_written_for_each_kind_and_show_the_ground_truth(tmp_path: Path) -> None:
    photographs = [
        *(judged(tmp_path, GOOD, i, score) for i, score in enumerate([0.2, 0.6])),
        *(judged(tmp_path, "hole", i, 0.9, iou) for i, iou in enumerate([0.3, 0.1, 0.2])),
        judged(tmp_path, "dent", 0, 0.4, 0.5),
    ]
    (tmp_path / "out").mkdir()
    written = write_panels(tmp_path / "out", photographs, 0.5)
    assert [(picture.path.name, picture.judged.name, picture.n) for picture in written] == [
        ("dent_only.png", "dent/000.png", 1),
        ("hole_worst.png", "hole/001.png", 3),
        ("hole_median.png", "hole/002.png", 3),
        ("hole_best.png", "hole/000.png", 3),
        ("good_worst.png", "good/001.png", 2),
        ("good_best.png", "good/000.png", 2),
    ]
    pixels = np.asarray(Image.open(tmp_path / "out" / "hole_worst.png"))
    plain = panel(np.full((40, 60, 3), 120, np.uint8), photographs[3].anomaly_map, 0.5, MASK, 0.9, "reject", title="a")
    width = tile_size(40, 60)[0]
    assert pixels.shape == (plain.shape[0], plain.shape[1] + width + 20, 3)
    outline = (pixels == GROUND_TRUTH_COLOUR).all(axis=2)
    columns = np.nonzero(outline.any(axis=0))[0]
    assert outline.sum() > 300 and 40 + width <= columns.min() and columns.max() < 40 + 2 * width
    good = np.asarray(Image.open(tmp_path / "out" / "good_worst.png"))
    assert not (good == GROUND_TRUTH_COLOUR).all(axis=2).any()


def test_overview_has_a_row_for_each_place_and_the_worst_good_photograph(tmp_path: Path) -> None:
    defects = [judged(tmp_path, "dent", i, 0.9, iou=i / 10) for i in range(4)]
    good = [judged(tmp_path, GOOD, i, score) for i, score in enumerate([0.2, 0.7])]

    def drawn(photographs: list[JudgedPhotograph], threshold: float = 0.5) -> np.ndarray:
        write_overview(tmp_path / "overview.png", photographs, threshold, "a model on a part " * 20)
        return np.asarray(Image.open(tmp_path / "overview.png"))

    four = drawn([*good, *defects])
    assert np.array_equal(four, drawn([*defects, *good]))
    alone = drawn([good[1], *defects])  # the other good one is not the worst: only the label changes
    assert np.array_equal(four[:, 290:], alone[:, 290:]) and not np.array_equal(four, alone)
    two = drawn([*good, defects[0]])
    assert four.shape[1] == two.shape[1] and four.shape[0] > two.shape[0] + 300
    assert (four[:60, -20:] == 255).all()  # the title stays inside
    alarm = np.array((190, 62, 10))
    assert (four[:, :290] == alarm).all(axis=2).any()  # the good one is a false alarm
    assert not (drawn([*good, *defects], 0.8)[:, :290] == alarm).all(axis=2).any()
    assert (drawn([*good, *defects], 0.95)[:, :290] == alarm).all(axis=2).sum() > 1000  # missed


def test_without_masks_photographs_are_ranked_by_score_and_have_no_overlap(tmp_path: Path) -> None:
    test = TestSet([tmp_path / "good" / "0.png"], [tmp_path / "dent" / f"{i}.png" for i in range(3)], [])
    scores, maps = [0.1, 0.7, 0.4, 0.9], [np.full((40, 60), 0.5, np.float32)] * 4
    nothing = [np.zeros((40, 60), bool)] * 4
    evaluation = Evaluation(
        {"aggregation": MapFigures()}, scores[:1], scores[1:], 1.0, scores, [0, 1, 1, 1], maps, nothing, has_masks=False
    )
    found = judged_photographs(test, evaluation, 0.5)
    assert all(photograph.truth is None and photograph.iou is None for photograph in found)
    assert [photograph.score for photograph in ranked(found[1:])] == [0.4, 0.7, 0.9]  # the one that is missed first


def test_unusual_photographs_stand_one_below_the_other_the_first_few_of_them(tiny_model: STLM, tmp_path: Path) -> None:
    photographs = write_photographs(tmp_path / "parts", MOST_UNUSUAL + 2)
    judged = [(path.name, tiny_model.predict(path)) for path in photographs]
    heights = [prediction.panel(name).shape[0] for name, prediction in judged]
    for n in (1, 2, len(photographs)):
        path = write_unusual(tmp_path / "unusual.png", judged[:n])
        with Image.open(path) as sheet:
            assert sheet.height == sum(heights[: min(n, MOST_UNUSUAL)])
            first = judged[0][1].panel(judged[0][0])
            assert np.array_equal(np.asarray(sheet)[: heights[0], : first.shape[1]], first)


def test_the_outline_of_the_ground_truth_has_a_colour_of_its_own() -> None:
    image = np.full((40, 60, 3), 120, np.uint8)
    found, truth = draw_contour(image, MASK), draw_contour(image, MASK, GROUND_TRUTH_COLOUR)
    differs = (found != truth).any(axis=2)
    assert (truth[differs] == GROUND_TRUTH_COLOUR).all() and differs.any()
    assert np.array_equal(truth[~differs], found[~differs])
