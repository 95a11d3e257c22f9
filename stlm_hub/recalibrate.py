"""A model for another camera, light or batch of parts: the network stays, the threshold is chosen anew."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from . import __version__, hub
from .calibration import DEFAULT_FALSE_ALARM_RATE, calibrate, check_false_alarm_rate
from .card import write_card
from .config import STLMConfig
from .errors import ConfigError
from .images import load_image
from .maps import KINDS
from .predictor import infer
from .stlm import STLM
from .training.data import fingerprint

FILES = (hub.CONFIG_NAME, hub.WEIGHTS_NAME, "results.json", "README.md")
_MAP_OF = {kind.figures: name for name, kind in KINDS.items()}


def recalibrate(
    model: STLM,
    photographs: Sequence[Path],
    output: Path,
    *,
    repo_id: str,
    results: dict[str, Any] | None = None,
    false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE,
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
        on_image: told (done, total) after each photograph.

    Returns:
        What results.json holds. `recalibration` in it says that the threshold is not the training's, and what was
        before; `metrics.fnr` is at the new threshold, and null for the map that has none.

    Raises:
        DataError: fewer than 4 photographs, or the false-alarm rate is out of range.
        ImageError: a photograph cannot be used.
        ConfigError: `results` are not of `model`, or `output` holds something else.
    """
    check_false_alarm_rate(false_alarm_rate)
    _check_output(output)
    before = model.config
    _check_results(results, before)
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as name:
        folder = Path(name)
        model.save_pretrained(folder, dtype=torch.float16)
        saved = STLM.from_pretrained(folder, device=next(model.parameters()).device)
        scores: list[float] = []
        for maps in infer(saved, (load_image(path) for path in photographs), (before.anomaly_map,)):
            scores.append(maps[before.anomaly_map].score)
            if on_image:
                on_image(len(scores), len(photographs))
        saved.config = before.replace(calibration=calibrate(scores, false_alarm_rate))
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
        made["dataset"]["held_out"] = {"n": len(scores), "sha256": fingerprint(photographs)}
        (folder / "results.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
        write_card(folder, repo_id)
        output.mkdir(exist_ok=True)
        for file in FILES:
            (folder / file).replace(output / file)
    return made


def _check_output(output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{output} is a file; name a new folder for the calibrated model.")
    others = sorted(path.name for path in output.iterdir() if path.name not in FILES) if output.exists() else []
    if others:
        raise ConfigError(f"{output} already holds {others[0]}; name a new folder for the calibrated model.")


def _check_results(results: Any, config: STLMConfig) -> None:
    if results is None:
        return
    parts = ("dataset", "weights", "test_scores", "recalibration", *_MAP_OF)
    strange = ConfigError("results.json of the model is not what a training writes; leave it out.")
    if not isinstance(results, dict) or not all(isinstance(results.get(part) or {}, dict) for part in parts):
        raise strange
    anomalous = (results.get("test_scores") or {}).get("anomalous") or []
    if not isinstance(anomalous, list) or not all(isinstance(score, (int, float)) for score in anomalous):
        raise strange
    if results.get("recalibration") and "training_results" not in results["recalibration"]:
        raise strange
    if results.get("calibration") != _calibration(config):
        raise ConfigError(
            "results.json and config.json of the model say different thresholds; evaluate it again, or leave "
            "results.json out."
        )


def _amended(results: dict[str, Any], before: STLMConfig, config: STLMConfig, repo_id: str) -> dict[str, Any]:
    """What the training's results still say, with what the new threshold changes."""
    calibration = config.calibration
    assert calibration is not None
    made = copy.deepcopy(results)
    known = made.get("recalibration") or {"training_results": bool(results)}
    alias = repo_id.rsplit("/", 1)[-1]
    command = f"stlm calibrate FOLDER --model {made.get('alias') or 'MODEL'} --output {alias}"
    if calibration.false_alarm_rate != DEFAULT_FALSE_ALARM_RATE:
        command += f" --false-alarm-rate {calibration.false_alarm_rate}"
    dataset = made.get("dataset") or {}
    made["recalibration"] = {
        "before": {
            "alias": made.get("alias"),
            "repo_id": made.get("repo_id"),
            "weights_sha256": (made.get("weights") or {}).get("sha256"),
            "held_out": dataset.get("held_out"),
            "calibration": _calibration(before),
        },
        "training_results": known["training_results"],
        "command": command,
        "stlm_hub": __version__,
    }
    anomalous = (made.get("test_scores") or {}).get("anomalous")
    for part, kind in _MAP_OF.items():
        if made.get(part):
            # The scores of the other map are not kept, and nothing chose a threshold for it here.
            judged = anomalous if kind == config.anomaly_map else None
            missed = sum(score < calibration.threshold for score in judged) / len(judged) if judged else None
            made[part]["fnr"] = missed
    return {
        **made,
        "alias": alias,
        "category": config.category,
        "dataset": dataset,
        "repo_id": repo_id,
        "calibration": asdict(calibration),
        "image_size": config.image_size,
        "feature_levels": list(config.feature_levels),
    }


def _calibration(config: STLMConfig) -> dict[str, Any] | None:
    return asdict(config.calibration) if config.calibration else None
