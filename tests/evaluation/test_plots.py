"""Plots are valid PNG files of the documented width, show the right numbers, and survive sparse data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from stlm_hub.evaluation.metrics import compute_metrics, pro_points, roc_points
from stlm_hub.evaluation.plots import plot_curves, plot_losses, plot_score_histogram
from stlm_hub.models.stlm.judging import Calibration, Judging


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Matplotlib figures that a test saves, in order."""
    figures: list[Figure] = []
    save = Figure.savefig

    def spy(figure: Figure, *args: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", spy)
    return figures


def picture(path: Path, width: int = 800, most: int = 500) -> np.ndarray:
    """Pixels of a PNG file, after checks that hold for every plot."""
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size < 200_000
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[1] == width
    assert 150 <= pixels.shape[0] <= most
    assert (pixels[0, 0] == 255).all()
    assert (pixels.std(axis=2) > 20).sum() > 50  # something has a colour
    return pixels


def bars(axes: Any) -> list[tuple[float, float, int]]:
    """Left edge, right edge and height of the bars that are not empty."""
    found = [(bar.get_x(), bar.get_x() + bar.get_width(), round(bar.get_height())) for bar in axes.patches]
    return [bar for bar in found if bar[2]]


SCORES = np.random.default_rng(0).beta(2, 40, 60).tolist()


def judging(normal: list[float], threshold: float, review: float | None = None, **scores: Any) -> Judging:
    calibration = Calibration(threshold, threshold if review is None else review, 0.01, 4, 0.5, None, "", "")
    return Judging(calibration=calibration, normal_scores=tuple(normal), **scores)


def test_histogram_has_a_row_for_each_kind_of_photograph(tmp_path: Path, drawn: list[Any]) -> None:
    kinds = [SCORES[:20], SCORES[10:30], [0.1, 0.4], SCORES[30:], [0.05, 0.3, 0.9, 0.999, 1.0]]
    whole = judging(kinds[0], 0.12, disturbed_scores=tuple(kinds[1]), probe_scores=tuple(kinds[2]))
    plot_score_histogram(tmp_path / "all.png", whole, kinds[3], kinds[4])
    plot_score_histogram(tmp_path / "own.png", judging(SCORES[:20], 0.12))
    assert len(picture(tmp_path / "all.png", most=900)) > len(picture(tmp_path / "own.png"))
    assert [len(figure.axes) for figure in drawn] == [5, 1]
    names = ["Good parts", "Good parts in worse light", "Painted defects", "Good test parts", "Test defects"]
    assert [axes.get_title("left").partition(":")[0] for axes in drawn[0].axes] == names
    for axes, scores in zip(drawn[0].axes, kinds, strict=True):
        assert sum(height for _, _, height in bars(axes)) == len(scores)
        reached = sum(score >= 0.12 for score in scores)
        assert f"{reached} of {len(scores)}" in axes.get_title("left")


def test_the_zone_of_a_second_look_is_shaded_where_there_is_one(tmp_path: Path, drawn: list[Any]) -> None:
    for review in (0.05, 0.12):
        plot_score_histogram(tmp_path / "a.png", judging(SCORES, 0.12, review))
    with_zone, without = (figure.axes[0] for figure in drawn)
    assert len(with_zone.patches) == len(without.patches) + 1
    said = [axes.texts[0].get_text() for axes in (with_zone, without)]
    assert said == ["threshold 0.12, grey: review", "threshold 0.12"]
    left, right = with_zone.patches[-1].get_extents().get_points()[:, 0]
    ends = with_zone.transData.transform([(np.log(0.05 / 0.95), 0), (np.log(0.12 / 0.88), 0)])[:, 0]
    assert (left, right) == pytest.approx(tuple(ends), abs=1)


def test_no_bar_crosses_the_threshold(tmp_path: Path, drawn: list[Any]) -> None:
    cases = [(SCORES, 0.05), ([0.0, 1e-9, 1e-7, 2e-7], 1e-7), ([0.0, 1.0, 1 - 1e-9], 1.0), ([0.5], 0.5)]
    for index, (scores, threshold) in enumerate(cases):
        plot_score_histogram(tmp_path / f"{index}.png", judging(scores, threshold))
        axes = drawn[-1].axes[0]
        line = axes.lines[0].get_xdata()[0]
        above = sum(height for left, _, height in bars(axes) if left >= line - 1e-9)
        below = sum(height for _, right, height in bars(axes) if right <= line + 1e-9)
        assert above == sum(score >= threshold for score in scores)
        assert below == sum(score < threshold for score in scores)


def test_the_score_axis_labels_log_odds_with_probabilities(tmp_path: Path, drawn: list[Any]) -> None:
    plot_score_histogram(tmp_path / "a.png", judging([0.0, 0.001, 0.5, 1.0], 0.9))
    axis = drawn[0].axes[0].xaxis
    ticks = dict(zip([label.get_text() for label in axis.get_ticklabels()], axis.get_ticklocs(), strict=True))
    assert ticks["0.5"] == 0
    assert ticks["0.9"] == pytest.approx(np.log(9)) == drawn[0].axes[0].lines[0].get_xdata()[0]
    assert ticks["0.01"] == pytest.approx(-np.log(99))
    assert ticks["$10^{-6}$"] == pytest.approx(np.log(1e-6), abs=1e-5)
    assert ticks["$1-10^{-6}$"] == pytest.approx(-np.log(1e-6), abs=1e-5)


@pytest.mark.parametrize("value", [0.0, 1e-6, 3e-6, 1e-5, 0.02, 0.5, 0.99, 0.99998, 1.0])
def test_equal_scores_are_shown_with_a_tick_in_view(tmp_path: Path, drawn: list[Any], value: float) -> None:
    plot_score_histogram(tmp_path / "a.png", judging([value] * 5, value), [value], [value] * 2)
    picture(tmp_path / "a.png")
    low, high = drawn[0].axes[-1].get_xlim()
    assert any(low <= tick <= high for tick in drawn[0].axes[-1].get_xticks())


def test_a_threshold_near_one_is_not_written_as_one(tmp_path: Path, drawn: list[Any]) -> None:
    plot_score_histogram(tmp_path / "a.png", judging([0.5], 0.99995))
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["threshold 1 - 5e-05"]


def test_an_uncalibrated_model_has_the_default_threshold_in_its_histogram(tmp_path: Path, drawn: list[Any]) -> None:
    plot_score_histogram(tmp_path / "a.png", Judging(), SCORES, [0.9])
    assert [axes.lines[0].get_xdata()[0] for axes in drawn[0].axes] == [0, 0]


def test_a_curve_that_is_missing_is_not_defined(tmp_path: Path, drawn: list[Any]) -> None:
    plot_curves(tmp_path / "curves.png", {"image_roc": roc_points(np.array([0.1, 0.9]), np.array([0, 1]))})
    texts = [" ".join(text.get_text() for text in axes.findobj(Text)) for axes in drawn[0].axes]
    assert ["not defined" in text for text in texts] == [False, True, True]


def test_the_legend_of_a_curve_shows_its_metric(tmp_path: Path, drawn: list[Any]) -> None:
    rng = np.random.default_rng(1)
    masks = [np.zeros((40, 40), bool) for _ in range(12)]
    for mask in masks[5:]:
        top, left = rng.integers(0, 30, 2)
        mask[top : top + 8, left : left + 6] = True
    maps = [(1 / (1 + np.exp(2 - 2 * mask - rng.normal(size=mask.shape)))).astype(np.float32) for mask in masks]
    scores, labels = rng.random(12), np.array([0] * 5 + [1] * 7)
    metrics = compute_metrics(scores, labels, maps, masks, threshold=0.5)
    pixels, truth = np.concatenate([m.ravel() for m in maps]), np.concatenate([m.ravel() for m in masks])
    curves = {
        "image_roc": roc_points(scores, labels),
        "pixel_roc": roc_points(pixels, truth),
        "pro": pro_points(maps, masks),
    }
    plot_curves(tmp_path / "curves.png", curves)
    picture(tmp_path / "curves.png")
    figures = [metrics.i_auroc, metrics.p_auroc, metrics.aupro]
    for axes, name, figure, key in zip(
        drawn[0].axes, ["I-AUROC", "P-AUROC", "AUPRO"], figures, ["image_roc", "pixel_roc", "pro"], strict=True
    ):
        label, number, percent = axes.get_legend().get_texts()[0].get_text().split()
        assert (label, percent) == (name, "%")
        assert figure is not None
        assert float(number) == pytest.approx(100 * figure, abs=0.06)
        assert axes.lines[0].get_xdata().tolist() == curves[key]["fpr"]


def test_a_curve_without_points_is_labelled_not_defined(tmp_path: Path, drawn: list[Any]) -> None:
    curves: dict[str, dict[str, list[float]]] = {
        "image_roc": {"fpr": [0, 0, 1], "tpr": [0, 1, 1]},
        "pixel_roc": {"fpr": [], "tpr": []},
        "pro": {"fpr": [], "pro": []},
    }
    plot_curves(tmp_path / "curves.png", curves)
    picture(tmp_path / "curves.png")
    assert [[text.get_text() for text in axes.texts] for axes in drawn[0].axes] == [
        [],
        ["not defined"],
        ["not defined"],
    ]


def test_losses_are_drawn_raw_and_smoothed(tmp_path: Path, drawn: list[Any]) -> None:
    rng = np.random.default_rng(2)
    steps = list(range(1, 2001))
    trend = 0.05 + 0.5 * np.exp(-np.array(steps) / 400)
    noisy = trend * np.exp(rng.normal(0, 0.3, len(steps)))
    losses = {
        name: (noisy * scale).tolist() for name, scale in [("denoising", 1), ("plain", 3), ("focal", 0.1), ("l1", 9)]
    }
    plot_losses(tmp_path / "losses.png", steps, losses)
    picture(tmp_path / "losses.png")
    axes = drawn[0].axes[0]
    assert axes.get_yscale() == "log"
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == list(losses)
    raw, smooth = (np.asarray(line.get_ydata()) for line in axes.lines[:2])
    np.testing.assert_allclose(raw, losses["denoising"])
    assert np.abs(np.log(smooth / trend)).max() < 0.25 < np.abs(np.log(raw / trend)).max()
    assert smooth[0] > smooth[-1]


def test_a_loss_of_zero_is_left_out_and_does_not_change_its_neighbours(tmp_path: Path, drawn: list[Any]) -> None:
    losses = {"focal": [0.2, 0.0, 0.2, float("nan"), 0.2] * 10, "l1": [0.0] * 50}
    plot_losses(tmp_path / "losses.png", list(range(50)), losses)
    picture(tmp_path / "losses.png")
    raw, smooth, _, nothing = (np.asarray(line.get_ydata()) for line in drawn[0].axes[0].lines)
    assert np.isnan(raw).sum() == 20
    np.testing.assert_allclose(smooth, 0.2)
    assert np.isnan(nothing).all()


def test_a_run_of_one_step_is_a_dot_for_each_loss(tmp_path: Path, drawn: list[Any]) -> None:
    plot_losses(tmp_path / "losses.png", [1], {"denoising": [0.4], "l1": [0.1]})
    picture(tmp_path / "losses.png")
    dots = [line for line in drawn[0].axes[0].lines if line.get_marker() == "o"]
    np.testing.assert_allclose([line.get_ydata() for line in dots], [[0.4], [0.1]])
    low, high = drawn[0].axes[0].get_xlim()
    assert [tick for tick in drawn[0].axes[0].get_xticks() if low <= tick <= high] == [1]  # no fractions of a step
