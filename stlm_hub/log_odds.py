"""Probabilities -> log-odds: the scale on which scores are compared, drawn and extrapolated."""

from __future__ import annotations

import numpy as np


def log_odds(probability: np.ndarray | float, lowest: float = 1e-6, highest: float = 1 - 1e-6) -> np.ndarray:
    """log(p / (1 - p)) of the same floating type; p is cut to [lowest, highest], so 0 and 1 are finite, too."""
    inside = np.clip(probability, lowest, highest)
    return np.log(inside / (1 - inside))
