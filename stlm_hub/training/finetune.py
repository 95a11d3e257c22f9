"""Fine-tuning on a user's own folder of good photographs: no test set, no masks, no layout."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..calibration.outlines import check_refine
from ..calibration.threshold import DEFAULT_FALSE_ALARM_RATE, MIN_HELD_OUT, check_false_alarm_rate
from ..errors import ConfigError, DataError
from ..model_folder.folder import check_output
from ..model_folder.names import PLOTS
from ..model_folder.results import Command, DatasetFacts, Provenance
from ..models.stlm.config import NetworkConfig, PatchMemoryConfig, STLMConfig, size_text, smallest_defect
from ..predict.images import printable
from ..predict.photographs import MIN_TRAINING_PHOTOGRAPHS, check_photographs
from ..predict.region_mask import area_on_frame, looked_at, on_frame
from ..pseudo_anomalies.nuisance import of_camera
from ..pseudo_anomalies.synthesis import SynthesisConfig
from ..pseudo_anomalies.textures import TextureSource
from ..starting_weights.sources import starting_weights
from ..starting_weights.starting_weights import StartingWeights
from ..validate import expanded
from .budget import check_seconds, steps_of_run, steps_within
from .config import TrainingConfig
from .data import Split, split_normals
from .fill_memory import count_patches
from .input_size import choose_input
from .observer import Observer
from .one_at_a_time import one_at_a_time
from .pipeline import Job, run
from .processes import processes

DEFAULT_STEPS = 400
LEVELS = ("stage1", "stage2", "embedding", "decoder")
MEMORY = PatchMemoryConfig()


def held_out_of(photographs: int) -> int:
    """How many of so many photographs are held out at the least: 10, or a third of fewer, but not below 4.

    A threshold for 1 % lies 5.1 standard deviations above the mean of 4 scores, 3.2 above that of 8 and 3.0 above that
    of 10: with the first, defects that everybody sees stay below it.
    """
    return max(MIN_HELD_OUT, min(10, photographs // 3))


def small_machine(steps: int, seed: int = 0, rotation: str = "none", camera: str = "normal") -> TrainingConfig:
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
        nuisance=of_camera(camera),
        synthesis=SynthesisConfig(families=("perlin", "perlin", "nsa", "cutpaste_union")),
    )


@dataclass(frozen=True)
class Options:
    """What a user may choose; the defaults are those of `finetune`, which says what each means."""

    steps: int = DEFAULT_STEPS
    size: int | None = None
    tiles: str = "auto"
    minimum_area: float = 0.0
    rotation: str = "none"
    seed: int = 0
    memory_entries: int | None = None
    backbone: str = MEMORY.backbone
    false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE
    camera: str = "normal"
    careful: bool = False
    bits: int | None = None
    refine: str = "off"

    def model(self, name: str, shape: tuple[int, int], *, region: bool = False) -> STLMConfig:
        """The model that is trained, with as large a memory as is wanted.

        Args:
            name: of the model.
            shape: usual height and width of the photographs in pixels.
            region: whether only a part of them counts.

        Raises:
            ConfigError: an option is out of range.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}", name):
            raise ConfigError(f"A model's name is made of letters, digits, dots and dashes; {name!r} is not.")
        if self.steps < 0:
            raise ConfigError(f"steps must be at least 0, not {self.steps}.")
        entries = MEMORY.entries if self.memory_entries is None else self.memory_entries
        if not self.steps and not entries:
            raise ConfigError(
                "Without steps and without memory entries there is nothing to judge by; give one of them."
            )
        input_size, tiles = choose_input(shape, self.size, self.tiles)
        return STLMConfig(
            network=NetworkConfig(input_size=input_size, tiles=tiles, feature_levels=LEVELS),
            patch_memory=PatchMemoryConfig(entries, MEMORY.channels, self.backbone) if entries else None,
            streams=self.steps > 0,
            region=region,
            category=name,
            dataset="own photographs",
        )

    def training(self) -> TrainingConfig:
        """How it is trained.

        Raises:
            ConfigError: an option is out of range.
        """
        settings = small_machine(max(1, self.steps), self.seed, self.rotation, self.camera)
        return dataclasses.replace(settings, bits=self.bits)

    def command(self, name: str, left_out: Sequence[str] = (), **files: bool) -> Command:
        """`stlm finetune` with what differs from the defaults.

        Args:
            name: of the model.
            left_out: names of photographs.
            files: options that name a file or folder, and whether they do.
        """
        default = Options()
        values: dict[str, tuple[Any, Any]] = {
            "steps": (self.steps, default.steps),
            "size": (self.size, default.size),
            "tiles": (self.tiles, default.tiles),
            "minimum-area": (self.minimum_area, default.minimum_area),
            "seed": (self.seed, default.seed),
            "memory-entries": (self.memory_entries, default.memory_entries),
            "backbone": (default.backbone if self.memory_entries == 0 else self.backbone, default.backbone),
            "rotation": (self.rotation, default.rotation),
            "camera": (self.camera, default.camera),
            "careful": (self.careful, default.careful),
            "bits": (self.bits, default.bits),
            "refine": (self.refine, default.refine),
            "false-alarm-rate": (self.false_alarm_rate, default.false_alarm_rate),
        }
        changed = {option: value for option, (value, usual) in values.items() if value != usual}
        named = {option: "DIR" if option == "textures" else "FILE" for option, given in files.items() if given}
        names = {"leave-out": tuple(map(printable, left_out))} if left_out else {}
        return Command("stlm finetune", ("FOLDER",), {"name": name, **changed, **names, **named})


