"""Whether Segment Anything shall outline what a model rejects: damage painted on good photographs decides.

No test photograph takes part. Each pseudo anomaly takes one prediction, and some seconds of Segment Anything if it is
rejected.
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
"""auto: Segment Anything, if it helps on pseudo anomalies. on, off: as asked, without a measurement."""
FEWEST, MOST = 16, 32
"""Pseudo anomalies that are painted: one for each photograph, within these bounds."""
LONGEST = 5.0
"""Seconds of a core for each rejected one, a little above the means of the sets in benchmarks/refine.json."""


class Pair(NamedTuple):
    """One pseudo anomaly, outlined in two ways.

    plain: the model's own prediction. sharp: the same, outlined by Segment Anything. truth: HxW bool, where it is.
    """

    plain: Prediction
    sharp: Prediction
    truth: np.ndarray


def check_refine(how: str | None) -> None:
    """Refuses a choice that cannot be carried out, before anything is computed.

    Args:
        how: one of `HOW`, or None: no choice.

    Raises:
        ConfigError: there is no such choice.
        WeightsError: `how` is "auto" and Segment Anything's weights cannot be had; the message says how to get them.
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
    """The judging of a model, with `refine` and `refine_gain` as chosen.

    Args:
        model: calibrated.
        photographs: of good parts. Pseudo anomalies are painted on those that the streams were not trained on, or on
            all if there are none.
        how: one of `HOW`. None: the choice stays as it was; its figures go, since they are of another threshold.
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
    """The gain of F1 by Segment Anything's outlines over the model's own.

    Args:
        model, photographs, seed, on_image: see `chosen_outlines`.
        sam: None: `segment_anything()`.

    Returns:
        None where fewer than `LEAST` pseudo anomalies lay in the model's region.
    """
    painted_on = [normal for normal in photographs if not normal.trained] or list(photographs)
    n, gains = number_of(len(painted_on)), []
    for done, pair in enumerate(pairs(model, painted_on, n, seed, sam), start=1):
        if pair.truth.any():
            gains.append(f1(pair.sharp.mask, pair.truth) - f1(pair.plain.mask, pair.truth))
        if on_image:
            on_image(done, n)
    return OutlineGain.of(gains) if len(gains) >= LEAST else None


def pairs(
    model: AnomalyMaps, photographs: Sequence[Normal], n: int, seed: int, sam: SegmentAnything | None = None
) -> Iterator[Pair]:
    """Paints `n` pseudo anomalies on photographs of good parts, in a random order, and outlines each in both ways.

    Args:
        model: that judges. The memory's own entries of a photograph do not count for it.
        photographs: of good parts; each is used again if they are fewer than `n`.
        n: number of pseudo anomalies.
        seed: decides order and damage.
        sam: None: `segment_anything()`.

    Raises:
        ImageError: a photograph cannot be used.
    """
    rng = np.random.default_rng(seed)
    for k in rng.permutation(max(n, len(photographs)))[:n] % len(photographs):
        normal = photographs[int(k)]
        image = read_picture(normal.path, bits=model.judging.bits).image
        inside = _inside(model, image)
        damaged, mask = probe_inside(image, inside, rng)
        truth = mask > 0 if inside is None else (mask > 0) & inside
        plain = judge_without(model, damaged, normal.remembered)
        yield Pair(plain, refined(plain, sam), truth)


@torch.inference_mode()
def judge_without(model: AnomalyMaps, image: np.ndarray, number: int) -> Prediction:
    """A prediction without the memory's own entries of one photograph.

    Args:
        model: in any mode; it is left as it is.
        image: HxWx3 uint8 RGB.
        number: of the photograph in the memory; -1: all entries count.
    """
    output = in_eval_mode(model)(input_of(model, [image]), model.judging.shown, [number])
    return judge_all(model.judging, [image], on_photographs(output, [image]), model.frame_size)[0]


def f1(predicted: np.ndarray, truth: np.ndarray) -> float:
    """F1 of a predicted mask in [0, 1], HxW bool each; 0 if the predicted one is empty."""
    return 2 * int((predicted & truth).sum()) / max(1, int(predicted.sum()) + int(truth.sum()))


def cost_text(photographs: int) -> str:
    """A sentence for people before "auto" begins: how long it takes on so many photographs."""
    n = number_of(photographs)
    return (
        f"Outlines by Segment Anything are tried on {n} pseudo anomalies: some seconds of a core for each that is "
        f"rejected, up to {math.ceil(n * LONGEST / 60)} minutes."
    )


def number_of(photographs: int) -> int:
    """How many pseudo anomalies are painted on so many photographs."""
    return min(MOST, max(FEWEST, photographs))


def choice_text(judging: Judging) -> str:
    """A sentence for people after "auto" or "on": what was chosen, and by which figures."""
    gain = judging.refine_gain
    if gain is None and judging.refine:
        return "Segment Anything outlines what it rejects, as you asked; whether that helps was not measured."
    if gain is None:
        return "Hardly a pseudo anomaly lay where the model looks, so outlines stay the model's own."
    figures = (
        f"Outlines by Segment Anything gain {100 * gain.mean:+.1f} points of F1 on {gain.n} pseudo anomalies "
        f"(standard error {100 * gain.standard_error:.1f})"
    )
    if judging.refine:
        return f"{figures}, so what the model rejects is outlined so, in some seconds more; --no-refine does without."
    return f"{figures}, which is not surely a gain, so outlines stay the model's own; --refine asks for the others."


def _inside(model: AnomalyMaps, image: np.ndarray) -> np.ndarray | None:
    """HxW bool of a photograph: the model's region; None: it has none, so all of the photograph counts."""
    if model.region is None:
        return None
    inside = model.region.inside.cpu().numpy()
    return cv2.resize(inside, image.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
