"""Fine-tuning on a user's own folder of good photographs: no test set, no masks, no layout."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..calibration.threshold import DEFAULT_FALSE_ALARM_RATE, MIN_PHOTOGRAPHS, check_false_alarm_rate
from ..errors import ConfigError
from ..model_folder.card.card import PLOTS
from ..model_folder.folder import check_output
from ..models.stlm.config import STLMConfig
from ..predict.photographs import check_photographs
from ..starting_weights.sources import starting_weights
from .budget import check_seconds, steps_of_run, steps_within
from .config import TrainingConfig
from .data import split_normals
from .fill_memory import check_memory, check_memory_encoder, patches_of
from .pipeline import Observer, Source, run
from .pseudo_anomalies.synthesis import SynthesisConfig
from .pseudo_anomalies.textures import TextureSource

DEFAULT_STEPS = 400
DEFAULT_IMAGE_SIZE = 256
LEVELS = ("stage1", "stage2", "embedding", "decoder")
MEMORY_ENTRIES, MEMORY_ENCODER = 4096, "efficientnet_lite0"


def held_out_of(photographs: int) -> int:
    """How many of so many photographs are held out at the least: 10, or a third of fewer, but not below 4.

    A threshold for 1 % lies 5.1 standard deviations above the mean of 4 scores, 3.2 above that of 8 and 3.0 above that
    of 10: with the first, defects that everybody sees stay below it.
    """
    return max(MIN_PHOTOGRAPHS, min(10, photographs // 3))


def small_machine(steps: int, seed: int = 0, rotation: str = "none") -> TrainingConfig:
    """Settings that train in minutes without a GPU; the zoo's `cpu` recipes use the same, longer."""
    return TrainingConfig(
        steps=steps,
        batch_size=4,
        teacher="mobile",
        frozen_stages=1,
        learning_rate=3e-4,
        warmup_steps=min(30, max(1, steps // 10)),
        final_learning_rate=0.02,
        rotation=rotation,
        checkpoint_every=50,
        seed=seed,
        synthesis=SynthesisConfig(families=("perlin", "perlin", "nsa", "cutpaste_union")),
    )


def settings(
    name: str,
    *,
    steps: int = DEFAULT_STEPS,
    image_size: int = DEFAULT_IMAGE_SIZE,
    rotation: str = "none",
    seed: int = 0,
    memory_entries: int = MEMORY_ENTRIES,
    memory_encoder: str = MEMORY_ENCODER,
) -> tuple[STLMConfig, TrainingConfig]:
    """What `finetune` trains, and how, with the same options.

    Raises:
        ConfigError: an option is out of range.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}", name):
        raise ConfigError(f"A model's name is made of letters, digits, dots and dashes; {name!r} is not.")
    if steps < 1:  # 0 steps mean 200 epochs to a recipe
        raise ConfigError(f"steps must be at least 1, not {steps}.")
    model_config = STLMConfig(
        image_size=image_size,
        feature_levels=LEVELS,
        memory_entries=memory_entries,
        memory_encoder=memory_encoder,
        anomaly_map="combined" if memory_entries else "aggregation",
        category=name,
        dataset="own photographs",
    )
    if not memory_entries:
        model_config = model_config.replace(memory_encoder="plain")
    return model_config, small_machine(steps, seed, rotation)


def finetune(
    photographs: str | Path,
    name: str,
    *,
    output: str | Path | None = None,
    steps: int = DEFAULT_STEPS,
    minutes: float | None = None,
    image_size: int = DEFAULT_IMAGE_SIZE,
    false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE,
    rotation: str = "none",
    seed: int = 0,
    memory_entries: int | None = None,
    memory_encoder: str = MEMORY_ENCODER,
    textures: str | Path | None = None,
    starting_from: str | Path | None = None,
    observer: Observer | None = None,
) -> Path:
    """Trains a model of one part from photographs of good parts.

    Args:
        photographs: folder of at least 8 different photographs.
        name: of the model: letters, digits, dots, dashes.
        output: the model folder to write, by default `models/<name>`; `<output>.run` keeps checkpoints, so that the
            same call
            goes on after an interruption.
        steps: optimiser steps of 4 photographs.
        minutes: time for the training, in place of `steps`: a few steps are measured first, see `steps_within`. The
            same call goes on with the number of steps that it began with.
        image_size: side of the network's square input in pixels, a multiple of 64; smaller defects need a larger one.
        false_alarm_rate: share of good parts that may be judged anomalous, in (0, 0.5].
        rotation: "none", or how parts may lie: "slight", "quarter", "full" (see `TrainingConfig.rotation`).
        memory_entries: number of normal patches to remember beside the streams, by default 4096 (2.5 MB), or as many as
            the photographs have; the combined map then judges, see `anomaly_maps`. 0 is the paper's method, judged by
            the map with aggregation. The same call with another number does not train again.
        memory_encoder: whose features they are, see `STLMConfig.memory_encoder`.
        textures: folder of photographs whose material is pasted; by default the built-in source.
        starting_from: file of starting weights; by default MobileSAM's, see `stlm_hub.starting_weights.sources`.

    Returns:
        The model folder; `STLM.from_pretrained` loads it.

    Raises:
        DataError: the photographs cannot be used, see `check_photographs`; or the false-alarm rate is out of range.
        ConfigError: an option is out of range, or `output` holds something else than a model or cannot be made.
        TrainingError: the photographs have fewer patches than `memory_entries`.
        WeightsError: the starting weights, or those of the memory's encoder, cannot be had.
    """
    observer = observer or Observer()
    model_config, training = settings(
        name,
        steps=steps,
        image_size=image_size,
        rotation=rotation,
        seed=seed,
        memory_entries=MEMORY_ENTRIES if memory_entries is None else memory_entries,
        memory_encoder=memory_encoder,
    )
    if minutes is not None:
        check_seconds(60 * minutes)
    check_false_alarm_rate(false_alarm_rate)
    folder = Path(photographs)
    target = Path(output) if output else Path("models") / name
    if not target.name:  # "."
        target = target.absolute()
    if target.resolve() == folder.resolve():
        raise ConfigError(f"{target} is the folder of the photographs; name another folder for the model.")
    check_output(target, (*PLOTS, "LICENSE", ".gitattributes"))
    source_of_textures = TextureSource.from_folder(textures) if textures else None
    found = check_photographs(folder)
    for duplicate, original in found.duplicates:
        observer.on_message(f"{duplicate.name} is the same photograph as {original.name} and is left out.")
    split = split_normals(found.paths, training.held_out, seed, at_least=held_out_of(len(found.paths)))
    if memory_entries is None:
        entries = min(MEMORY_ENTRIES, patches_of(model_config, len(split.train)))
        model_config = model_config.replace(memory_entries=entries)
    check_memory(model_config, len(split.train))
    check_memory_encoder(model_config)
    work = target.with_name(target.name + ".run")
    weights = starting_weights(Path(starting_from) if starting_from else None, on_message=observer.on_message)
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{work} cannot be made ({error.strerror}); name another folder for the model.") from error
    if minutes is not None:
        seconds, stop = 60 * minutes, observer.should_stop
        steps = steps_of_run(
            work,
            seconds,
            model_config,
            training,
            lambda: steps_within(
                seconds, split.train, model_config, training, weights, textures=source_of_textures, should_stop=stop
            ),
        )
        observer.on_message(f"{minutes:g} minutes are {steps} steps on this machine.")
        training = small_machine(steps, seed, rotation)
    options: dict[str, tuple[Any, Any]] = {
        "steps": (steps, DEFAULT_STEPS),
        "size": (image_size, DEFAULT_IMAGE_SIZE),
        "seed": (seed, 0),
        "memory-entries": (memory_entries, None),
        "memory-encoder": (MEMORY_ENCODER if memory_entries == 0 else memory_encoder, MEMORY_ENCODER),
    }
    options |= {"rotation": (rotation, "none"), "false-alarm-rate": (false_alarm_rate, DEFAULT_FALSE_ALARM_RATE)}
    source = Source(
        alias=name,
        dataset={"name": "own photographs", "license": "other", "homepage": "", "split": "no test set"},
        weights_license="other",
        repo_id=f"your-name/{name}",
        command=f"stlm finetune FOLDER --name {name}"
        + _changed(options)
        + (" --textures DIR" if textures else "")
        + (" --weights FILE" if starting_from else ""),
    )
    run(
        split,
        model_config,
        training,
        weights,
        source,
        work=work,
        output=target,
        textures=source_of_textures,
        false_alarm_rate=false_alarm_rate,
        observer=observer,
    )
    return target


def _changed(options: dict[str, tuple[Any, Any]]) -> str:
    return "".join(f" --{name} {value}" for name, (value, default) in options.items() if value != default)
