"""Held-out photographs of good parts -> how a model judges: the scales of its maps, and a threshold for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..models.stlm.anomaly_maps import AnomalyMaps
from ..models.stlm.judging import Calibration
from ..predict.photographs import load_each
from ..predict.predictor import infer
from .map_scales import measure_scales
from .threshold import choose_threshold


def calibrate(
    model: AnomalyMaps,
    photographs: Sequence[Path],
    false_alarm_rate: float,
    which: Sequence[str] | None = None,
    on_image: Callable[[int, int], None] | None = None,
) -> dict[str, Calibration]:
    """Measures scales and threshold and sets `model.judging`. The map that judges stays.

    Args:
        model: as it will be used, with the weights that are in its folder.
        photographs: of good parts that the model was not trained on, at least 4.
        false_alarm_rate: share of good parts that may be judged anomalous, in (0, 0.5].
        which: maps to choose a threshold for; None: all that the model has. The one that judges must be among them.
        on_image: called with (done, total) after each photograph; "combined" looks at each of them twice.

    Returns:
        The threshold of each of these maps.

    Raises:
        DataError: there are too few photographs, or the maps do not vary on them.
        ImageError: a photograph cannot be used.
    """
    judging, n = model.judging, len(photographs)
    twice = n if judging.anomaly_map == "combined" else 0
    if twice:
        images = load_each(photographs, on_image, total=2 * n)
        model.judging = judging.replace(scales=measure_scales(model, images))
    names = tuple(model.available if which is None else which)
    scores: dict[str, list[float]] = {name: [] for name in names}
    for maps in infer(model, load_each(photographs, on_image, before=twice, total=twice + n), names):
        for name, scored in maps.items():
            scores[name].append(scored.score)
    found = {name: choose_threshold(values, false_alarm_rate) for name, values in scores.items()}
    model.judging = model.judging.replace(
        calibration=found[judging.anomaly_map], held_out_scores=tuple(scores[judging.anomaly_map])
    )
    return found
