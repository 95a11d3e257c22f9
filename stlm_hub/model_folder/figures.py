"""How well a model does: figures, scores, time. Parts of `results.Results`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from .fields import STRICT, Count, Fraction, MapName, Text
from .provenance import Circumstances


@dataclass(frozen=True, config=STRICT)
class MapFigures:
    """Figures of one anomaly map on test photographs, as fractions; None where there is none.

    Args:
        i_auroc: area under the ROC of the anomaly scores; needs normal and anomalous images.
        p_auroc: area under the ROC of all pixels of all images.
        aupro: area under the per-region overlap curve up to a false-positive rate, over that rate (Bergmann et al., The
            MVTec Anomaly Detection Dataset, IJCV 2021).
        ap: average precision of the pixels, sum of (R_n - R_{n-1}) P_n as scikit-learn has it.
        f1_max: highest F1 of the pixels over all thresholds.
        fnr: miss rate, the share of anomalous images whose score stays below the map's own threshold, FN / (TP + FN)
            (arXiv 2402.19145, equation 9).
    """

    i_auroc: Fraction | None = None
    p_auroc: Fraction | None = None
    aupro: Fraction | None = None
    ap: Fraction | None = None
    f1_max: Fraction | None = None
    fnr: Fraction | None = None

    def to_dict(self) -> dict[str, float]:
        """The figures that are known."""
        return {name: value for name, value in vars(self).items() if value is not None and name in METRICS}


METRICS = {
    "i_auroc": ("Image-level AUROC", "roc_auc"),
    "p_auroc": ("Pixel-level AUROC", "roc_auc"),
    "aupro": ("AUPRO", "aupro"),
    "ap": ("Pixel-level AP", "average_precision"),
    "f1_max": ("Pixel-level F1-max", "f1"),
    "fnr": ("FNR at the threshold", "false_negative_rate"),
}
"""Fields of `MapFigures`: what people read, and the type in the Hub's model index."""

OF_PIXELS = ("p_auroc", "aupro", "ap", "f1_max")
"""Fields of `MapFigures` that are of pixels: of the map that is drawn, where another one judges."""


@dataclass(frozen=True, config=STRICT)
class PaperFigures(MapFigures):
    """The paper's figures for the category, and the setting that they were measured in."""

    image_size: Count | None = None
    teacher: Text = ""
    source: Text = ""


@dataclass(frozen=True, config=STRICT)
class TestScores:
    """Anomaly scores of the test photographs by the map that judges."""

    __test__ = False  # its name looks like a test case's to pytest

    good: tuple[Fraction, ...] = ()
    anomalous: tuple[Fraction, ...] = ()


@dataclass(frozen=True, config=STRICT)
class SeedFigures:
    """A training of the same recipe with another seed: its figures and when it was trained."""

    seed: Count
    made: Circumstances
    maps: dict[MapName, MapFigures]
    weights_sha256: Text = ""


@dataclass(frozen=True, config=STRICT)
class Latency:
    """Median time of one photograph through `predict`, decoded beforehand, in a batch of one."""

    milliseconds_per_image: Annotated[float, Field(ge=0)]
    threads: Count
    device: Text
    image_size: Count  # longer side of the frame in pixels
