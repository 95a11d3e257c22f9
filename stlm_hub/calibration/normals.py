"""Good photographs, disturbed copies of them and pseudo anomalies on them -> raw values of every map, in one pass.

Nothing here depends on scales or thresholds, so that all of them are found without looking at a photograph twice.
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
from ..models.stlm.anomaly_maps import AnomalyMaps, Raw
from ..predict.frame import resize_image
from ..predict.images import read_picture
from ..predict.predictor import input_of
from ..pseudo_anomalies.nuisance import Nuisance, photographed_again
from ..pseudo_anomalies.probes import probe_inside

MOST_PHOTOGRAPHS = 150
"""Photographs that a calibration looks at: 99 carry a false-alarm rate of 1 %."""
PROBES = 60
"""Pseudo anomalies that are scored at least; every photograph that no stream was trained on gets one."""


@dataclass(frozen=True)
class Normal:
    """A photograph of a good part, and what the model knows of it.

    Args:
        path: of the photograph.
        remembered: its number in the memory; -1: it is not there. Its own entries do not count when it is scored.
        trained: whether the streams were trained on it.
    """

    path: Path
    remembered: int = -1
    trained: bool = False


@dataclass
class Looks:
    """Raw values of some images, each a map's own grid (1x1xhxw), and their descriptions."""

    values: dict[str, list[Tensor]] = field(default_factory=dict)
    descriptions: list[Description] = field(default_factory=list)

    def add(self, raw: Raw) -> None:
        """Takes up what the model sees of one image."""
        for name, values in raw.values.items():
            self.values.setdefault(name, []).append(values.cpu())
        self.descriptions.append(Description(*(values.cpu() for values in raw.description)))


@dataclass(frozen=True)
class Measured:
    """What a model sees of good photographs.

    Args:
        photographs: those that were looked at.
        good: of the photographs as they are.
        disturbed: of a disturbed copy of each.
        probes: of pseudo anomalies.
    """

    photographs: list[Normal]
    good: Looks
    disturbed: Looks
    probes: Looks


def chosen(photographs: Sequence[Normal], seed: int) -> list[Normal]:
    """At most `MOST_PHOTOGRAPHS`: those that no stream was trained on first, the others by chance."""
    honest = [normal for normal in photographs if not normal.trained]
    others = [normal for normal in photographs if normal.trained]
    order = np.random.default_rng([seed, len(others)]).permutation(len(others))
    return [*honest, *(others[i] for i in order)][:MOST_PHOTOGRAPHS]


@torch.inference_mode()
def look(
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
        probes: whether there are pseudo anomalies.

    Raises:
        ImageError: a photograph cannot be used.
    """
    which = tuple(name for name in model.available if name != "combined")
    rng = np.random.default_rng(seed)
    measured = Measured(list(photographs), Looks(), Looks(), Looks())
    wanted = _probes_of(measured.photographs) if probes else [0] * len(measured.photographs)
    model = in_eval_mode(model)
    for done, (normal, n) in enumerate(zip(photographs, wanted, strict=True), start=1):
        image = read_picture(normal.path, bits=model.judging.bits).image
        without = [normal.remembered]
        measured.good.add(model.raw(input_of(model, [image]), which, without))
        copy = photographed_again(image, rng, nuisance)
        measured.disturbed.add(model.raw(input_of(model, [copy]), which, without))
        for _ in range(n):
            damaged = _probe(model, resize_image(image, model.frame_size), rng)
            measured.probes.add(model.raw(input_of(model, [damaged]), which, without))
        if on_image:
            on_image(done, len(photographs))
    return measured


def _probe(model: AnomalyMaps, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A pseudo anomaly on a photograph in the model's frame, in its region where it has one."""
    inside = None if model.region is None else model.region.inside.cpu().numpy()
    return probe_inside(image, inside, rng)[0]


def _probes_of(photographs: Sequence[Normal]) -> list[int]:
    """How many pseudo anomalies each photograph gets: those that the streams do not know, as evenly as can be."""
    honest = [i for i, normal in enumerate(photographs) if not normal.trained] or list(range(len(photographs)))
    total, wanted = max(PROBES, len(honest)), [0] * len(photographs)
    for k in range(total):
        wanted[honest[k % len(honest)]] += 1
    return wanted
