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
from .familiar import joined, what_is_familiar
from .normals import Measured, Normal, measure
from .threshold import check_held_out, choose_threshold, far_out, unusual

LIFTED = 0.98
"""Quantile of the disturbed copies' medians up to which a lift is taken off, see `MapScale.lifted`."""


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
    """Measures everything in `Judging` except which maps judge and are drawn. Sets `model.judging` and familiarity.

    Args:
        model: as it will be used, with the weights that are in its folder.
        photographs: of good parts, at least 4; of many those that `choose_photographs` chooses.
        false_alarm_rate: share of good parts that may be judged anomalous, in (0, 0.5].
        nuisance: how copies of the photographs are disturbed; None: as a normal camera does.
        seed: of everything random.
        careful: see `choose_threshold`. No lift is taken off the scores then. The model keeps the choice.
        left_out: maps of what was not trained; they get no scale.
        on_image: called with (done, total) after each photograph.

    Raises:
        DataError: there are too few photographs, or the maps do not vary on them.
        ImageError: a photograph cannot be used.
    """
    check_held_out(len(photographs))
    measured = measure(model, photographs, nuisance or Nuisance(), seed, on_image)
    names = [name for name in model.available if name not in ("combined", *left_out)]
    raw_scores = {name: _raw_scores(model, name, measured) for name in names}
    scales = tuple(_scale(model, name, raw_scores[name], measured, false_alarm_rate, careful) for name in names)
    model.judging = model.judging.replace(scales=scales, draw_gain=1.0)
    scores = {name: _scores(model, name, raw_scores) for name in (*names, "combined")}
    thresholds = {
        name: choose_threshold(
            of_map.good, false_alarm_rate, disturbed=of_map.disturbed, probes=of_map.probes, careful=careful
        )
        for name, of_map in scores.items()
    }
    judged = scores[model.judging.judge_by]
    calibration = thresholds[model.judging.judge_by]
    familiar = what_is_familiar(model, measured.good.descriptions, measured.disturbed.descriptions)
    model.judging = model.judging.replace(
        calibration=calibration,
        draw_gain=_draw_gain(model, measured, judged, calibration.threshold),
        familiarity_limits=familiar.limits,
        normal_unfamiliarity=familiar.normal,
        normal_scores=judged.good,
        disturbed_scores=judged.disturbed,
        probe_scores=judged.probes,
        careful=careful,
    )
    return Calibrated(thresholds, _unusual(measured, judged.good))


@dataclass(frozen=True)
class Scored:
    """Scores of further good photographs by a calibrated model.

    Args:
        good: anomaly scores in [0, 1) of the photographs.
        disturbed: of a disturbed copy of each.
        distances: Nx2, of the photographs from good ones, see `Familiarity`.
    """

    good: tuple[float, ...]
    disturbed: tuple[float, ...]
    distances: np.ndarray


def score_photographs(model: AnomalyMaps, measured: Measured) -> Scored:
    """Scores of measured photographs on the scales of a calibrated model, which stays as it is."""
    judge_by = model.judging.judge_by
    raw_scores = {name: _raw_scores(model, name, measured) for name in model.needed((judge_by,))}
    scores = _scores(model, judge_by, raw_scores)
    descriptions = joined(measured.good.descriptions, model.familiarity.content.mean.device)
    return Scored(scores.good, scores.disturbed, model.familiarity(descriptions).cpu().numpy())


class ByGroup(NamedTuple):
    """One value of each image by one map, N float64: good photographs, their disturbed copies, pseudo anomalies."""

    good: np.ndarray
    disturbed: np.ndarray
    probes: np.ndarray


class RawScores(NamedTuple):
    """Figures of each image by one map, in raw values.

    scores: `AnomalyMaps.score`. highest: `AnomalyMaps.mean_of_highest`, the score without a minimum area. medians:
    `AnomalyMaps.median`.
    """

    scores: ByGroup
    highest: ByGroup
    medians: ByGroup


class Scores(NamedTuple):
    """Anomaly scores in [0, 1) of good photographs, disturbed copies and pseudo anomalies."""

    good: tuple[float, ...]
    disturbed: tuple[float, ...]
    probes: tuple[float, ...]


def _raw_scores(model: AnomalyMaps, name: str, measured: Measured) -> RawScores:
    """Raw scores of all images by one map. Those of photographs that the streams were trained on are corrected."""
    groups = [_figures(model, raw.values.get(name, [])) for raw in (measured.good, measured.disturbed, measured.probes)]
    raw_scores = RawScores(*(ByGroup(*figures) for figures in zip(*groups, strict=True)))
    if name != "memory":
        trained = np.array([normal.trained for normal in measured.photographs])
        for scores in (raw_scores.scores, raw_scores.highest):
            _raise_trained(scores, trained)
    return raw_scores


