"""Figures of one kind of defect."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from stlm_hub.evaluation.kind_figures import kind_figures
from stlm_hub.evaluation.pictures import GOOD, JudgedPhotograph


def test_figures_of_a_kind_are_against_all_good_photographs() -> None:
    mask = np.array([[True, False], [False, False]])
    quiet = np.zeros((2, 2), bool)

    def judged(kind: str, score: float, corner: float) -> JudgedPhotograph:
        anomaly_map = np.array([[corner, 0.5], [0.1, 0.1]], np.float32)
        return JudgedPhotograph(Path(kind) / "0.png", kind, score, anomaly_map, quiet if kind == GOOD else mask, None)

    photographs = [judged(GOOD, 0.1, 0), judged(GOOD, 0.6, 0), judged("hole", 0.5, 0.9), judged("dent", 0.7, 0.9)]
    dent, hole = kind_figures([*photographs, judged("dent", 0.2, 0.3)], threshold=0.5)
    assert (dent.kind, dent.n, dent.missed) == ("dent", 2, 1)
    assert dent.i_auroc == pytest.approx(3 / 4)
    assert dent.ap == pytest.approx(0.5 + 0.5 * 2 / 4)
    assert asdict(hole) == {"kind": "hole", "n": 1, "i_auroc": 0.5, "missed": 0, "ap": 1.0}
