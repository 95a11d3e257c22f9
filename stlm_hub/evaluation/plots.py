"""Plots for a model card: anomaly scores, curves and losses. PNG files, 800 px wide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator
from sklearn.metrics import auc

from ..drawing.log_odds import log_odds
from ..models.stlm.judging import Judging

LOSSES = ("denoising", "plain", "focal", "l1")
"""Losses of a training that are drawn, by their names in its log."""

WIDTH = 8.0  # inches
DPI = 100

# Okabe and Ito's colours, which people with any colour vision can tell apart.
BLUE, GREEN, ORANGE, VERMILION, PURPLE = "#0072B2", "#009E73", "#E69F00", "#D55E00", "#AA4499"
INK, GRID = "#333333", "#E6E6E6"

_TICKS = (1e-6, 1e-4, 1e-3, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.999999)
_MIN_SPAN = 5.0  # log-odds; the axis is never shorter, so that it always shows a tick
_BINS = 50


def plot_score_histogram(
    path: str | Path,
    judging: Judging,
    good_scores: Sequence[float] | None = None,
    anomalous_scores: Sequence[float] | None = None,
) -> None:
    """Draws histograms of the anomaly scores, one row for each kind of photograph, and both thresholds.

    Its words are those of an inspector: good parts are normal photographs, worse light is that of disturbed copies of
    them, painted defects are pseudo anomalies. The axis shows log-odds, since scores crowd at 0 and 1. Scores below
    1e-6 or above 1 - 1e-6 are drawn at these ends.

    Args:
        path: PNG file to write.
        judging: thresholds of the model, and the scores behind them.
        good_scores: scores of the normal test photographs; None or empty without any.
        anomalous_scores: scores of the anomalous test photographs; None or empty without any.
    """
    kinds = (
        ("Good parts", judging.normal_scores, BLUE),
        ("Good parts in worse light", judging.disturbed_scores, BLUE),
        ("Painted defects", judging.probe_scores, ORANGE),
        ("Good test parts", good_scores, GREEN),
        ("Test defects", anomalous_scores, VERMILION),
    )
    threshold, review = judging.threshold, judging.review_threshold
    rows = [(name, np.asarray(scores), colour) for name, scores, colour in kinds if scores]
    cut = log_odds(np.array([threshold]))
    everything = np.concatenate([cut, *(log_odds(scores) for _, scores, _ in rows)])
    span = np.ptp(everything)
    margin = max(0.04 * span, (_MIN_SPAN - span) / 2)
    low, high = everything.min() - margin, everything.max() + margin
    width = (high - low) / _BINS
    # The threshold is an edge of a bar, so that no bar lies on both sides of it.
    edges = cut[0] + width * np.arange(np.floor((low - cut[0]) / width), np.ceil((high - cut[0]) / width) + 1)
    figure = Figure(figsize=(WIDTH, 0.9 + 1.25 * len(rows)), dpi=DPI, layout="constrained")
    panels = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, scores, colour) in zip(panels, rows, strict=True):
        _style(axes)
        axes.margins(y=0.3)
        # Scores that are drawn at an end of the axis must stay on their side of the threshold.
        odds = log_odds(scores)
        odds = np.where(scores < threshold, np.minimum(odds, np.nextafter(cut, -np.inf)), odds)
        axes.hist(odds, edges, color=colour, edgecolor="white", linewidth=0.5)
        axes.axvline(cut[0], color=INK, linewidth=1.5, linestyle="--")
        if review < threshold:
            axes.axvspan(log_odds(np.array([review]))[0], cut[0], color=INK, alpha=0.12, linewidth=0)
        reached = np.count_nonzero(scores >= threshold)
        title = f"{name}: {reached} of {len(scores)} at or above the threshold"
        axes.set_title(title, loc="left", fontsize=10, color=INK)
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.set_ylabel("photographs")
    on_left = cut[0] > (low + high) / 2  # the side of the line with more room for the text
    panels[0].annotate(
        _threshold_words(threshold, review),
        (cut[0], 1),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if on_left else 5, -3),
        textcoords="offset points",
        ha="right" if on_left else "left",
        va="top",
        color=INK,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8},
    )
    inside = [(p, x) for p, x in zip(_TICKS, log_odds(np.array(_TICKS)), strict=True) if low <= x <= high]
    panels[-1].set_xlim(low, high)
    panels[-1].xaxis.set_major_locator(FixedLocator([x for _, x in inside]))
    panels[-1].xaxis.set_major_formatter(FixedFormatter([_tick_label(p) for p, _ in inside]))
    panels[-1].set_xlabel("anomaly score (axis stretched towards 0 and 1)")
    figure.savefig(path)


def plot_curves(path: str | Path, curves: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Draws three curves with the areas under them: ROC of the images, ROC of the pixels, per-region overlap.

    Args:
        path: PNG file to write.
        curves: "image_roc" and "pixel_roc" as `metrics.roc_points` returns them, "pro" as `metrics.pro_points` does. A
            curve that is missing or without points is labelled "not defined".
    """
    figure = Figure(figsize=(WIDTH, 3.1), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, 3)
    for axes, (key, y_key, title, y_label, name, colour) in zip(
        panels,
        (
            ("image_roc", "tpr", "Images: ROC", "true-positive rate", "I-AUROC", BLUE),
            ("pixel_roc", "tpr", "Pixels: ROC", "true-positive rate", "P-AUROC", GREEN),
            ("pro", "pro", "Regions: overlap", "per-region overlap", "AUPRO", VERMILION),
        ),
        strict=True,
    ):
        curve = curves.get(key, {})
        fpr, y = curve.get("fpr", ()), curve.get(y_key, ())
        _style(axes)
        axes.grid(True, axis="x", color=GRID, linewidth=0.8)
        limit = fpr[-1] if fpr else 1.0
        axes.set(xlim=(-0.02 * limit, 1.02 * limit), ylim=(-0.02, 1.02), xlabel="false-positive rate", ylabel=y_label)
        axes.set_title(title, loc="left", fontsize=10, color=INK)
        if not fpr:
            axes.text(0.5, 0.5, "not defined", ha="center", va="center", transform=axes.transAxes, color=INK)
            continue
        axes.plot(fpr, y, color=colour, linewidth=2, label=f"{name} {100 * auc(fpr, y) / limit:.1f} %")
        axes.fill_between(fpr, y, color=colour, alpha=0.12, linewidth=0)
        if key != "pro":
            axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=":")  # chance
        axes.legend(loc="lower right", frameon=True, framealpha=0.9, edgecolor="none", handlelength=1.2)
    figure.savefig(path)


