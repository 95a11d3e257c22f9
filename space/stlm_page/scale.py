"""The scale under a verdict, as SVG: where normal parts and painted defects lie, the thresholds, this photograph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from stlm_hub.drawing.log_odds import log_odds

WIDTH, HEIGHT = 400, 152  # units of the drawing; the page scales it to the column
_LEFT, _RIGHT, _TOP, _BASE = 12, WIDTH - 12, 44, 112
_BINS = 24
_TICKS = (0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)


def score_scale(
    normal_scores: Sequence[float],
    threshold: float,
    score: float | None = None,
    *,
    probe_scores: Sequence[float] = (),
    review_threshold: float | None = None,
) -> str:
    """A drawing of the scores of normal parts and of painted defects, with the threshold and one score as lines.

    The axis is in log-odds and labelled with probabilities: there a sample of normal parts is a hill, wherever it lies.
    Bars are shares of their own sample, so both hills can be compared.

    Args:
        normal_scores: anomaly scores in [0, 1]; may be empty.
        threshold: in [0, 1].
        score: of the photograph that is judged, in [0, 1]; None draws the scale alone.
        probe_scores: of pseudo anomalies on normal parts, in [0, 1]; may be empty.
        review_threshold: in [0, `threshold`], where the band for review begins; None: there is no such band.

    Returns:
        An `<svg>` element with a text alternative.
    """
    review = threshold if review_threshold is None else min(review_threshold, threshold)
    marks = [review, threshold] if score is None else [review, threshold, score]
    odds = [float(log_odds(value)) for value in (*normal_scores, *probe_scores, *marks)]
    low, high = min(odds) - 0.6, max(odds) + 0.6
    middle = float(log_odds(threshold))
    low, high = min(low, middle - 2.0), max(high, middle + 2.0)

    def x(value: float) -> float:
        return _LEFT + (float(log_odds(value)) - low) / (high - low) * (_RIGHT - _LEFT)

    parts = [
        _band("below", _LEFT, x(review)),
        *([_band("review", x(review), x(threshold))] if review < threshold else []),
        _band("above", x(threshold), _RIGHT),
        *_bars({"bar": normal_scores, "bar probe": probe_scores}, low, high),
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
    words = escape(_in_words(normal_scores, probe_scores, review, threshold, score))
    return (
        f'<svg class="score-scale" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{words}">'
        f"{''.join(parts)}</svg>"
    )


def _in_words(
    normal_scores: Sequence[float],
    probe_scores: Sequence[float],
    review: float,
    threshold: float,
    score: float | None,
) -> str:
    normal = (
        f"{len(normal_scores)} normal parts lie from {min(normal_scores):.3g} to {max(normal_scores):.3g}. "
        if normal_scores
        else "Where normal parts lie is not known. "
    )
    painted = (
        f"{len(probe_scores)} painted defects lie from {min(probe_scores):.3g} to {max(probe_scores):.3g}. "
        if probe_scores
        else ""
    )
    reviewed = f" Scores from {review:.3g} to it are for review." if review < threshold else ""
    this = f" This photograph is at {score:.3g}." if score is not None else ""
    return f"Scale of the anomaly score. {normal}{painted}The threshold is at {threshold:.3g}.{reviewed}{this}"


def _band(kind: str, start: float, end: float) -> str:
    """A part of the axis between two places on it."""
    return f'<rect class="{kind}" x="{start:.1f}" y="{_BASE}" width="{max(0.0, end - start):.1f}" height="6"/>'


def _bars(samples: dict[str, Sequence[float]], low: float, high: float) -> list[str]:
    """Histograms of samples, by their class; the highest bar of all fills the height."""
    shares = {
        kind: np.histogram(log_odds(np.asarray(scores)), bins=_BINS, range=(low, high))[0] / len(scores)
        for kind, scores in samples.items()
        if scores
    }
    highest = max((share.max() for share in shares.values()), default=1.0)
    width = (_RIGHT - _LEFT) / _BINS
    bars = []
    for kind, of_sample in shares.items():
        for i, share in enumerate(of_sample):
            if share:
                height = (_BASE - _TOP - 4) * share / highest
                left = _LEFT + i * width
                bars.append(
                    f'<rect class="{kind}" x="{left + 0.5:.1f}" y="{_BASE - height:.1f}" '
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