def finetune(
    photographs: str | Path,
    name: str,
    *,
    output: str | Path | None = None,
    steps: int = DEFAULT_STEPS,
    minutes: float | None = None,
    size: int | None = None,
    tiles: str = "auto",
    region: str | Path | None = None,
    ignore: str | Path | None = None,
    minimum_area: float = 0.0,
    false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE,
    rotation: str = "none",
    camera: str = "normal",
    careful: bool = False,
    seed: int = 0,
    memory_entries: int | None = None,
    backbone: str = MEMORY.backbone,
    textures: str | Path | None = None,
    starting_from: str | Path | None = None,
    leave_out: Sequence[str] = (),
    bits: int | None = None,
    refine: str = "off",
    observer: Observer | None = None,
) -> Path:
    """Trains a model of one part from photographs of good parts.

    Args:
        photographs: folder of at least 8 different photographs.
        name: of the model: letters, digits, dots, dashes.
        output: the model folder to write, by default `models/<name>`; `<output>.run` keeps checkpoints, so that the
            same call goes on after an interruption.
        steps: optimiser steps of 4 photographs. 0: a model in half a minute, whose memory judges alone.
        minutes: time for the training, in place of `steps`: a few steps are measured first, see `steps_within`. The
            same call goes on with the number of steps that it began with.
        size: longer side in pixels of what the network sees at once, a multiple of 64; smaller defects need a larger
            one. None: that of about 256 x 256 px in the photographs' own aspect.
        tiles: "auto": a photograph that would be shrunk more than four times is cut into overlapping tiles; "none"; or
            rows and columns, "3x4". See `choose_input`.
        region: picture of the photographs' shape, white where to look; None: everywhere.
        ignore: the opposite, white where not to look.
        minimum_area: pixels of a photograph; a smaller connected region is no defect.
        false_alarm_rate: share of good parts that may be judged anomalous, in (0, 0.5].
        rotation: "none", or how parts may lie: "slight", "quarter", "full" (see `TrainingConfig.rotation`).
        camera: how much photographs of one part may differ in light, focus and noise: "fixed", "normal" or "rough", see
            `pseudo_anomalies.nuisance`.
        careful: keeps the threshold above all photographs, for parts of which the next batch differs.
        seed: decides held-out photographs, shuffling, pseudo anomalies and initial weights.
        memory_entries: number of normal patches to remember beside the streams, by default 4096 (2.5 MB), or as many as
            the photographs have; the combined map then judges, see `anomaly_maps`. 0 is the paper's method, judged by
            the map with aggregation. The same call with another number does not train again.
        backbone: whose features these patches are, one of `BACKBONES`.
        textures: folder of photographs whose material is pasted; by default the built-in source.
        starting_from: file of starting weights; by default MobileSAM's, see `starting_weights.sources`.
        leave_out: names of photographs in the folder that are not good after all.
        bits: that photographs of 16 bits use: 10, 12, 14 or 16. None: found on all of them together; the model keeps
            it, and reads what it judges alike.
        refine: whether Segment Anything outlines what the model rejects: "auto" where that helps on pseudo anomalies on
            held-out photographs, which takes a minute or two of a core; "on"; "off". See `calibration.outlines`.
        observer: called while it works.

    Returns:
        The model folder; `STLM.from_pretrained` loads it.

    Raises:
        DataError: the photographs cannot be used, see `check_photographs`; or the false-alarm rate is out of range.
        ConfigError: an option is out of range, `minutes` are given to several processes, `output` holds something else
            than a model or cannot be made, or another run is at work on it.
        TrainingError: the photographs have fewer patches than `memory_entries`.
        WeightsError: the starting weights, or those of the memory's backbone or of Segment Anything for `refine`,
            cannot be had.
    """
    observer = observer or Observer()
    options = Options(
        steps,
        size,
        tiles,
        minimum_area,
        rotation,
        seed,
        memory_entries,
        backbone,
        false_alarm_rate,
        camera,
        careful,
        bits,
        refine,
    )
    options.model(name, (1, 1))  # refuses what cannot be before a photograph is read
    training = options.training()
    here = processes()
    if minutes is not None:
        check_seconds(60 * minutes)
        if here.num_processes > 1:
            raise ConfigError("A budget of minutes is measured in one process; give several processes steps instead.")
    check_false_alarm_rate(false_alarm_rate)
    check_refine(refine)
    folder = expanded(photographs)
    target = _target(output, name, folder)
    source_of_textures = TextureSource.from_folder(textures) if textures else None
    split, shape, found_bits = _split(folder, training, leave_out, observer)
    training = dataclasses.replace(training, bits=found_bits)
    config = options.model(name, shape, region=bool(region or ignore))
    frame = config.network.frame_size
    inside = _region(region, ignore, shape, frame)
    _say_size(observer, shape, config.network)
    if memory_entries is None and config.patch_memory is not None:
        entries = min(MEMORY.entries, count_patches(config.network, len(split.photographs), inside))
        config = config.replace(patch_memory=dataclasses.replace(config.patch_memory, entries=entries))
    weights = None
    if config.streams:
        with here.main_process_first():  # the others find what it fetched
            weights = starting_weights(
                expanded(starting_from) if starting_from else None, on_message=observer.on_message
            )
    work = _make_work(target)
    with one_at_a_time(work) if here.is_main_process else nullcontext():
        if minutes is not None and weights is not None:
            steps = _measured_steps(minutes, work, split, config, training, weights, source_of_textures, observer)
            options = dataclasses.replace(options, steps=steps)
        job = Job(
            split=split,
            config=config,
            anomaly_map="combined" if config.patch_memory else "aggregation",
            training=dataclasses.replace(options.training(), bits=training.bits),
            nuisance=of_camera(camera),
            region=inside,
            minimum_area=area_on_frame(minimum_area, shape, frame),
            careful=careful,
            refine=refine,
            weights=weights,
            provenance=Provenance(
                alias=name,
                repo_id=f"your-name/{name}",
                weights_license="other",
                commands=(
                    options.command(
                        name,
                        leave_out,
                        textures=bool(textures),
                        weights=bool(starting_from),
                        region=bool(region),
                        ignore=bool(ignore),
                    ),
                ),
            ),
            dataset=DatasetFacts(name="own photographs", license="other", photograph=shape),
            work=work,
            output=target,
            textures=source_of_textures,
            false_alarm_rate=false_alarm_rate,
        )
        run(job, observer)
    return target


