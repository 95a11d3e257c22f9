"""A model for another camera, light or batch of parts: the network stays, threshold and scales are found anew.

The same for a model that is to judge by another of its maps.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from .. import __version__
from ..errors import ConfigError, STLMError
from ..fingerprint import fingerprint
from ..model_folder import hub
from ..model_folder.card.card import calibrations, render_card, write_card
from ..model_folder.folder import FILES, check_output, make_parent
from ..models.stlm.anomaly_maps import KINDS
from ..models.stlm.config import STLMConfig
from ..predict.photographs import load_each
from ..predict.predictor import infer
from ..stlm import STLM
from .map_scales import measure_scales
from .threshold import DEFAULT_FALSE_ALARM_RATE, calibrate, check_enough, check_false_alarm_rate

_MAP_OF = {kind.figures: name for name, kind in KINDS.items()}


def recalibrate(
    model: STLM,
    photographs: Sequence[Path],
    output: Path,
    *,
    repo_id: str,
    results: dict[str, Any] | None = None,
    false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE,
    anomaly_map: str | None = None,
    on_image: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Writes a model folder with the network of `model` and a threshold from a user's own good photographs.

    Scores are those of the float16 weights that the folder holds. Neither `model` nor `results` is changed, and the
    folder is written only when everything is known: an exception of `on_image` leaves nothing behind.

    Args:
        model: on the device to compute on.
        photographs: at least 4 different ones of good parts, that the model was not trained on.
        output: receives config.json, model.safetensors (float16), results.json and README.md.
        repo_id: `org/repo` that the card shows.
        results: what results.json of `model` says; without it the new one holds only what is known here.
        false_alarm_rate: share of good parts that may be judged anomalous, in (0, 0.5].
        anomaly_map: that judges from now on, one of `STLMConfig.anomaly_map`; None: the one that did. "combined" gets
            its scales from these photographs too: where another light lifts one of its maps as a whole, that map would
            decide alone on the scales of before.
        on_image: told (done, total) after each photograph; "combined" looks at each of them twice.

    Returns:
        What results.json holds. `recalibration` in it says that the threshold is not the training's, and what was
        before; `metrics.fnr` is at the new threshold, and null for the maps that have none. Scores and curves of the
        test photographs go where another map judges, or the combined one on other scales: they are not its own.

    Raises:
        DataError: fewer than 4 photographs, or the false-alarm rate is out of range.
        ImageError: a photograph cannot be used.
        ConfigError: `results` are not of `model`, `output` holds something else or cannot be written, or the model has
            no such map.
    """
    check_false_alarm_rate(false_alarm_rate)
    check_enough(len(photographs))
    check_output(output)
    before = model.config
    _check_results(results, before)
    if anomaly_map == "memory" and not before.memory_entries:
        raise ConfigError(
            "This model has no memory of normal patches; name another map, or train it with memory_entries."
        )
    judging = before.replace(anomaly_map=anomaly_map or before.anomaly_map)
    make_parent(output)
    with TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as name:
        folder = Path(name)
        model.save_pretrained(folder, dtype=torch.float16)
        saved = STLM.from_pretrained(folder, device=next(model.parameters()).device)
        saved.config = judging
        which, n = judging.anomaly_map, len(photographs)
        first_look = n if which == "combined" else 0
        if first_look:
            images = load_each(photographs, on_image, total=2 * n)
            saved.config = judging.replace(combined_maps=measure_scales(saved, images))
        images = load_each(photographs, on_image, before=first_look, total=first_look + n)
        scores = [maps[which].score for maps in infer(saved, images, (which,))]
        saved.config = saved.config.replace(calibration=calibrate(scores, false_alarm_rate))
        saved.save_pretrained(folder, dtype=torch.float16)
        made = {
            **_amended(results or {}, before, saved.config, repo_id),
            "held_out_scores": scores,
            "parameters": sum(p.numel() for p in saved.parameters()),
            "weights": {
                "sha256": hub.file_sha256(folder / hub.WEIGHTS_NAME),
                "bytes": (folder / hub.WEIGHTS_NAME).stat().st_size,
                "dtype": "float16",
            },
        }
        made["dataset"]["held_out"] = {"n": n, "sha256": fingerprint(photographs)}
        (folder / "results.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
        write_card(folder, repo_id)
        output.mkdir(exist_ok=True)
        for file in FILES:
            (folder / file).replace(output / file)
    return made


def _check_results(results: Any, config: STLMConfig) -> None:
    if results is None:
        return
    parts = ("dataset", "weights", "test_scores", "recalibration", *_MAP_OF)
    strange = ConfigError("results.json of the model is not what a training writes; leave it out.")
    if not isinstance(results, dict) or not all(isinstance(results.get(part) or {}, dict) for part in parts):
        raise strange
    for scores in (results.get("test_scores") or {}).values():
        if not isinstance(scores, list) or not all(isinstance(score, (int, float)) for score in scores):
            raise strange
    if results.get("recalibration") and "training_results" not in results["recalibration"]:
        raise strange
    if results.get("calibration") != _calibration(config):
        raise ConfigError(
            "results.json and config.json of the model say different thresholds; evaluate it again, or leave "
            "results.json out."
        )
    try:  # before any photograph is looked at
        render_card(results, config, repo_id="model")
    except STLMError:
        raise
    except Exception as error:  # a stranger's file may hold anything anywhere
        raise strange from error


def _amended(results: dict[str, Any], before: STLMConfig, config: STLMConfig, repo_id: str) -> dict[str, Any]:
    """What the training's results still say, with what the new threshold changes, and perhaps the new map.

    `recalibration` keeps of earlier calibrations what they change for good: the map that judged after the training, and
    the commands.
    """
    calibration = config.calibration
    assert calibration is not None
    made = copy.deepcopy(results)
    known = made.get("recalibration") or {"training_results": bool(results)}
    alias = repo_id.rsplit("/", 1)[-1]
    command = f"stlm calibrate FOLDER --model {made.get('alias') or 'MODEL'} --output {alias}"
    if calibration.false_alarm_rate != DEFAULT_FALSE_ALARM_RATE:
        command += f" --false-alarm-rate {calibration.false_alarm_rate}"
    if config.anomaly_map != before.anomaly_map:
        command += f" --map {config.anomaly_map}"
    if (config.anomaly_map, config.combined_maps) != (before.anomaly_map, before.combined_maps):
        made |= {"test_scores": None, "curves": None}  # of a map that no longer judges
    dataset = made.get("dataset") or {}
    made["recalibration"] = {
        "before": {
            "alias": made.get("alias"),
            "repo_id": made.get("repo_id"),
            "weights_sha256": (made.get("weights") or {}).get("sha256"),
            "held_out": dataset.get("held_out"),
            "calibration": _calibration(before),
            "map": KINDS[before.anomaly_map].label,
        },
        "training_results": known["training_results"],
        "trained_map": known.get("trained_map", before.anomaly_map),
        "commands": [*calibrations(known), command],
        "stlm_hub": __version__,
    }
    anomalous = (made.get("test_scores") or {}).get("anomalous")
    for part, kind in _MAP_OF.items():
        if made.get(part):
            # Scores of other maps are not kept, and nothing chose a threshold for them here.
            judged = anomalous if kind == config.anomaly_map else None
            missed = sum(score < calibration.threshold for score in judged) / len(judged) if judged else None
            made[part]["fnr"] = missed
    for other in made.get("other_seeds") or []:  # theirs were at thresholds of their own
        for part in _MAP_OF:
            if other.get(part):
                other[part]["fnr"] = None
    return {
        **made,
        "alias": alias,
        "category": config.category,
        "dataset": dataset,
        "repo_id": repo_id,
        "calibration": asdict(calibration),
        "image_size": config.image_size,
        "anomaly_map": config.anomaly_map,
        "feature_levels": list(config.feature_levels),
    }


def _calibration(config: STLMConfig) -> dict[str, Any] | None:
    return asdict(config.calibration) if config.calibration else None
