"""Good photographs, disturbed copies of them and pseudo anomalies on them -> raw values of every map, in one pass.

Nothing here depends on scales or thresholds, so a calibration runs the model once on each image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..models.eval_mode import in_eval_mode
from ..models.familiarity import Description
from ..models.stlm.anomaly_maps import AnomalyMaps, RawMaps
from ..predict.frame import resize_image
from ..predict.images import read_picture
from ..predict.predictor import input_of
from ..pseudo_anomalies.nuisance import Nuisance, photographed_again
from ..pseudo_anomalies.probes import probe_inside

MOST_PHOTOGRAPHS = 150
"""Most photographs of one calibration; 99 certify a false-alarm rate of 1 %."""
PROBES = 60
"""Pseudo anomalies that are scored at least; every photograph that no stream was trained on gets one."""


@dataclass(frozen=True)
class Normal:
    """A photograph of a good part, and whether the model knows it.

    Args:
        path: of the photograph.
        remembered: its number in the memory; -1: it is not there. Its own entries do not count when it is scored.
        trained: whether the streams were trained on it.
    """

    path: Path
    remembered: int = -1
    trained: bool = False


@dataclass
class RawValues:
    """Raw values of some images, on the CPU.

    Args:
        values: name of a map -> one 1x1xhxw tensor for each image, on the map's own grid.
        descriptions: one for each image.
    """

    values: dict[str, list[Tensor]] = field(default_factory=dict)
    descriptions: list[Description] = field(default_factory=list)

    def add(self, raw: RawMaps) -> None:
        """Appends the raw values of one image."""
        for name, values in raw.values.items():
            self.values.setdefault(name, []).append(values.cpu())
        self.descriptions.append(Description(*(values.cpu() for values in raw.description)))


@dataclass(frozen=True)
class Measured:
    """Raw values of good photographs, and of images made from them.

    Args:
        photographs: that were measured.
        good: of each photograph as it is.
        disturbed: of a disturbed copy of each.
        probes: of pseudo anomalies on some of them.
    """

    photographs: list[Normal]
    good: RawValues
    disturbed: RawValues
    probes: RawValues


def choose_photographs(photographs: Sequence[Normal], seed: int = 0) -> list[Normal]:
    """At most `MOST_PHOTOGRAPHS`: first those that no stream was trained on, then others at random."""
    untrained = [normal for normal in photographs if not normal.trained]
    trained = [normal for normal in photographs if normal.trained]
    order = np.random.default_rng([seed, len(trained)]).permutation(len(trained))
    return [*untrained, *(trained[i] for i in order)][:MOST_PHOTOGRAPHS]


@torch.inference_mode()
def measure(
    model: AnomalyMaps,
    photographs: Sequence[Normal],
    nuisance: Nuisance,
    seed: int,
    on_image: Callable[[int, int], None] | None = None,
    *,
    probes: bool = True,
) -> Measured:
    """Runs the model on good photographs, disturbed copies and pseudo anomalies.

    Args:
        model: all its maps but the combined one are measured.
        photographs: of good parts.
        nuisance: how the copies are disturbed.
        seed: of everything random.
        on_image: called with (done, total) after each photograph.
        probes: whether pseudo anomalies are painted.

    Raises:
        ImageError: a photograph cannot be used.
    """
    which = tuple(name for name in model.available if name != "combined")
    rng = np.random.default_rng(seed)
    measured = Measured(list(photographs), RawValues(), RawValues(), RawValues())
    counts = _probe_counts(measured.photographs) if probes else [0] * len(measured.photographs)
    model = in_eval_mode(model)
    for done, (normal, count) in enumerate(zip(photographs, counts, strict=True), start=1):
        image = read_picture(normal.path, bits=model.judging.bits).image
        without = [normal.remembered]
        measured.good.add(model.raw(input_of(model, [image]), which, without))
        copy = photographed_again(image, rng, nuisance, model.frame_size)
        measured.disturbed.add(model.raw(input_of(model, [copy]), which, without))
        for _ in range(count):
            damaged = _probe(model, resize_image(image, model.frame_size), rng)
            measured.probes.add(model.raw(input_of(model, [damaged]), which, without))
        if on_image:
            on_image(done, len(photographs))
    return measured


def _probe(model: AnomalyMaps, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A pseudo anomaly on a photograph in the model's frame, HxWx3 uint8, inside the region of a model that has one."""
    inside = None if model.region is None else model.region.inside.cpu().numpy()
    return probe_inside(image, inside, rng)[0]


def _probe_counts(photographs: Sequence[Normal]) -> list[int]:
    """How many pseudo anomalies each photograph gets, as evenly as possible.

    Photographs that a stream was trained on get none, unless all are such.
    """
    untrained = [i for i, normal in enumerate(photographs) if not normal.trained]
    painted_on = untrained or list(range(len(photographs)))
    counts = [0] * len(photographs)
    for k in range(max(PROBES, len(painted_on))):
        counts[painted_on[k % len(painted_on)]] += 1
    return counts