def _figures(model: AnomalyMaps, maps: Sequence[torch.Tensor]) -> np.ndarray:
    """Raw maps of N images, 1x1xhxw each -> 3xN float64, the rows of `RawScores`."""
    rows = []
    for values in maps:
        resized = functional.interpolate(values, size=model.frame_size, mode="bilinear")
        highest = model.mean_of_highest(resized)
        rows.append([float(v) for v in (model.bounded_by_area(highest, resized), highest, model.median(values))])
    return np.asarray(np.array(rows).reshape(-1, 3).T)


def _raise_trained(scores: ByGroup, trained: np.ndarray) -> None:
    """Corrects the streams' scores of photographs that they were trained on, which are too low, in place.

    They are raised by the distance of the medians; what is left of the bias is small against how much photographs
    differ.

    Args:
        scores: of all photographs.
        trained: N bool, whether the streams were trained on each photograph.
    """
    if trained.any() and not trained.all():
        for group in (scores.good, scores.disturbed):
            group[trained] += max(0.0, float(np.median(group[~trained]) - np.median(group[trained])))


def _scale(
    model: AnomalyMaps, name: str, raw_scores: RawScores, measured: Measured, false_alarm_rate: float, careful: bool
) -> MapScale:
    """The scale of a map: its typical value, its lift, and the score up to which it calls good photographs normal.

    Raises:
        DataError: the map does not vary on the photographs.
    """
    means = np.array([float(model.mean(values)) for values in measured.good.values[name]])
    typical = float(means[~far_out(means)].mean())  # one dark photograph would raise it above most scores
    height = float(np.median(raw_scores.scores.good)) - typical
    if height < SMALLEST_HEIGHT:
        raise DataError("The maps of these photographs do not vary, so they have no scale; use photographs of parts.")
    # Where photographs overlap, disturbed copies are the only ones as far from the others as a new part is.
    scale = MapScale(name, typical, typical + height, *(() if careful else _lift(raw_scores)))
    limits = _in_limits(scale, raw_scores)
    good, disturbed = in_unit(limits.good).tolist(), in_unit(limits.disturbed).tolist()
    threshold = choose_threshold(good, false_alarm_rate, disturbed=disturbed).threshold
    return replace(scale, limit=typical + height * threshold / (1 - threshold))


def _in_limits(scale: MapScale, raw_scores: RawScores) -> ByGroup:
    """Scores in limits, after the lift of whole photographs is taken off."""
    groups = []
    for scores, highest, medians in zip(*raw_scores, strict=True):
        factor = scale.without_lift(scale.in_limits(highest), medians)
        groups.append(scale.in_limits(scores) * factor)
    return ByGroup(*groups)


def _lift(raw_scores: RawScores) -> tuple[float, float, float]:
    """`lift`, `median` and `lifted` of a scale: least squares over pairs of a photograph and its disturbed copy."""
    medians, scores = raw_scores.medians, raw_scores.scores
    rise = medians.disturbed - medians.good
    usual = float(np.median(medians.good))
    lift = float(rise @ (scores.disturbed - scores.good) / max(rise @ rise, SMALLEST_HEIGHT**2))
    return float(np.clip(lift, 0.0, 1e3)), usual, max(usual, float(np.quantile(medians.disturbed, LIFTED)))


def _scores(model: AnomalyMaps, name: str, raw_scores: Mapping[str, RawScores]) -> Scores:
    """Anomaly scores of one map, or of the combined one, on the scales of `model.judging`."""
    limits = {}
    for single in model.needed((name,)):
        scale = model.judging.scale(single)
        assert scale is not None
        limits[single] = _in_limits(scale, raw_scores[single])
    groups = []
    for group in range(len(ByGroup._fields)):
        scores = in_unit(agreed({single: by_group[group] for single, by_group in limits.items()}))
        groups.append(tuple(scores.tolist()))
    return Scores(*groups)


def _draw_gain(model: AnomalyMaps, measured: Measured, judged: Scores, threshold: float) -> float:
    """The factor on the odds of drawn values by which as many good photographs reach the threshold as by scores.

    A combined score is a mean over maps wherever each is highest, so the drawn map need not be as high at any one
    place.
    """
    name = model.judging.drawn
    drawn = []
    for raw in (measured.good, measured.disturbed):
        for i in range(len(raw.descriptions)):
            single = {m: raw.values[m][i] for m in model.needed((name,))}
            drawn.append(float(model.score(model.scored(name, single, model.frame_size).values)))
    share_below = float(np.mean(np.array([*judged.good, *judged.disturbed]) < threshold))
    at_share = float(np.quantile(drawn, share_below))
    if at_share <= 0 or threshold >= 1:
        return 1.0
    return threshold / (1 - threshold) / (at_share / (1 - at_share))


def _unusual(measured: Measured, scores: Sequence[float]) -> list[tuple[Path, float]]:
    """Photographs with an unusual score, the highest first, with their scores."""
    found = [
        (normal.path, score)
        for normal, score, far in zip(measured.photographs, scores, unusual(scores), strict=True)
        if far
    ]
    return sorted(found, key=lambda pair: -pair[1])
