"""How a model does on each kind of defect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sklearn.metrics import roc_auc_score

from .metrics import average_precision
from .pictures import GOOD, JudgedPhotograph


@dataclass(frozen=True)
class KindFigures:
    """How the model does on the `n` photographs of one kind of defect.

    Args:
        i_auroc: of these photographs against all good ones.
        missed: number of those whose score stays below the threshold.
        ap: average precision of the pixels of these photographs; None where their masks mark nothing.
    """

    kind: str
    n: int
    i_auroc: float
    missed: int
    ap: float | None


def kind_figures(judged: Sequence[JudgedPhotograph], threshold: float) -> list[KindFigures]:
    """A row for each kind of defect, by name."""
    good = [photograph.score for photograph in judged if photograph.kind == GOOD]
    rows = []
    for kind in sorted({photograph.kind for photograph in judged} - {GOOD}):
        same = [photograph for photograph in judged if photograph.kind == kind]
        scores = [photograph.score for photograph in same]
        rows.append(
            KindFigures(
                kind=kind,
                n=len(same),
                i_auroc=float(roc_auc_score([0] * len(good) + [1] * len(scores), good + scores)),
                missed=sum(score < threshold for score in scores),
                ap=_pixel_precision(same),
            )
        )
    return rows


def _pixel_precision(photographs: Sequence[JudgedPhotograph]) -> float | None:
    masks = [photograph.truth for photograph in photographs if photograph.truth is not None]
    if len(masks) < len(photographs):
        return None
    return average_precision([photograph.anomaly_map for photograph in photographs], masks)
