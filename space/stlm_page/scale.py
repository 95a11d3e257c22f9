"""The scale under a verdict, as SVG: where normal parts lie, the threshold, this photograph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from stlm_hub.drawing.log_odds import log_odds

WIDTH, HEIGHT = 400, 152  # units of the drawing; the page scales it to the column
_LEFT, _RIGHT, _TOP, _BASE = 12, WIDTH - 12, 44, 112
_BINS = 24
_TICKS = (0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)


def score_scale(normal_scores: Sequence[float], threshold: float, score: float | None = None) -> str:
    """A drawing of the scores of normal parts as a histogram, with the threshold and one score as lines.

    The axis is in log-odds and labelled with probabilities: there a sample of normal parts is a hill, wherever it lies.

    Args:
        normal_scores: anomaly scores in [0, 1]; may be empty.
        threshold: in [0, 1].
        score: of the photograph that is judged, in [0, 1]; None draws the scale alone.

    Returns:
        An `<svg>` element with a text alternative.
    """
    marks = [threshold] if score is None else [threshold, score]
    odds = [float(log_odds(value)) for value in (*normal_scores, *marks)]
    low, high = min(odds) - 0.6, max(odds) + 0.6
    middle = float(log_odds(threshold))
    low, high = min(low, middle - 2.0), max(high, middle + 2.0)

    def x(value: float) -> float:
        return _LEFT + (float(log_odds(value)) - low) / (high - low) * (_RIGHT - _LEFT)

    parts = [
        f'<rect class="below" x="{_LEFT}" y="{_BASE}" width="{x(threshold) - _LEFT:.1f}" height="6"/>',
        f'<rect class="above" x="{x(threshold):.1f}" y="{_BASE}" width="{_RIGHT - x(threshold):.1f}" height="6"/>',
        *_bars(normal_scores, low, high),
        *_ticks(low, high, x),
        f'<line class="threshold" x1="{x(threshold):.1f}" x2="{x(threshold):.1f}" y1="36" y2="{_BASE + 6}"/>',
        _label(x(threshold), 31, f"threshold {threshold:.3g}", "threshold-text"),
    ]
    if score is not None:
        at = x(score)
        parts += [
            f'<line class="score" x1="{at:.1f}" x2="{at:.1f}" y1="18" y2="{_BASE - 2}"/>',
            f'<path class="score-head" d="M{at - 6:.1f} {_BASE - 10} h12 L{at:.1f} {_BASE} z"/>',
            _label(at, 13, f"this photograph {score:.3g}", "score-text"),
        ]
    return (
        f'<svg class="score-scale" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(_in_words(normal_scores, threshold, score))}">{"".join(parts)}</svg>'
    )


def _in_words(normal_scores: Sequence[float], threshold: float, score: float | None) -> str:
    normal = (
        f"{len(normal_scores)} normal parts lie from {min(normal_scores):.3g} to {max(normal_scores):.3g}. "
        if normal_scores
        else "Where normal parts lie is not known. "
    )
    this = f" This photograph is at {score:.3g}." if score is not None else ""
    return f"Scale of the anomaly score. {normal}The threshold is at {threshold:.3g}.{this}"


def _bars(normal_scores: Sequence[float], low: float, high: float) -> list[str]:
    if not normal_scores:
        return []
    counts, _ = np.histogram(log_odds(np.asarray(normal_scores)), bins=_BINS, range=(low, high))
    width = (_RIGHT - _LEFT) / _BINS
    bars = []
    for i, count in enumerate(counts):
        if count:
            height = (_BASE - _TOP - 4) * count / counts.max()
            left = _LEFT + i * width
            bars.append(
                f'<rect class="bar" x="{left + 0.5:.1f}" y="{_BASE - height:.1f}" '
                f'width="{width - 1:.1f}" height="{height:.1f}"/>'
            )
    return bars


def _ticks(low: float, high: float, x: Callable[[float], float]) -> list[str]:
    marks = []
    for value in _TICKS:
        if low <= float(log_odds(value)) <= high:
            at = x(value)
            marks.append(f'<line class="tick" x1="{at:.1f}" x2="{at:.1f}" y1="{_BASE + 6}" y2="{_BASE + 11}"/>')
            marks.append(_label(at, _BASE + 23, f"{value:g}", "tick-text"))
    marks.append(f'<text class="tick-text" x="{_LEFT}" y="{HEIGHT - 2}">normal</text>')
    marks.append(f'<text class="tick-text" x="{_RIGHT}" y="{HEIGHT - 2}" text-anchor="end">anomalous</text>')
    return marks


def _label(at: float, y: float, text: str, kind: str) -> str:
    """Text centred on a place of the axis, moved inwards where it would leave the drawing."""
    reach = 3.7 * len(text)
    at = min(max(at, 2 + reach), WIDTH - 2 - reach)
    return f'<text class="{kind}" x="{at:.1f}" y="{y}" text-anchor="middle">{escape(text)}</text>'
