"""Probabilities -> log-odds: the scale on which scores are compared, drawn and extrapolated."""

from __future__ import annotations

import numpy as np

EDGE = 1e-6
"""Probabilities are cut to [EDGE, 1 - EDGE] unless said otherwise, so 0 and 1 are finite, too."""


def log_odds(probability: np.ndarray | float, lowest: float = EDGE, highest: float = 1 - EDGE) -> np.ndarray:
    """log(p / (1 - p)) of the same floating type, p cut to [lowest, highest]."""
    inside = np.clip(probability, lowest, highest)
    logits: np.ndarray = np.log(inside / (1 - inside))
    return logits
