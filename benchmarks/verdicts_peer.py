"""Conformal p-values by nonconform, a package that judges scores as `conformal` in verdicts.py does: an oracle for it.

nonconform wants Python 3.12, so it has an environment of its own, and this file is run by its Python:

    python3.12 -m venv .venv-nonconform && .venv-nonconform/bin/pip install nonconform
    python benchmarks/verdicts.py --data DIR --output FILE --nonconform .venv-nonconform/bin/python
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np


def rejected_by_nonconform(python: Path, normal: np.ndarray, scores: np.ndarray, rate: float) -> np.ndarray:
    """Which of n scores nonconform calls anomalous: n bool.

    Args:
        python: of the environment that has nonconform.
        normal: scores of good photographs.
        scores: of the photographs to judge.
        rate: the false-alarm rate, or what the number of good photographs carries where that is more.
    """
    question = json.dumps([normal.tolist(), scores.tolist()])
    answer = subprocess.run([str(python), __file__], input=question, capture_output=True, text=True, check=True)
    lowest = max(rate, 1 / (len(normal) + 1))
    found: np.ndarray = np.array(json.loads(answer.stdout)) <= lowest + 1e-9
    return found


if __name__ == "__main__":
    from nonconform.scoring import Empirical  # type: ignore[import-not-found]

    calibration, asked = map(np.array, json.load(sys.stdin))
    print(json.dumps(Empirical().compute_p_values(asked, calibration).tolist()))
