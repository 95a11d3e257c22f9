"""Pictures of a test set that show where a model is weak: worst, median and best photograph of each kind, an overview.

An anomalous photograph is ranked by the overlap (intersection over union) of the model's mask with the ground truth.
The worst has the lowest overlap; a missed defect has 0. Average precision would not do: it only depends on the order of
the values within a photograph, so a defect far below the threshold could rank best. A good photograph is ranked by its
anomaly score; the worst has the highest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..drawing.heatmap import distinct
from ..drawing.panel import (
    BADGES,
    INK,
    MARGIN,
    PALE_INK,
    PAPER,
    ascii_text,
    draw_scale,
    font,
    panel,
    shortened,
    tiles,
)
from ..predict.images import read_picture
from ..predict.prediction import VERDICTS, Prediction, found_mask
from .evaluate import Evaluation, TestSet

GOOD = "good"
"""The kind of photographs without a defect."""

MOST_UNUSUAL = 6
"""Photographs in the picture of unusual ones."""

_TILE_AREA, _TILE_MAX_SIDE = 300 * 300, 450  # px, tiles of the overview
_LABELS = 250  # px, width of the overview's first column


@dataclass(frozen=True, eq=False)
class JudgedPhotograph:
    """A test photograph with the model's judgement and the ground truth.

    Args:
        path: file of the photograph.
        kind: kind of defect, which is the name of the photograph's folder, or `GOOD`.
        score: anomaly score in [0, 1].
        anomaly_map: HxW float32 in [0, 1].
        truth: ground-truth mask, HxW bool, True where the defect is; None: there is none.
        iou: overlap of the model's mask with the ground truth, in [0, 1]; None for a good photograph and for one whose
            ground truth marks nothing.
        bits: that it was read with, see `read_picture`.
    """

    path: Path
    kind: str
    score: float
    anomaly_map: np.ndarray
    truth: np.ndarray | None
    iou: float | None
    bits: int | None = None

    @property
    def name(self) -> str:
        """Folder and file name, e.g. crack/000.png."""
        return f"{self.path.parent.name}/{self.path.name}"

    def is_correct(self, threshold: float) -> bool:
        """Whether the verdict at this threshold is right."""
        return (self.score >= threshold) == (self.kind != GOOD)

    def rank_text(self) -> str:
        """The figure by which the photograph is ranked, in words."""
        return f"anomaly score {self.score:.3g}" if self.iou is None else f"overlap (IoU) {100 * self.iou:.1f} %"


@dataclass(frozen=True, eq=False)
class Picture:
    """A panel that was written.

    Args:
        path: PNG file of the panel.
        place: "worst", "median", "best" or "only": the photograph's place among those of its kind.
        n: number of ranked photographs of its kind.
        judged: the photograph.
    """

    path: Path
    place: str
    n: int
    judged: JudgedPhotograph


def judged_photographs(test: TestSet, evaluation: Evaluation, threshold: float) -> list[JudgedPhotograph]:
    """The photographs of an evaluated test set in its order: good ones, then anomalous ones."""
    kinds = [GOOD] * len(test.good) + [path.parent.name for path in test.anomalous]
    return [
        JudgedPhotograph(
            path,
            kind,
            score,
            anomaly_map,
            truth if evaluation.has_masks else None,
            _overlap(score, anomaly_map, truth, threshold) if label and evaluation.has_masks else None,
            evaluation.bits,
        )
        for path, kind, score, anomaly_map, truth, label in zip(
            test.photographs,
            kinds,
            evaluation.scores,
            evaluation.maps,
            evaluation.masks,
            evaluation.labels,
            strict=True,
        )
    ]


def ranked(photographs: Sequence[JudgedPhotograph]) -> list[JudgedPhotograph]:
    """Ranks photographs from worst to best.

    If there are good photographs, only these are ranked. Anomalous ones whose ground truth marks nothing are left out;
    without any masks they are ranked by the score. Of two equal overlaps the one with the lower score is worse.
    """
    good = [judged for judged in photographs if judged.kind == GOOD]
    if good:
        return sorted(good, key=lambda judged: (-judged.score, judged.name))
    if all(judged.truth is None for judged in photographs):
        return sorted(photographs, key=lambda judged: (judged.score, judged.name))
    return [
        judged
        for _, _, judged in sorted(
            ((judged.iou, (judged.score, judged.name), judged) for judged in photographs if judged.iou is not None),
            key=lambda found: found[:2],
        )
    ]


def choose(photographs: Sequence[JudgedPhotograph]) -> dict[str, JudgedPhotograph]:
    """Worst, median and best photograph of one kind, by place. No photograph has two places.

    Two photographs have no median, and a single one has the place "only". Of an even number, the median is the worse
    one of the two in the middle.
    """
    order = ranked(photographs)
    if len(order) == 1:
        return {"only": order[0]}
    places = {"worst": 0, "median": (len(order) - 1) // 2, "best": len(order) - 1}
    return {place: order[index] for place, index in places.items() if order and (place != "median" or len(order) > 2)}


def write_panels(folder: Path, photographs: Sequence[JudgedPhotograph], threshold: float) -> list[Picture]:
    """Writes panels `<kind>_<worst|median|best|only>.png` for each kind of photograph. Good ones come last."""
    written = []
    for kind in sorted({judged.kind for judged in photographs}, key=lambda kind: (kind == GOOD, kind)):
        same = [judged for judged in photographs if judged.kind == kind]
        n = len(ranked(same))
        for place, judged in choose(same).items():
            prediction = _prediction(judged, threshold)
            among = "the only one," if place == "only" else f"{place} of {n} by its"
            pixels = panel(
                prediction.image,
                prediction.anomaly_map,
                threshold,
                prediction.mask,
                prediction.score,
                prediction.verdict,
                title=f"{judged.name}: {among} {judged.rank_text()}",
                truth=judged.truth,
            )
            path = folder / f"{kind}_{place}.png"
            Image.fromarray(pixels).save(path)
            written.append(Picture(path, place, n, judged))
    return written


def write_unusual(path: Path, predictions: Iterable[tuple[str, Prediction]]) -> Path:
    """Writes one picture of photographs that score unusually high: the panels of the first `MOST_UNUSUAL`.

    Args:
        path: PNG file to write.
        predictions: name of each photograph and what it was judged, the most unusual first; at least one.
    """
    panels = [Image.fromarray(prediction.panel(name)) for name, prediction in islice(predictions, MOST_UNUSUAL)]
    sheet = Image.new("RGB", (max(panel.width for panel in panels), sum(panel.height for panel in panels)), PAPER)
    top = 0
    for one in panels:
        sheet.paste(one, (0, top))
        top += one.height
    sheet.save(path)
    return path


def write_overview(path: Path, photographs: Sequence[JudgedPhotograph], threshold: float, title: str) -> None:
    """Writes one picture: worst, median and best of all anomalous photographs, and the good one with the highest score.

    Args:
        path: PNG file to write.
        photographs: of all kinds.
        threshold: the model's threshold, in [0, 1].
        title: printed at the top; shortened where it is too long.
    """
    anomalous = [judged for judged in photographs if judged.kind != GOOD]
    good = ranked([judged for judged in photographs if judged.kind == GOOD])
    count = len(ranked(anomalous))
    rows = [
        (f"{place.capitalize()} of {count}" if count > 1 else "The only defect", judged)
        for place, judged in choose(anomalous).items()
    ]
    rows += [(f"Worst of {len(good)} good", judged) for judged in good[:1]]
    drawn = [(label, judged, _tiles(judged, threshold)) for label, judged in rows]
    cell = max(200, *(tile.shape[1] for _, _, row in drawn for tile in row))
    heights = [max(150, *(tile.shape[0] for tile in row)) for _, _, row in drawn]
    inner = _LABELS + 4 * (cell + MARGIN)
    header, footer = 104, 76
    canvas = Image.new("RGB", (inner + 2 * MARGIN, header + sum(heights) + MARGIN * len(rows) + footer), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN, 16), shortened(ascii_text(title), 22, inner), INK, font(22))
    rule = "With a defect: ranked by overlap (IoU) of found and true mask. Good: by anomaly score, highest is worst."
    draw.text((MARGIN, 46), shortened(rule, 16, inner), PALE_INK, font(16))
    for column, caption in enumerate(("Photograph", "True defect", "Anomaly map", "Found")):
        centre = MARGIN + _LABELS + column * (cell + MARGIN) + MARGIN + cell / 2
        draw.text((centre, 78), caption, PALE_INK, font(16), anchor="ma")
    top = header
    for (label, judged, row), height in zip(drawn, heights, strict=True):
        _write_label(draw, top, label, judged, threshold)
        for column, tile in enumerate(row):
            left = MARGIN + _LABELS + column * (cell + MARGIN) + MARGIN + (cell - tile.shape[1]) // 2
            canvas.paste(Image.fromarray(tile), (left, top))
        top += height + MARGIN
    draw_scale(canvas, draw, top, inner, threshold)
    canvas.save(path)


def _write_label(draw: ImageDraw.ImageDraw, top: int, label: str, judged: JudgedPhotograph, threshold: float) -> None:
    score, shown_threshold = distinct([judged.score, threshold])
    if judged.is_correct(threshold):
        word, _ = VERDICTS["reject" if judged.kind != GOOD else "pass"]
        verdict, colour = f"{word}: right", BADGES["pass"]
    else:
        verdict, colour = "MISSED" if judged.kind != GOOD else "FALSE ALARM", BADGES["reject"]
    draw.text((MARGIN, top), label, INK, font(24))
    draw.text((MARGIN, top + 34), shortened(ascii_text(judged.name), 16, _LABELS), PALE_INK, font(16))
    if judged.iou is not None:
        draw.text((MARGIN, top + 60), judged.rank_text(), INK, font(18))
        top += 30
    right = MARGIN + font(18).getlength(verdict) + 24
    draw.rounded_rectangle((MARGIN, top + 62, right, top + 92), 7, colour)
    draw.text((MARGIN + 12, top + 77), verdict, PAPER, font(18), anchor="lm")
    draw.text((MARGIN, top + 100), f"score {score}, threshold {shown_threshold}", INK, font(16))


def _tiles(judged: JudgedPhotograph, threshold: float) -> list[np.ndarray]:
    prediction = _prediction(judged, threshold)
    made = tiles(
        prediction.image,
        prediction.anomaly_map,
        threshold,
        prediction.mask,
        judged.truth,
        area=_TILE_AREA,
        max_side=_TILE_MAX_SIDE,
    )
    return list(made.values())


def _overlap(score: float, anomaly_map: np.ndarray, truth: np.ndarray, threshold: float) -> float | None:
    found = found_mask(anomaly_map, score, threshold)
    return float((found & truth).sum() / (found | truth).sum()) if truth.any() else None


def _prediction(judged: JudgedPhotograph, threshold: float) -> Prediction:
    """The prediction for a photograph. It is read again, since an evaluation keeps maps only."""
    return Prediction(read_picture(judged.path, bits=judged.bits).image, judged.anomaly_map, judged.score, threshold)
