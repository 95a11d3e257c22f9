"""Shall Segment Anything outline what a model rejects? Damage painted on good photographs decides; no test photograph.

One look at a photograph takes the model's time, and where it rejects, some seconds of Segment Anything besides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch

from ..models.eval_mode import in_eval_mode
from ..models.stlm.anomaly_maps import AnomalyMaps
from ..models.stlm.judging import Judging
from ..models.stlm.outline_gain import LEAST, OutlineGain
from ..predict.images import read_picture
from ..predict.prediction import Prediction
from ..predict.predictor import input_of, on_photographs
from ..predict.verdicts import judge_all
from ..pseudo_anomalies.probes import probe_inside
from ..validate import check_choice
from ..zero_shot.refine import refined
from ..zero_shot.segment import SegmentAnything, segment_anything
from .normals import Normal

HOW = ("auto", "on", "off")
"""auto: where it helps on pseudo anomalies. on, off: as asked, measured by nobody."""
FEWEST, MOST = 16, 32
"""Pseudo anomalies: one on each photograph, more where these are few, and not so many that it takes long."""
LONGEST = 5.0
"""Seconds of a core for one that is rejected, a little above the means of the sets in benchmarks/refine.json."""


class Pair(NamedTuple):
    """A pseudo anomaly as a model outlines it, as Segment Anything does, and as it is, HxW bool."""

    plain: Prediction
    sharp: Prediction
    truth: np.ndarray


def check_refine(how: str | None) -> None:
    """Refuses what is none of `HOW`, and "auto" where Segment Anything is not to be had, before anything is computed.

    Raises:
        ConfigError: there is no such choice.
        WeightsError: "auto", and the weights cannot be had; the message says how to get them.
    """
    if how is not None:
        check_choice("refine", how, HOW)
    if how == "auto":
        segment_anything()


def chosen_outlines(
    model: AnomalyMaps,
    photographs: Sequence[Normal],
    how: str | None,
    *,
    seed: int = 0,
    on_image: Callable[[int, int], None] | None = None,
) -> Judging:
    """The model's judging with a choice of outlines.

    Args:
        model: calibrated.
        photographs: of good parts. Where the streams were not trained on some, pseudo anomalies are painted on those.
        how: one of `HOW`. None: the choice stays as it was, without figures, which were of another threshold.
        seed: decides what is painted.
        on_image: called with (done, total) after each pseudo anomaly.

    Raises:
        ConfigError, WeightsError: see `check_refine`.
        ImageError: a photograph cannot be used.
    """
    check_refine(how)
    judging = model.judging
    if how != "auto":
        chosen = {None: judging.refine, "on": True, "off": None}[how]
        return judging.replace(refine=chosen, refine_gain=None)
    gain = measured_gain(model, photographs, seed, on_image=on_image)
    return judging.replace(refine=gain is not None and gain.helps, refine_gain=gain)


def measured_gain(
    model: AnomalyMaps,
    photographs: Sequence[Normal],
    seed: int = 0,
    sam: SegmentAnything | None = None,
    *,
    on_image: Callable[[int, int], None] | None = None,
) -> OutlineGain | None:
    """The gain of F1; None: hardly a pseudo anomaly lay where the model looks. Arguments: see `chosen_outlines`."""
    honest = [normal for normal in photographs if not normal.trained] or list(photographs)
    n, gains = number_of(len(honest)), []
    for done, pair in enumerate(pairs(model, honest, n, seed, sam), start=1):
        if pair.truth.any():
            gains.append(f1(pair.sharp.mask, pair.truth) - f1(pair.plain.mask, pair.truth))
        if on_image:
            on_image(done, n)
    return OutlineGain.of(gains) if len(gains) >= LEAST else None


def pairs(
    model: AnomalyMaps, photographs: Sequence[Normal], n: int, seed: int, sam: SegmentAnything | None = None
) -> Iterator[Pair]:
    """`n` pseudo anomalies on photographs of good parts in a random order, each judged and outlined in both ways.

    Args:
        model: its memory leaves the entries of the photograph out that it looks at.
        photographs: of good parts; where they are fewer than `n`, they are taken again.
        n: number of pseudo anomalies.
        seed: decides order and damage.
        sam: None: `segment_anything()`.
    """
    random = np.random.default_rng(seed)
    for k in random.permutation(max(n, len(photographs)))[:n] % len(photographs):
        normal = photographs[int(k)]
        image = read_picture(normal.path, bits=model.judging.bits).image
        inside = _inside(model, image)
        damaged, mask = probe_inside(image, inside, random)
        truth = mask > 0 if inside is None else (mask > 0) & inside
        plain = judge_without(model, damaged, normal.remembered)
        yield Pair(plain, refined(plain, sam), truth)


@torch.inference_mode()
def judge_without(model: AnomalyMaps, image: np.ndarray, number: int) -> Prediction:
    """A prediction for which the memory's own entries of the photograph of this number do not count.

    Args:
        model: see `in_eval_mode`.
        image: HxWx3 uint8 RGB.
        number: in the memory; -1: all entries count.
    """
    seen = in_eval_mode(model)(input_of(model, [image]), model.judging.shown, [number])
    return judge_all(model.judging, [image], on_photographs(seen, [image]), model.frame_size)[0]


def f1(found: np.ndarray, truth: np.ndarray) -> float:
    """Of two masks, HxW bool each, the second not empty: [0, 1]; 0 where nothing is found."""
    return 2 * int((found & truth).sum()) / max(1, int(found.sum()) + int(truth.sum()))


def asked(photographs: int) -> str:
    """What "auto" costs, before it begins, a sentence for people."""
    n = number_of(photographs)
    return (
        f"Outlines by Segment Anything are tried on {n} pseudo anomalies: some seconds of a core for each that is "
        f"rejected, up to {math.ceil(n * LONGEST / 60)} minutes."
    )


def number_of(photographs: int) -> int:
    """Pseudo anomalies that so many photographs get."""
    return min(MOST, max(FEWEST, photographs))


def told(judging: Judging) -> str:
    """The choice of a calibration with its figures, a sentence for people."""
    gain = judging.refine_gain
    if gain is None:
        return (
            "Segment Anything outlines what it rejects, as you asked; whether that helps was not measured."
            if judging.refine
            else "Hardly a pseudo anomaly lay where the model looks, so outlines stay the model's own."
        )
    figures = (
        f"Outlines by Segment Anything gain {100 * gain.mean:+.1f} points of F1 on {gain.n} pseudo anomalies "
        f"(standard error {100 * gain.standard_error:.1f})"
    )
    if judging.refine:
        return f"{figures}, so what the model rejects is outlined so, in some seconds more; --no-refine does without."
    return f"{figures}, which is not surely a gain, so outlines stay the model's own; --refine asks for the others."


def _inside(model: AnomalyMaps, image: np.ndarray) -> np.ndarray | None:
    """HxW bool of a photograph: where the model looks; None: everywhere."""
    if model.region is None:
        return None
    inside = model.region.inside.cpu().numpy()
    return cv2.resize(inside, image.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
