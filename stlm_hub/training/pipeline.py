"""One whole run: photographs in, a finished model folder out. `stlm finetune` and the zoo's recipes both call it.

The order is train, save, load what was saved, calibrate, evaluate, write: every figure is of the folder's own weights.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from accelerate import PartialState

from ..calibration.map_scales import measure_scales
from ..calibration.threshold import DEFAULT_FALSE_ALARM_RATE, calibrate, check_enough, check_false_alarm_rate
from ..errors import TrainingError
from ..evaluation.evaluate import TestSet, curves, evaluate
from ..evaluation.plots import LOSSES, plot_curves, plot_losses, plot_score_histogram
from ..fingerprint import fingerprint
from ..model_folder import hub
from ..model_folder.card.card import PLOTS, write_card
from ..model_folder.card.text import public_source
from ..model_folder.folder import make_parent
from ..models.stlm.anomaly_maps import KINDS, available_maps
from ..models.stlm.config import STLMConfig
from ..predict.photographs import load_each
from ..predict.predictor import infer
from ..starting_weights.checkpoints import StartingWeights
from ..starting_weights.efficientnet_lite0 import load_imagenet_weights
from ..stlm import STLM
from . import checkpoint
from .config import TrainingConfig
from .data import Split
from .fill_memory import check_memory, check_memory_encoder, fill_memory
from .loop import StepReport, mixed_precision, train
from .machine import hardware, measure_latency, versions
from .objective import PAPER, Objective
from .pseudo_anomalies.textures import TextureSource
from .trained import Trained


@dataclass(frozen=True)
class Source:
    """What the results say of where a model came from.

    Args:
        alias: name of the model.
        dataset: name, license, homepage, split and, if need be, a note: as the card shows them.
        weights_license: of the trained weights, as the Hub names licences.
        repo_id: where the model is or will be published.
        command: what makes it again.
        profile: of the recipe, if there is one.
        paper: the paper's figures for the category, if there are any.
        commit: of the code, where it is known.
    """

    alias: str
    dataset: dict[str, Any]
    weights_license: str
    repo_id: str
    command: str
    profile: str = ""
    paper: dict[str, Any] | None = None
    commit: str = ""


@dataclass(frozen=True)
class Observer:
    """Whom a run tells of its progress; the defaults keep quiet."""

    on_step: Callable[[StepReport], None] | None = None
    on_image: Callable[[int, int], None] | None = None
    on_message: Callable[[str], None] = field(default=lambda message: None)
    should_stop: Callable[[], bool] | None = None


def run(
    split: Split,
    model_config: STLMConfig,
    training: TrainingConfig,
    weights: StartingWeights | None,
    source: Source,
    *,
    work: Path,
    output: Path,
    objective: Objective = PAPER,
    trained: Trained | None = None,
    test: TestSet | None = None,
    textures: TextureSource | None = None,
    teacher_checkpoint: Path | None = None,
    workers: int = 0,
    false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE,
    observer: Observer | None = None,
) -> dict[str, Any]:
    """Trains, calibrates, evaluates and writes one model folder.

    Args:
        split: photographs to train on and to calibrate with.
        weights: that the training starts from.
        work: checkpoints and logs; a run that was cut off goes on from there.
        objective: what the training minimises and moves.
        output: receives config.json, model.safetensors (float16), results.json, README.md and plots.
        trained: a network to take over instead of training one; `weights` are not needed then.
        test: photographs to evaluate on; None where a user has only good ones.
        textures, teacher_checkpoint, workers: see `loop.train`.
        false_alarm_rate: that the threshold is calibrated for.

    Returns:
        What results.json holds; nothing in the further processes of a distributed training, whose work ends with it.

    Raises:
        TrainingError: `observer.should_stop` ended the training or what comes after it, a checkpoint is kept; or the
            photographs are too few for the memory.
        WeightsError: the weights of the memory's encoder cannot be had.
        ConfigError: `output` cannot be written.
        DataError: too few photographs are held out, the false-alarm rate is out of range, or the maps do not vary on
            the held-out photographs, so they cannot be combined.
    """
    observer = _stoppable(observer or Observer())
    started = time.monotonic()
    check_memory(model_config, len(split.train))
    check_memory_encoder(model_config)
    check_enough(len(split.held_out))
    check_false_alarm_rate(false_alarm_rate)
    make_parent(output)
    now = {
        "hardware": hardware(),
        "date": datetime.date.today().isoformat(),
        "versions": versions() | ({"commit": source.commit} if source.commit else {}),
    }
    log: list[dict[str, float]] = []
    if trained is not None:
        model, facts = trained.network, trained.facts
        model.to("cuda" if torch.cuda.is_available() else "cpu")
    else:
        assert weights is not None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)  # the aggregation module is all that starts from random values
            model = STLM(model_config.for_training)
        observer.on_message(
            f"Training on {len(split.train)} photographs, {len(split.held_out)} are held out for calibration."
        )
        made = now | {"precision": mixed_precision(training.precision)}
        log = train(
            model,
            split.train,
            training,
            weights,
            work,
            objective=objective,
            textures=textures,
            teacher_checkpoint=teacher_checkpoint,
            workers=workers,
            facts=made,
            on_step=observer.on_step,
            should_stop=observer.should_stop,
        )
        total = objective.total_steps(training, len(split.train), PartialState().num_processes)
        reached = int(log[-1]["step"]) if log else 0
        if reached < total:
            raise TrainingError(
                f"Training stopped after step {reached} of {total}; the same command goes on from there."
            )
        facts = {
            "steps": total,
            "seconds": round(sum(record["seconds"] for record in log), 1),
            "final_losses": {name: _last_mean([record[name] for record in log]) for name in LOSSES},
            "starting_weights": {"source": public_source(weights.source), "sha256": weights.sha256},
        }
    if not PartialState().is_main_process:  # of a distributed training, which the loop has set up
        return {}
    if trained is None:
        facts |= _when_and_where(work / "checkpoints", made)
    model = _finished(model, model_config.replace(shared_stages=training.frozen_stages), split, training, observer)
    # The folder may hold the very network that is taken over, so it changes only once everything is known.
    with TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as making:
        folder = Path(making)
        model.save_pretrained(folder, dtype=torch.float16)
        model = STLM.from_pretrained(folder)

        observer.on_message(f"Calibrating on {len(split.held_out)} photographs of good parts that were not trained on.")
        if model_config.anomaly_map == "combined":
            scales = measure_scales(model, load_each(split.held_out, observer.on_image))
            model.config = model.config.replace(combined_maps=scales)
        which = available_maps(model.config)
        if not objective.trains_aggregation:
            which = tuple(name for name in which if name != "aggregation")  # that module is still random
        scores: dict[str, list[float]] = {name: [] for name in which}
        for maps in infer(model, load_each(split.held_out, observer.on_image), which):
            for name, scored in maps.items():
                scores[name].append(scored.score)
        calibrations = {name: calibrate(found, false_alarm_rate) for name, found in scores.items()}
        held_out_scores, calibration = scores[model_config.anomaly_map], calibrations[model_config.anomaly_map]
        model.config = model.config.replace(calibration=calibration)
        model.save_pretrained(folder, dtype=torch.float16)

        evaluation = None
        if test is not None:
            observer.on_message(f"Evaluating on {len(test.photographs)} test photographs.")
            thresholds = {name: found.threshold for name, found in calibrations.items()}
            evaluation = evaluate(model, test, thresholds, observer.on_image)
        results = {
            "alias": source.alias,
            "category": model_config.category,
            "profile": source.profile,
            "dataset": {
                **source.dataset,
                "train": {"n": len(split.train), "sha256": fingerprint(split.train)},
                "held_out": {"n": len(split.held_out), "sha256": fingerprint(split.held_out)},
                "test": _test_facts(test),
            },
            "weights_license": source.weights_license,
            "repo_id": source.repo_id,
            **{KINDS[name].figures: asdict(evaluation.metrics[name]) if evaluation else None for name in which},
            "calibration": asdict(calibration),
            "held_out_scores": held_out_scores,
            "test_scores": {"good": evaluation.good_scores, "anomalous": evaluation.anomalous_scores}
            if evaluation
            else None,
            "curves": curves(evaluation) if evaluation else None,
            "paper": source.paper,
            "training": training.to_dict() | ({} if objective is PAPER else {"objective": objective.name}),
            **facts,
            "command": source.command,
            "image_size": model_config.image_size,
            "anomaly_map": model_config.anomaly_map,
            "memory_entries": model_config.memory_entries,
            "memory_encoder": model_config.memory_encoder if model_config.memory_entries else None,
            "feature_levels": list(model_config.feature_levels),
            "seed": training.seed,
            "teacher": objective.teacher_name(training),
            "parameters": sum(p.numel() for p in model.parameters()),
            "latency": measure_latency(model, split.held_out),
            "weights": {
                "sha256": hub.file_sha256(folder / hub.WEIGHTS_NAME),
                "bytes": (folder / hub.WEIGHTS_NAME).stat().st_size,
                "dtype": "float16",
            },
            **now,
        }
        (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        _plots(folder, results, log)
        if trained is not None and trained.losses is not None:
            shutil.copyfile(trained.losses, folder / trained.losses.name)
        output.mkdir(exist_ok=True)
        for plot in PLOTS:
            (output / plot).unlink(missing_ok=True)  # of an earlier model
        for file in folder.iterdir():
            file.replace(output / file.name)
    write_card(output, source.repo_id)
    observer.on_message(f"{output} is finished after {(time.monotonic() - started) / 60:.0f} minutes.")
    return results


def _stoppable(observer: Observer) -> Observer:
    """What comes after the training has no steps, but photographs: there it can be stopped too."""

    def on_image(done: int, total: int) -> None:
        _stop_if_asked(observer)
        if observer.on_image:
            observer.on_image(done, total)

    return dataclasses.replace(observer, on_image=on_image)


def _stop_if_asked(observer: Observer) -> None:
    if observer.should_stop and observer.should_stop():
        raise TrainingError("Stopped after the training; the same command goes on from there.")


def _finished(trained: STLM, config: STLMConfig, split: Split, training: TrainingConfig, observer: Observer) -> STLM:
    """The trained network with what comes after the training: the memory, filled from the training photographs."""
    if not config.memory_entries:
        trained.config = config
        return trained
    model = STLM(config).eval().to(next(trained.parameters()).device)
    model.load_state_dict(model.state_dict() | trained.state_dict())
    if model.memory_encoder is not None:
        load_imagenet_weights(model.memory_encoder.network)
    observer.on_message(f"Filling the memory from {len(split.train)} photographs of the training.")

    def on_entry(done: int, total: int) -> None:
        _stop_if_asked(observer)
        if done == 0:
            observer.on_message(f"Choosing {total} patches to remember.")

    fill_memory(model, split.train, training.seed, observer.on_image, on_entry)
    return model


def _when_and_where(checkpoints: Path, now: dict[str, Any]) -> dict[str, Any]:
    """Precision of the training's last steps, and under "trained" their date, hardware and versions where they are not
    those of now: a training that was finished before is not trained again."""
    newest = checkpoint.latest(checkpoints)
    kept = (checkpoint.read_state(newest).get("facts") if newest else None) or now  # older ones do not know
    before = {name: value for name, value in kept.items() if name != "precision"}
    same = all(before[name] == now[name] for name in before)
    return {"precision": kept["precision"], **({} if same else {"trained": before})}


def _test_facts(test: TestSet | None) -> dict[str, Any] | None:
    if test is None:
        return None
    return {
        "n_good": len(test.good),
        "n_anomalous": len(test.anomalous),
        "sha256": fingerprint(test.photographs + test.masks),
    }


def _plots(output: Path, results: dict[str, Any], log: list[dict[str, float]]) -> None:
    test = results["test_scores"] or {"good": None, "anomalous": None}
    plot_score_histogram(
        output / "scores.png",
        results["held_out_scores"],
        results["calibration"]["threshold"],
        test["good"],
        test["anomalous"],
    )
    if log:
        plot_losses(
            output / "losses.png",
            [int(record["step"]) for record in log],
            {name: [record[name] for record in log] for name in LOSSES},
        )
    if results["curves"]:
        plot_curves(output / "curves.png", results["curves"])


def _last_mean(values: list[float], n: int = 50) -> float:
    return round(float(np.mean(values[-n:])), 5)
