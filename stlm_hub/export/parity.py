"""Does an export say what the model in PyTorch says? The gate that an export passes, or is not written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

import cv2
import numpy as np

from ..errors import ConfigError
from ..evaluation.metrics import compute_metrics
from ..models.stlm.judging import Judging
from ..predict.frame import resize_image
from ..predict.prediction import Prediction
from ..predict.verdicts import Inferred, judge_all
from ..pseudo_anomalies.probes import probe
from ..runtime.facts import Parity
from ..wording import number_of, percent

LARGEST_DIFFERENCE = 1e-3
"""Of a map value in fp32; values lie in [0, 1]."""
LARGEST_LOSS = 0.005
"""Of I-AUROC and AUPRO in bf16 and int8."""
TIE = 1e-5
"""A score this near to a threshold lies on it: the calibrated one is the score of a photograph."""
DRAWN = 12
"""Photographs that are drawn where none of the part are given."""
MOST = 60
"""Photographs that are looked at; more only take longer."""

Judge = Callable[[np.ndarray], Inferred]
"""A photograph at the network's size, HxWx3 uint8 RGB -> what a model sees of it."""


@dataclass
class _Side:
    """What one of the two says of all photographs."""

    judge: Judge
    seconds: list[float] = field(default_factory=list)
    inferred: list[Inferred] = field(default_factory=list)

    def look(self, image: np.ndarray) -> None:
        started = time.perf_counter()
        self.inferred.append(self.judge(image))
        self.seconds.append(time.perf_counter() - started)


def compare(
    torch_judge: Judge,
    judge: Judge,
    photographs: Sequence[np.ndarray],
    judging: Judging,
    *,
    drawn: bool,
    seed: int = 0,
    on_image: Callable[[int, int], None] | None = None,
) -> Parity:
    """Judges each photograph and a pseudo anomaly on it, twice.

    Args:
        torch_judge, judge: the model in PyTorch, and the export.
        photographs: good ones, HxWx3 uint8 RGB at the network's size, at least one.
        judging: the model's `Judging`.
        drawn: whether the photographs are none of the part.
        seed: decides the pseudo anomalies.
        on_image: called with (done, total) after each photograph.
    """
    reference, other = _Side(torch_judge), _Side(judge)
    rng = np.random.default_rng(seed)
    images, masks = [], []
    for damaged in (False, True):
        for photograph in photographs:
            image, mask = probe(photograph, rng) if damaged else (photograph, np.zeros(photograph.shape[:2], np.uint8))
            images.append(image)
            masks.append(mask > 0)
    for done, image in enumerate(images, start=1):
        reference.look(image)
        other.look(image)
        if on_image:
            on_image(done, len(images))
    labels = [int(mask.any()) for mask in masks]
    name = judging.judge_by
    figures = [
        compute_metrics(
            [seen.maps[name].score for seen in side.inferred],
            labels,
            [seen.maps[name].anomaly_map for seen in side.inferred],
            masks,
            threshold=None,
        )
        for side in (reference, other)
    ]
    pairs = [
        (first.maps[shown], second.maps[shown])
        for first, second in zip(reference.inferred, other.inferred, strict=True)
        for shown in judging.shown
    ]
    said = [judge_all(judging, images, side.inferred, images[0].shape[:2]) for side in (reference, other)]
    return Parity(
        photographs=len(photographs),
        anomalies=sum(labels),
        drawn=drawn,
        map_difference=max(float(np.abs(a.anomaly_map - b.anomaly_map).max()) for a, b in pairs),
        score_difference=max(abs(a.score - b.score) for a, b in pairs),
        changed_verdicts=sum(_differ(a, b) for a, b in zip(*said, strict=True)),
        torch_image_auroc=figures[0].i_auroc or 0.0,
        image_auroc=figures[1].i_auroc or 0.0,
        torch_aupro=figures[0].aupro or 0.0,
        aupro=figures[1].aupro or 0.0,
        seconds=median(other.seconds),
        torch_seconds=median(reference.seconds),
    )


def check(parity: Parity, precision: str) -> None:
    """The gate.

    Raises:
        ConfigError: the export is too far from the model; the message holds the figures.
    """
    wrong = []
    if precision == "fp32":
        if parity.map_difference > LARGEST_DIFFERENCE:
            wrong.append(f"a map differs by {parity.map_difference:.2g}, over {LARGEST_DIFFERENCE:g}")
        if parity.changed_verdicts:
            total = parity.photographs + parity.anomalies
            wrong.append(f"another verdict for {parity.changed_verdicts} of {number_of(total, 'photograph')}")
    else:
        for name, ours, theirs in (
            ("I-AUROC", parity.image_auroc, parity.torch_image_auroc),
            ("AUPRO", parity.aupro, parity.torch_aupro),
        ):
            if theirs - ours > LARGEST_LOSS:
                wrong.append(
                    f"{name} falls from {100 * theirs:.1f} to {100 * ours:.1f} %, more than {percent(LARGEST_LOSS)}"
                )
    if wrong:
        raise ConfigError(
            f"The export in {precision} does not say what the model says: {'; '.join(wrong)}. Nothing was written; "
            "export it in fp32, or give more photographs of good parts."
        )


def drawn_photographs(size: tuple[int, int], n: int = DRAWN, seed: int = 0) -> Iterator[np.ndarray]:
    """HxWx3 uint8 RGB pictures of blobs and grain: enough to compare numbers, none of the part."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        coarse = rng.integers(60, 200, (7, 7, 3)).astype(np.uint8)
        smooth = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC).astype(np.float32)
        yield (smooth + rng.normal(0, 6, (*size, 1))).clip(0, 255).astype(np.uint8)


def at_network_size(images: Sequence[np.ndarray], size: tuple[int, int]) -> list[np.ndarray]:
    """Photographs of any size -> HxWx3 of `size`."""
    return [resize_image(image, size) for image in images]


def _differ(first: Prediction, second: Prediction) -> bool:
    """Whether two verdicts differ, but for a score or a distance that lies on a limit."""
    if first.verdict == second.verdict:
        return False
    on_limit = abs(first.unfamiliarity - 1) < TIE
    for limit in (first.threshold, first.review_threshold):
        on_limit |= limit is not None and abs(first.score - limit) < TIE
    return not on_limit