def plot_losses(path: str | Path, steps: Sequence[int], losses: Mapping[str, Sequence[float]]) -> None:
    """Draws the losses of a training on a logarithmic axis: every value in a pale colour, and a smoothed line.

    Args:
        path: PNG file to write.
        steps: N step numbers, rising.
        losses: N values by name of the loss. Values that are 0, negative or NaN are left out.
    """
    figure = Figure(figsize=(WIDTH, 3.6), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    _style(axes)
    axes.set_yscale("log")
    for (name, values), colour in zip(losses.items(), (BLUE, GREEN, VERMILION, PURPLE, INK), strict=False):
        raw = np.asarray(values, dtype=np.float64)
        raw = np.where(raw > 0, raw, np.nan)
        smooth = _smoothed(raw)
        axes.plot(steps, raw, color=colour, linewidth=0.6, alpha=0.3)
        axes.plot(steps, smooth, color=colour, linewidth=2, label=name, marker="o" if len(raw) == 1 else "")
    axes.set(xlabel="step", ylabel="loss", xmargin=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    figure.legend(loc="outside upper left", ncols=5, frameon=False, handlelength=1.2)
    figure.savefig(path)


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Running geometric mean over a centred window, which is shorter at both ends. NaN values are left out."""
    reach = min(max(50, len(values) // 40), len(values) // 5) // 2
    known = np.isfinite(values)
    sums = np.append(0, np.cumsum(np.where(known, np.log(np.where(known, values, 1)), 0)))
    counts = np.append(0, np.cumsum(known))
    places = np.arange(len(values))
    start, stop = np.maximum(0, places - reach), np.minimum(len(values), places + reach + 1)
    with np.errstate(invalid="ignore"):
        means: np.ndarray = np.exp((sums[stop] - sums[start]) / (counts[stop] - counts[start]))
        return means


def _threshold_words(threshold: float, review: float) -> str:
    """What stands beside the line, with what the grey band before it means."""
    words = f"threshold {threshold:.3g}" if threshold < 0.999 else f"threshold 1 - {1 - threshold:.2g}"
    return f"{words}, grey: review" if review < threshold else words


def _tick_label(probability: float) -> str:
    """0.01, or a power of ten for probabilities near 0 and 1."""
    if 0.001 <= probability <= 0.999:
        return f"{probability:g}"
    if probability < 0.5:
        return f"$10^{{{round(np.log10(probability))}}}$"
    return f"$1-10^{{{round(np.log10(1 - probability))}}}$"


def _style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.grid(True, axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9)