def _target(output: str | Path | None, name: str, photographs: Path) -> Path:
    """The folder to write, which holds nothing that must not be written over."""
    target = expanded(output) if output else Path("models") / name
    if not target.name:  # "."
        target = target.absolute()
    if target.resolve() == photographs.resolve():
        raise ConfigError(f"{target} is the folder of the photographs; name another folder for the model.")
    check_output(target, (*PLOTS, "LICENSE", ".gitattributes"))
    return target


def _region(
    region: str | Path | None, ignore: str | Path | None, shape: tuple[int, int], frame: tuple[int, int]
) -> np.ndarray | None:
    """HxW bool of the frame: the part that counts; None: all of it."""
    wanted = looked_at(region, ignore, shape)
    return None if wanted is None else on_frame(wanted, frame)


def _say_size(observer: Observer, shape: tuple[int, int], network: NetworkConfig) -> None:
    seen = smallest_defect(shape, network.frame_size)
    observer.on_message(
        f"Photographs of {shape[1]}x{shape[0]} px are brought to {size_text(network)}: defects from about {seen:.0f} "
        "px can be seen. Smaller ones take a larger --size, or more --tiles, and the time of their pixels."
    )


def _split(
    folder: Path, training: TrainingConfig, leave_out: Sequence[str], observer: Observer
) -> tuple[Split, tuple[int, int], int | None]:
    """Photographs to train on and to hold out, their usual height and width, and their depth in bits."""
    found = check_photographs(folder, bits=training.bits)
    names = {path.name for path in found.paths}
    if unknown := [name for name in leave_out if name not in names]:
        raise ConfigError(f"There is no photograph {unknown[0]} in {folder} that could be left out.")
    paths = [path for path in found.paths if path.name not in leave_out]
    if len(paths) < MIN_TRAINING_PHOTOGRAPHS:
        raise DataError(f"{len(paths)} photographs are left; training needs at least {MIN_TRAINING_PHOTOGRAPHS}.")
    for duplicate, original in found.duplicates:
        observer.on_message(f"{duplicate.name} is the same frame as {original.name} and is left out.")
    for note in found.notes:
        observer.on_message(note)
    split = split_normals(paths, training.held_out, training.seed, at_least=held_out_of(len(paths)))
    return split, found.shape, found.bits


def _make_work(target: Path) -> Path:
    work = target.with_name(target.name + ".run")
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{work} cannot be made ({error.strerror}); name another folder for the model.") from error
    return work


def _measured_steps(
    minutes: float,
    work: Path,
    split: Split,
    config: STLMConfig,
    training: TrainingConfig,
    weights: StartingWeights,
    textures: TextureSource | None,
    observer: Observer,
) -> int:
    seconds = 60 * minutes

    def measure() -> int:
        return steps_within(
            seconds,
            split.train,
            config.network,
            training,
            weights,
            textures=textures,
            should_stop=observer.should_stop,
        )

    steps = steps_of_run(work, seconds, config.network, training, measure)
    observer.on_message(f"{minutes:g} minutes are {steps} steps on this machine.")
    return steps
