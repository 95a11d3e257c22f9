"""`stlm score`: one row for each photograph of an INPUT, in Parquet. A run that was cut off goes on where it was."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..detectors import judges_on_graphics_card, judging_folder
from ..errors import ConfigError, DataError
from ..files.fingerprint import file_sha256
from ..model_folder.names import DECIDING
from ..model_folder.zoo import local_folder
from ..predict.depth import check_bits
from ..predict.prediction import checked_threshold
from ..validate import expanded
from .inputs import find_photographs
from .output import Output, Plan, part_name
from .part import Done, Job, Part

ENGINES = ("local", "ray")
SMALLEST_PART, LARGEST_PART = 16, 1000
"""Photographs in a part. Larger parts: more is judged again after a kill. Smaller ones: more files."""
PARTS_A_WORKER = 8
"""Parts for each worker, within these limits: with several, all workers end at nearly the same time."""
_GRAPHS = ("model.onnx", "model.xml", "model.bin")


@dataclass(frozen=True)
class Scored:
    """What a run has done.

    Args:
        photographs: number in the whole input; each has one row now.
        before: number of these that earlier runs judged.
        errors: number of rows of this run with an error.
    """

    photographs: int
    before: int
    errors: int


def score(
    source: str,
    output: str,
    model: str | None = None,
    *,
    engine: str = "local",
    workers: int | None = None,
    maps: bool = False,
    threshold: float | None = None,
    bits: int | None = None,
    device: str | None = None,
    backend: str | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Scored:
    """Judges every photograph of the input and writes one row for each.

    Args:
        source: see `inputs.find_photographs`.
        output: path or address of the output folder, see `output`.
        model: as `stlm_hub.load` takes it; None: the model of the rows that the folder holds already.
        engine: "local": processes of this machine; "ray": actors of a Ray cluster.
        workers: number of processes or actors; None: one for each processor, on a graphics card one. 0: this process
            itself (only "local").
        maps: whether maps are kept, as PNG of 16 bits in Parquet.
        threshold: in [0, 1]; None: the calibrated one.
        bits: that photographs of 16 bits use, see `read_picture`; None: what the model knows.
        device, backend: of the model, as `stlm_hub.load` takes them. Rows of several are not told apart.
        on_progress: called with (done, total), numbers of photographs of this run.

    Raises:
        DataError: the input names no photograph or cannot be read, the output cannot be written or holds the rows of
            another input, model, threshold or depth, or workers keep ending.
        ConfigError: engine, workers, threshold or bits are not possible, or the model is not valid.
        HubError, WeightsError: the model cannot be had.
    """
    if engine not in ENGINES:
        raise ConfigError(f'There is no engine "{engine}"; use {" or ".join(ENGINES)}.')
    if workers is not None and not (0 if engine == "local" else 1) <= workers <= 10_000:
        raise ConfigError(f"--workers must be a whole number from 1 to 10000, not {workers}.")
    threshold = None if threshold is None else checked_threshold(threshold)
    check_bits(bits)
    processors = _processors()
    place = Output(output)
    before = place.plan()
    judge = _judge(model, before)
    usual = 1 if engine == "local" and judges_on_graphics_card(judge, device) else processors
    count = usual if workers is None else max(1, workers)
    plan, paths = _planned(source, judge, maps, count, place, before)
    plan = dataclasses.replace(plan, threshold=threshold, bits=bits)
    if before is not None:
        _check_same(place, before, plan)
        written = place.done()
    else:
        place.begin(plan)
        written = set()
    parts = [
        Part(number, tuple(paths[number * plan.part : (number + 1) * plan.part]))
        for number in range(plan.parts)
        if number not in written
    ]
    total = sum(len(part.paths) for part in parts)
    threads = 1 if engine == "ray" else max(1, processors // count)
    job = Job(plan.model, place.place, uuid.uuid4().hex, maps, threads, threshold, bits, device, backend)
    many = workers if engine == "ray" else count * (workers != 0)
    try:
        with place.used():
            errors = _run(job, parts, engine, many, total, on_progress)
    except BaseException:
        if before is None and not place.done():
            place.forget()
        raise
    if missing := set(range(plan.parts)) - place.done():
        raise DataError(f"{part_name(min(missing))} is missing in {output}; give the same command again.")
    return Scored(plan.photographs, plan.photographs - total, errors)


def _judge(model: str | None, before: Plan | None) -> str:
    """The model that judges: the one that is named, or that of the rows that the folder holds already."""
    if model is not None:
        return _lasting(model)
    if before is None:
        raise ConfigError("Which model is to judge? Name it with --model.")
    return before.model


def _planned(
    source: str, judge: str, maps: bool, workers: int, place: Output, before: Plan | None
) -> tuple[Plan, list[str]]:
    """The plan of this run, and the paths of its photographs.

    Args:
        source, maps: see `score`.
        judge: the model.
        workers: number of workers, which decides the size of the parts.
        place: the output folder.
        before: the plan that the folder holds; its size of parts is kept.
    """
    weights = _weights(judge)
    own = f"{place.place}/"  # what lies in the output folder is not part of the input
    paths = [path for path in find_photographs(source) if not path.startswith(own)]
    if not paths:
        raise DataError(f"All photographs of {source} lie in {place.place}; name another --output.")
    part = max(SMALLEST_PART, min(LARGEST_PART, len(paths) // (PARTS_A_WORKER * workers)))
    return Plan(source, len(paths), _digest(paths), judge, weights, maps, before.part if before else part), paths


def _run(
    job: Job,
    parts: Sequence[Part],
    engine: str,
    workers: int | None,
    total: int,
    on_progress: Callable[[int, int], None],
) -> int:
    """Judges all parts. Returns the number of rows with an error."""
    done_of: dict[int, int] = {}  # number of a part -> photographs of it that are done

    def on_photograph(number: int, done: int) -> None:
        if done_of.get(number) != done:
            done_of[number] = done
            on_progress(sum(done_of.values()), total)

    errors = 0
    for done in _engine(job, parts, engine, workers, on_photograph) if parts else ():
        errors += done.errors
        on_photograph(done.number, done.rows)
    return errors


def _engine(
    job: Job, parts: Sequence[Part], engine: str, workers: int | None, on_photograph: Callable[[int, int], None]
) -> Iterator[Done]:
    """Yields each part once it is written; `workers` 0 or None: this process, or as many as Ray has processors for."""
    if engine == "ray":
        from .cluster import judge_on_ray

        return judge_on_ray(job, parts, workers)
    from .local import judge_here, judge_in_processes

    if not workers:
        return judge_here(job, parts, on_photograph)
    return judge_in_processes(job, parts, workers, on_photograph)


def _processors() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _lasting(model: str) -> str:
    """A model's name that workers understand in any working folder: a folder's path made absolute."""
    folder = expanded(model)
    return str(folder.absolute()) if folder.is_dir() and local_folder(model) == folder else model


def _weights(model: str) -> str:
    """SHA-256 of the files that decide the predictions: of a model, or of the export that judges in its place."""
    folder = judging_folder(model)
    files = [folder / name for name in (*DECIDING, *_GRAPHS) if (folder / name).is_file()]
    return file_sha256(*files)


def _digest(paths: Sequence[str]) -> str:
    """SHA-256 of paths in order."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(os.fsencode(path) + b"\0")
    return digest.hexdigest()


def _option(name: str, value: float | None) -> str:
    return f"the model's own {name}" if value is None else f"--{name} {value}"


def _check_same(place: Output, before: Plan, now: Plan) -> None:
    """Refuses an output folder with rows of another plan.

    Raises:
        DataError: a field of the plan differs; the message names the first.
    """
    if before.weights != now.weights:
        what = f"of the model {before.model}" if before.model != now.model else "of the model as it was before"
    elif before.paths != now.paths:
        what = f"of other photographs ({before.photographs} of {before.input}, now {now.photographs} of {now.input})"
    elif before.maps != now.maps:
        what = f"{'with' if before.maps else 'without'} --maps"
    elif before.threshold != now.threshold:
        what = f"of {_option('threshold', before.threshold)}"
    elif before.bits != now.bits:
        what = f"of {_option('bits', before.bits)}"
    else:
        return
    raise DataError(f"{place.place} holds rows {what}; name another --output, or delete it.")
