"""Decoded photographs -> predictions of a model in PyTorch. Everything that judges in PyTorch goes through here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .frame import to_frame, to_input
from .prediction import Prediction
from .stream import batches
from .verdicts import Inferred, ScoredMap, judge_all

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.stlm.anomaly_maps import AnomalyMaps, AnomalyOutput


def predict(
    model: AnomalyMaps,
    images: Sequence[np.ndarray],
    threshold: float | None = None,
    review_threshold: float | None = None,
) -> list[Prediction]:
    """Judges decoded photographs, in order.

    Args:
        model: its `judging` names maps, top K and thresholds.
        images: HxWx3 uint8 RGB each.
        threshold: in [0, 1]; None is the calibrated one.
        review_threshold: in [0, `threshold`]; None is the calibrated one, moved with `threshold`.

    Raises:
        ConfigError: a threshold is out of range.
    """
    judging = model.judging
    inferred = infer(model, images, judging.shown)
    backend = model.acceleration.backend
    return judge_all(judging, images, inferred, model.frame_size, threshold, review_threshold, backend)


def infer(model: AnomalyMaps, images: Iterable[np.ndarray], which: Sequence[str]) -> Iterator[Inferred]:
    """Yields maps and scores of each image, and its distances from good photographs, in order.

    Args:
        model: in any mode; it is left as it is, see `in_eval_mode`.
        images: HxWx3 uint8 RGB each, of any size.
        which: names of maps, see `AnomalyMaps.available`.

    Raises:
        ConfigError: the model has no such map.
    """
    from ..models.acceleration import look
    from ..models.eval_mode import in_eval_mode

    for batch in batches(images, model.frame_size):
        yield from on_photographs(look(in_eval_mode(model), input_of(model, batch), which), batch)


def on_photographs(output: AnomalyOutput, images: Sequence[np.ndarray]) -> Iterator[Inferred]:
    """Splits the output for a batch: for each image, HxWx3, its maps in its own frame. In order."""
    arrays = {name: maps.values[:, 0].float().cpu().numpy() for name, maps in output.maps.items()}
    scores = {name: maps.scores.float().cpu().tolist() for name, maps in output.maps.items()}
    for i, image in enumerate(images):
        shape = image.shape[:2]
        maps = {name: ScoredMap(to_frame(arrays[name][i], shape), scores[name][i]) for name in arrays}
        yield Inferred(maps, tuple(output.distances[i].tolist()))


def input_of(model: AnomalyMaps, images: Sequence[np.ndarray]) -> Tensor:
    """HxWx3 uint8 RGB of any size -> Bx3xhxw float32 in [0, 255], in the model's frame and on its device."""
    return to_input(images, model.frame_size, next(model.parameters()).device)
