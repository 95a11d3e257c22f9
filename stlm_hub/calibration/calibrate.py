"""Good photographs -> how a model judges: scales of its maps, thresholds, and what is familiar."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from ..errors import DataError
from ..models.stlm.anomaly_maps import AnomalyMaps
from ..models.stlm.judging import Calibration
from ..models.stlm.scales import SMALLEST_HEIGHT, MapScale, agreed, in_unit
from ..pseudo_anomalies.nuisance import Nuisance
from .familiar import familiarity_limits, joined
from .normals import Looks, Measured, Normal, chosen, look
from .threshold import check_held_out, choose_threshold, unusual

LIFTED = 0.98
"""Share of the disturbed copies whose whole lift is taken off."""


@dataclass(frozen=True)
class Calibrated:
    """What a calibration found besides the model's new judging.

    Args:
        thresholds: of each map.
        unusual: good photographs whose score lies far above the others', the highest first, with their scores.
    """

    thresholds: dict[str, Calibration]
    unusual: list[tuple[Path, float]]


def calibrate(
    model: AnomalyMaps,
    photographs: Sequence[Normal],
    false_alarm_rate: float,
    *,
    nuisance: Nuisance | None = None,
    seed: int = 0,
    careful: bool = False,
    left_out: Sequence[str] = (),
    on_image: Callable[[int, int], None] | None = None,
) -> Calibrated:
    """Measures all that `Judging` holds but the maps that judge and are drawn; sets `model.judging` and familiarity.

    Args:
        model: as it will be used, with the weights that are in its folder.
        photographs: of good parts, at least 4.
        false_alarm_rate: share of good parts that may be judged anomalous, in (0, 0.5].
        nuisance: how copies of the photographs are disturbed; None: as a normal camera does.
        seed: of everything random.
        careful: see `choose_threshold`; what lifts whole photographs then stays in their scores. The model keeps it.
        left_out: maps of what was not trained; they get no scale.
        on_image: called with (done, total) after each photograph.

    Raises:
        DataError: there are too few photographs, or the maps do not vary on them.
        ImageError: a photograph cannot be used.
    """
    check_held_out(len(photographs))
    measured = look(model, chosen(photographs, seed), nuisance or Nuisance(), seed, on_image)
    names = [name for name in model.available if name not in ("combined", *left_out)]
    peaks = {name: _peaks(model, name, measured) for name in names}
    scales = tuple(_scale(name, peaks[name], measured, false_alarm_rate, careful) for name in names)
    model.judging = model.judging.replace(scales=scales, draw_gain=1.0)
    scores = {name: _scores(model, name, peaks) for name in (*names, "combined")}
    found = {
        name: choose_threshold(s.good, false_alarm_rate, disturbed=s.disturbed, probes=s.probes, careful=careful)
        for name, s in scores.items()
    }
    judged = scores[model.judging.judge_by]
    calibration = found[model.judging.judge_by]
    model.judging = model.judging.replace(
        calibration=calibration,
        draw_gain=_draw_gain(model, measured, judged, calibration.threshold),
        familiarity_limits=familiarity_limits(model, measured.good.descriptions, measured.disturbed.descriptions),
        normal_scores=judged.good,
        disturbed_scores=judged.disturbed,
        probe_scores=judged.probes,
        careful=careful,
    )
    return Calibrated(found, _unusual(measured, judged.good))


@dataclass(frozen=True)
class Scored:
    """Scores of good photographs and of disturbed copies by a calibrated model, and Nx2 distances of the former."""

    good: tuple[float, ...]
    disturbed: tuple[float, ...]
    distances: np.ndarray


def score_photographs(model: AnomalyMaps, measured: Measured) -> Scored:
    """What a calibrated model says of further good photographs."""
    name = model.judging.judge_by
    peaks = {one: _peaks(model, one, measured) for one in model.needed((name,))}
    scores = _scores(model, name, peaks)
    described = joined(measured.good.descriptions, model.familiarity.content.mean.device)
    return Scored(scores.good, scores.disturbed, model.familiarity(described).cpu().numpy())


class Values(NamedTuple):
    """A raw value of each image by one map."""

    good: np.ndarray
    disturbed: np.ndarray
    probes: np.ndarray


class Peaks(NamedTuple):
    """Of each image by one map, in raw values: its score, its score without a minimum area, and the median."""

    scores: Values
    highest: Values
    medians: Values


class Scores(NamedTuple):
    """Anomaly scores in [0, 1) of good photographs, disturbed copies and pseudo anomalies."""

    good: tuple[float, ...]
    disturbed: tuple[float, ...]
    probes: tuple[float, ...]


def _peaks(model: AnomalyMaps, name: str, measured: Measured) -> Peaks:
    """Scores and medians of one map, in raw values."""
    size, groups = model.frame_size, (measured.good, measured.disturbed, measured.probes)

    def of(looks: Looks) -> np.ndarray:
        rows = []
        for values in looks.values.get(name, []):
            resized = functional.interpolate(values, size=size, mode="bilinear")
            highest = model.highest(resized)
            rows.append([float(v) for v in (model.bounded(highest, resized), highest, model.median(values))])
        return np.asarray(np.array(rows).reshape(-1, 3).T)

    peaks = Peaks(*(Values(*of_kind) for of_kind in zip(*(of(looks) for looks in groups), strict=True)))
    if name != "memory":
        trained = np.array([normal.trained for normal in measured.photographs])
        for scores in (peaks.scores, peaks.highest):
            _raise_trained(scores, trained)
    return peaks


def _raise_trained(scores: Values, trained: np.ndarray) -> None:
    """Corrects the streams' scores of photographs that they were trained on, which are too low, in place.

    They are raised by the distance of the medians; what is left of the bias is small against how much photographs
    differ.
    """
    if trained.any() and not trained.all():
        for group in (scores.good, scores.disturbed):
            group[trained] += max(0.0, float(np.median(group[~trained]) - np.median(group[trained])))


def _scale(name: str, peaks: Peaks, measured: Measured, false_alarm_rate: float, careful: bool) -> MapScale:
    """What a map is on good photographs: typical value, lift, and the score up to which it calls them normal."""
    typical = float(np.mean([float(values.mean()) for values in measured.good.values[name]]))
    height = float(np.median(peaks.scores.good)) - typical
    if height < SMALLEST_HEIGHT:
        raise DataError("The maps of these photographs do not vary, so they have no scale; use photographs of parts.")
    # Where photographs overlap, disturbed copies are the only ones as far from the others as a new part is.
    scale = MapScale(name, typical, typical + height, *(() if careful else _lift(peaks)))
    good, disturbed = (in_unit(torch.from_numpy(_limits(scale, peaks, group))).tolist() for group in (0, 1))
    threshold = choose_threshold(good, false_alarm_rate, disturbed=disturbed).threshold
    return replace(scale, limit=typical + height * threshold / (1 - threshold))


def _limits(scale: MapScale, peaks: Peaks, group: int) -> np.ndarray:
    """Scores of one group of images, in limits, without what lifts whole photographs."""
    highest = scale.in_limits(peaks.highest[group])
    return np.asarray(scale.in_limits(peaks.scores[group]) * scale.without_lift(highest, peaks.medians[group]))


def _lift(peaks: Peaks) -> tuple[float, float, float]:
    """`lift`, `median` and `lifted` of a scale, from pairs of a photograph and its disturbed copy: least squares."""
    good, disturbed = peaks.medians[:2]
    rise = disturbed - good
    usual = float(np.median(good))
    lift = float(rise @ (peaks.scores.disturbed - peaks.scores.good) / max(rise @ rise, SMALLEST_HEIGHT**2))
    return float(np.clip(lift, 0.0, 1e3)), usual, max(usual, float(np.quantile(disturbed, LIFTED)))


def _scores(model: AnomalyMaps, name: str, peaks: Mapping[str, Peaks]) -> Scores:
    """Scores of one map, or of the combined one, on the scales of `model.judging`."""
    compared = model.needed((name,))

    def of(group: int) -> tuple[float, ...]:
        limits = {}
        for one in compared:
            scale = model.judging.scale(one)
            assert scale is not None
            limits[one] = torch.from_numpy(_limits(scale, peaks[one], group))
        return tuple(in_unit(agreed(limits)).tolist())

    return Scores(of(0), of(1), of(2))


def _draw_gain(model: AnomalyMaps, measured: Measured, judged: Scores, threshold: float) -> float:
    """What drawn values are multiplied with so that as many good photographs reach the threshold by them as by scores.

    Scores are means over maps wherever each is highest, so that at no single place the drawn map need be as high.
    """
    size = model.frame_size
    drawn = []
    needed = model.needed((model.judging.drawn,))
    for looks in (measured.good, measured.disturbed):
        for i in range(len(looks.descriptions)):
            values = model.scored(model.judging.drawn, {m: looks.values[m][i] for m in needed}, size).values
            drawn.append(float(model.peak(values)))
    below = float(np.mean(np.array([*judged.good, *judged.disturbed]) < threshold))
    at = float(np.quantile(drawn, below))
    return threshold / (1 - threshold) / (at / (1 - at)) if at > 0 and threshold < 1 else 1.0


def _unusual(measured: Measured, scores: Sequence[float]) -> list[tuple[Path, float]]:
    found = [
        (normal.path, score)
        for normal, score, far in zip(measured.photographs, scores, unusual(scores), strict=True)
        if far
    ]
    return sorted(found, key=lambda pair: -pair[1])
