"""Fine-tuning on a user's own folder of good photographs: no test set, no masks, no layout."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from ..calibration.outlines import check_refine
from ..calibration.threshold import DEFAULT_FALSE_ALARM_RATE, MIN_HELD_OUT, check_false_alarm_rate
from ..errors import ConfigError
from ..model_folder.folder import check_output
from ..model_folder.names import PLOTS
from ..model_folder.provenance import DatasetFacts, Provenance
from ..models.stlm.config import NetworkConfig, size_text, smallest_defect
from ..predict.photographs import check_photographs, remaining
from ..predict.region_mask import area_on_frame, looked_at, on_frame
from ..pseudo_anomalies.nuisance import of_camera
from ..pseudo_anomalies.textures import TextureSource
from ..starting_weights.sources import starting_weights
from ..starting_weights.starting_weights import StartingWeights
from ..validate import expanded
from ..wording import number_of
from .budget import check_seconds, steps_of_run, steps_within
from .config import TrainingConfig
from .data import Split, split_normals
from .fill_memory import count_patches
from .job import Job
from .observer import Observer
from .one_at_a_time import one_at_a_time
from .options import DEFAULT_STEPS, MEMORY, Options
from .pipeline import run
from .processes import processes


def held_out_of(photographs: int) -> int:
    """Lowest number of photographs to hold out: 10, or a third if they are fewer than 30, but at least 4.

    Pseudo anomalies are painted on these alone, and their median corrects the scores of those that the streams were
    trained on, see `calibration.calibrate`. All photographs count for the threshold.
    """
    return max(MIN_HELD_OUT, min(10, photographs // 3))


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
        steps=steps,
        size=size,
        tiles=tiles,
        minimum_area=minimum_area,
        seed=seed,
        memory_entries=memory_entries,
        backbone=backbone,
        rotation=rotation,
        camera=camera,
        careful=careful,
        bits=bits,
        refine=refine,
        false_alarm_rate=false_alarm_rate,
        leave_out=tuple(leave_out),
        textures=textures,
        weights=starting_from,
        region=region,
        ignore=ignore,
    )
    _check(options, name, minutes)
    folder = expanded(photographs)
    target = _target(output, name, folder)
    source_of_textures = TextureSource.from_folder(textures) if textures else None
    usable = _read(folder, options, observer)
    job = _job(options, name, usable, source_of_textures, target, observer)
    _make(job.work)
    with one_at_a_time(job.work) if processes().is_main_process else nullcontext():
        if minutes is not None and job.weights is not None:
            options = dataclasses.replace(options, steps=_measured_steps(minutes, job, observer))
            job = dataclasses.replace(job, training=usable.training(options), provenance=_provenance(options, name))
        run(job, observer)
    return target


@dataclass(frozen=True)
class _Photographs:
    """The usable photographs of the user's folder.

    Args:
        split: photographs to train on and to hold out.
        shape: their usual height and width in pixels.
        bits: depth of those with 16 bits; None: there are none.
    """

    split: Split
    shape: tuple[int, int]
    bits: int | None

    def training(self, options: Options) -> TrainingConfig:
        """The settings for these photographs."""
        return dataclasses.replace(options.training(), bits=self.bits)


def _check(options: Options, name: str, minutes: float | None) -> None:
    """Refuses impossible options before a photograph is read. Raises ConfigError, DataError or WeightsError."""
    options.model(name, (1, 1))
    options.training()
    if minutes is not None:
        check_seconds(60 * minutes)
        if processes().num_processes > 1:
            raise ConfigError("A budget of minutes is measured in one process; give several processes steps instead.")
    check_false_alarm_rate(options.false_alarm_rate)
    check_refine(options.refine)


def _target(output: str | Path | None, name: str, photographs: Path) -> Path:
    """The folder to write. Raises ConfigError if it holds the photographs, or something else than a model."""
    target = expanded(output) if output else Path("models") / name
    if not target.name:  # "."
        target = target.absolute()
    if target.resolve() == photographs.resolve():
        raise ConfigError(f"{target} is the folder of the photographs; name another folder for the model.")
    check_output(target, (*PLOTS, "LICENSE", ".gitattributes"))
    return target


def _read(folder: Path, options: Options, observer: Observer) -> _Photographs:
    """Reads all photographs of a folder once, reports notes on them, and splits them.

    Raises:
        DataError: they cannot be used, see `check_photographs`, or too few are left.
        ConfigError: a photograph to leave out does not exist.
    """
    checked = check_photographs(folder, bits=options.bits)
    paths = remaining(checked.paths, options.leave_out, folder)
    for duplicate, original in checked.duplicates:
        observer.on_message(f"{duplicate.name} is the same frame as {original.name} and is left out.")
    for note in checked.notes:
        observer.on_message(note)
    held_out = options.training().held_out
    split = split_normals(paths, held_out, options.seed, at_least=held_out_of(len(paths)))
    return _Photographs(split, checked.shape, checked.bits)


def _job(
    options: Options, name: str, usable: _Photographs, textures: TextureSource | None, target: Path, observer: Observer
) -> Job:
    """The input of the pipeline for these photographs and options."""
    config = options.model(name, usable.shape)
    frame = config.network.frame_size
    wanted = looked_at(options.region, options.ignore, usable.shape)
    region = None if wanted is None else on_frame(wanted, frame)
    _say_size(observer, usable.shape, config.network)
    if options.memory_entries is None and config.patch_memory is not None:
        entries = min(MEMORY.entries, count_patches(config.network, len(usable.split.photographs), region))
        config = config.replace(patch_memory=dataclasses.replace(config.patch_memory, entries=entries))
    return Job(
        split=usable.split,
        config=config,
        anomaly_map="combined" if config.patch_memory else "aggregation",
        training=usable.training(options),
        nuisance=of_camera(options.camera),
        region=region,
        minimum_area=area_on_frame(options.minimum_area, usable.shape, frame),
        careful=options.careful,
        refine=options.refine,
        weights=_starting_weights(options, observer) if config.streams else None,
        provenance=_provenance(options, name),
        dataset=DatasetFacts(name="own photographs", license="other", photograph=usable.shape),
        work=target.with_name(target.name + ".run"),
        output=target,
        textures=textures,
        false_alarm_rate=options.false_alarm_rate,
    )


def _provenance(options: Options, name: str) -> Provenance:
    return Provenance(
        alias=name, repo_id=f"your-name/{name}", weights_license="other", commands=(options.command(name),)
    )


def _starting_weights(options: Options, observer: Observer) -> StartingWeights:
    file = expanded(options.weights) if options.weights else None
    with processes().main_process_first():  # the other processes then find the file in the cache
        return starting_weights(file, on_message=observer.on_message)


def _say_size(observer: Observer, shape: tuple[int, int], network: NetworkConfig) -> None:
    side = smallest_defect(shape, network.frame_size)
    observer.on_message(
        f"Photographs of {shape[1]}x{shape[0]} px are brought to {size_text(network)}: defects from about {side:.0f} "
        "px can be seen. To see smaller ones, give a larger --size or more --tiles; both take longer."
    )


def _make(work: Path) -> None:
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{work} cannot be made ({error.strerror}); name another folder for the model.") from error


def _measured_steps(minutes: float, job: Job, observer: Observer) -> int:
    assert job.weights is not None
    seconds, network, weights = 60 * minutes, job.config.network, job.weights

    def measure() -> int:
        return steps_within(
            seconds,
            job.split.train,
            network,
            job.training,
            weights,
            textures=job.textures,
            should_stop=observer.should_stop,
        )

    steps = steps_of_run(job.work, seconds, network, job.training, measure)
    observer.on_message(f"{minutes:g} min are enough for {number_of(steps, 'step')} on this machine.")
    return steps
