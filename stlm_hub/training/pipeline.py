"""One whole run: photographs in, a finished model folder out. `stlm finetune` and the zoo's recipes both call it.

The order is: train, fill the memory, save, load what was saved, calibrate, evaluate, write. So every figure is of the
weights in the folder.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from ..calibration.calibrate import calibrate
from ..calibration.normals import Normal, choose_photographs
from ..calibration.outlines import choice_text, chosen_outlines, cost_text, judge_without
from ..calibration.threshold import check_false_alarm_rate, check_held_out
from ..evaluation.evaluate import Evaluation, curves, evaluate
from ..evaluation.pictures import write_unusual
from ..evaluation.plots import LOSSES, plot_curves, plot_losses, plot_score_histogram
from ..files.fingerprint import fingerprint
from ..model_folder.figures import TestScores
from ..model_folder.folder import make_parent, making, move_folder
from ..model_folder.names import WEIGHTS_NAME
from ..model_folder.provenance import Circumstances, Photographs, TestPhotographs
from ..model_folder.results import Results
from ..model_folder.write import file_facts, write_results
from ..models.patch_memory import PatchMemory
from ..models.stlm.judging import Judging
from ..predict.images import read_picture
from ..predict.photographs import few
from ..predict.prediction import Prediction
from ..stlm import STLM
from ..wording import number_of
from .fill_memory import (
    Candidates,
    check_backbone,
    check_enough_patches,
    count_patches,
    fill_memory,
    find_candidates,
)
from .job import Job
from .leave_block_out import best_known_blocks, blocks_of, leave_out
from .machine import circumstances, measure_latency
from .observer import Observer
from .trained import Trained, train_network


def run(job: Job, observer: Observer | None = None) -> Results | None:
    """Trains, calibrates, evaluates and writes one model folder.

    Returns:
        What results.json holds; None in the further processes of a distributed training, whose work ends with it.

    Raises:
        TrainingError: `observer.should_stop` ended the run, a checkpoint is kept; or the photographs are too few for
            the memory.
        WeightsError: the weights of the memory's backbone cannot be had.
        ConfigError: `output` cannot be written.
        DataError: too few photographs are held out, the false-alarm rate is out of range, or the maps do not vary on
            the held-out photographs, so they cannot be combined.
    """
    observer = (observer or Observer()).stoppable()
    started, made = time.monotonic(), circumstances(job.commit)
    _check(job)
    trained = job.trained or (_train(job, made, observer) if job.config.streams else Trained())
    if trained is None:
        return None
    model, candidates = _with_memory(job, trained, observer)
    # The folder may hold the very network that is taken over, so it changes only once everything is known.
    with making(job.output) as folder:
        model.save_pretrained(folder, dtype=torch.float16)
        if trained.weights is not None:
            shutil.copyfile(trained.weights, folder / WEIGHTS_NAME)
        model = STLM.from_pretrained(folder)
        thresholds = _calibrate(job, model, candidates, folder, observer)
        evaluation = _evaluate(job, model, thresholds, observer)
        results = _describe(job, made, trained, model, evaluation, folder)
        _plots(folder, results, model.judging, trained)
        write_results(folder, results, model.judging, job.provenance.repo_id)
        move_folder(folder, job.output)
    minutes = round((time.monotonic() - started) / 60)
    observer.on_message(f"{job.output} is finished after {number_of(minutes, 'minute')}.")
    return results


def _check(job: Job) -> None:
    """Everything that can be refused before an hour is spent."""
    memory = job.config.patch_memory
    if memory is not None:
        check_enough_patches(memory, count_patches(job.config.network, len(job.split.photographs), job.region))
        check_backbone(memory)
    check_held_out(len(job.split.held_out))
    check_false_alarm_rate(job.false_alarm_rate)
    make_parent(job.output)


def _train(job: Job, made: Circumstances, observer: Observer) -> Trained | None:
    assert job.weights is not None
    held_out = len(job.split.held_out)
    observer.on_message(f"Training on {len(job.split.train)} photographs, {held_out} are held out for calibration.")
    return train_network(
        job.config.network,
        job.split.train,
        job.training,
        job.weights,
        job.work,
        textures=job.textures,
        region=job.region,
        teacher_checkpoint=job.teacher_checkpoint,
        workers=job.workers,
        made=made,
        objective=job.objective,
        on_step=observer.on_step,
        should_stop=observer.should_stop,
    )


def _with_memory(job: Job, trained: Trained, observer: Observer) -> tuple[STLM, Candidates | None]:
    """The trained network as a model, its memory filled from all photographs of good parts, and from what.

    Those that are held out of the training are not held out of the memory: a calibration leaves the entries of the
    photograph out that it looks at.
    """
    config = job.config.replace(network=trained.network.config) if trained.network else job.config
    device = "cuda" if torch.cuda.is_available() else "cpu"
    judging = Judging(job.anomaly_map, job.draw_by, minimum_area=job.minimum_area, bits=job.training.bits)
    model = STLM(config, judging, network=trained.network).eval().to(device)
    if model.region is not None and job.region is not None:
        model.region.inside.copy_(torch.from_numpy(job.region))
    memory, photographs = model.patch_memory, job.split.photographs
    if memory is None:
        return model, None
    observer.on_message(f"Filling the memory from {len(photographs)} photographs of good parts.")
    if trained.memory is not None and trained.memory.config == memory.config:
        model.patch_memory = trained.memory.to(device)
        return model, find_candidates(model, photographs, job.training.seed, job.nuisance, observer.on_image)
    memory.backbone.load_pretrained()

    def on_entry(done: int, total: int) -> None:
        observer.stop_if_asked()
        if done == 0:
            observer.on_message(f"Choosing {number_of(total, 'patch', 'patches')} to remember.")

    return model, fill_memory(model, photographs, job.training.seed, job.nuisance, observer.on_image, on_entry)


def _calibrate(
    job: Job, model: STLM, candidates: Candidates | None, folder: Path, observer: Observer
) -> dict[str, float]:
    """Sets how the model judges, and writes it; thresholds by the name of the map."""
    split = job.split
    remembered = model.patch_memory is not None
    normals = [
        Normal(path, remembered=number if remembered else -1, trained=number < len(split.train))
        for number, path in enumerate(split.photographs)
    ]
    normals = choose_photographs(normals, job.training.seed)
    observer.on_message(f"Calibrating on {len(normals)} photographs of good parts.")
    if model.patch_memory is not None and candidates is not None:
        _leave_out(job, model.patch_memory, candidates, normals, observer)
    found = calibrate(
        model,
        normals,
        job.false_alarm_rate,
        nuisance=job.nuisance,
        seed=job.training.seed,
        careful=job.careful,
        left_out=job.maps_left_out,
        on_image=observer.on_image,
    )
    if job.refine == "auto":
        observer.on_message(cost_text(sum(not normal.trained for normal in normals)))
    model.judging = chosen_outlines(model, normals, job.refine, seed=job.training.seed, on_image=observer.on_image)
    if job.refine != "off":
        observer.on_message(choice_text(model.judging))
    model.save_calibration(folder)
    if found.unusual:
        names = ", ".join(path.name for path, _ in found.unusual)
        job.work.mkdir(parents=True, exist_ok=True)
        judged = _judge_unusual(model, [path for path, _ in found.unusual], normals, observer)
        picture = write_unusual(job.work / "unusual.png", judged)
        observer.on_message(
            f"Unusual for good parts, so the threshold does not count them: {names}. Look at {picture}."
        )
    return {name: calibration.threshold for name, calibration in found.thresholds.items()}


def _leave_out(
    job: Job, memory: PatchMemory, candidates: Candidates, normals: Sequence[Normal], observer: Observer
) -> None:
    """Has the memory judge each of these photographs as if it did not know it."""
    photographs = job.split.photographs
    if job.careful:
        blocks = best_known_blocks(len(photographs), memory, candidates)
        observer.on_message("Each is judged by a memory without the tenth of the others that is most like it.")
    else:
        blocks = blocks_of(photographs, memory, candidates)
        if len(blocks) < len(photographs):
            observer.on_message(
                "Photographs that follow each other by their names are alike, so "
                f"{len(blocks[0].left_out)} at a time are left out of the memory that judges them."
            )
    needed = {normal.remembered for normal in normals}
    memory.left_out = leave_out(
        memory,
        candidates,
        [block for block in blocks if needed & set(block.judged)],
        lambda done, total: observer.stop_if_asked(),
    )


def _judge_unusual(
    model: STLM, paths: Sequence[Path], normals: Sequence[Normal], observer: Observer
) -> Iterator[tuple[str, Prediction]]:
    """Names and predictions of photographs, as they were scored: a memory that knows one finds nothing in it."""
    known_as = {normal.path: normal.remembered for normal in normals}
    for path in paths:
        prediction = judge_without(model, read_picture(path, bits=model.judging.bits).image, known_as[path])
        observer.on_unusual(path.name, prediction)
        yield path.name, prediction


def _evaluate(job: Job, model: STLM, thresholds: dict[str, float], observer: Observer) -> Evaluation | None:
    if job.test is None:
        return None
    observer.on_message(f"Evaluating on {len(job.test.photographs)} test photographs.")
    found = evaluate(model, job.test, thresholds, observer.on_image)
    for note in few(found.notes):
        observer.on_message(note)
    return found


def _describe(
    job: Job, made: Circumstances, trained: Trained, model: STLM, evaluation: Evaluation | None, folder: Path
) -> Results:
    split, test = job.split, job.test
    return Results(
        provenance=dataclasses.replace(job.provenance, made=made),
        dataset=dataclasses.replace(
            job.dataset,
            train=Photographs(len(split.train), fingerprint(split.train)),
            held_out=Photographs(len(split.held_out), fingerprint(split.held_out)),
            test=TestPhotographs(len(test.good), len(test.anomalous), fingerprint(test.photographs + test.masks))
            if test
            else None,
            remembered=len(split.photographs) if model.patch_memory is not None else None,
        ),
        maps={name: figures for name, figures in evaluation.figures.items() if name not in job.maps_left_out}
        if evaluation
        else {},
        paper=job.paper,
        other_seeds=trained.other_seeds,
        training=trained.facts,
        nuisance=dataclasses.asdict(job.nuisance) if job.nuisance else None,
        files=file_facts(folder),
        parameters=sum(p.numel() for p in model.parameters()),
        latency=measure_latency(model, split.held_out),
        test_scores=TestScores(tuple(evaluation.good_scores), tuple(evaluation.anomalous_scores))
        if evaluation
        else None,
        curves=curves(evaluation) if evaluation else None,
    )


def _plots(folder: Path, results: Results, judging: Judging, trained: Trained) -> None:
    test = results.test_scores
    plot_score_histogram(
        folder / "scores.png",
        judging,
        list(test.good) if test else None,
        list(test.anomalous) if test else None,
    )
    if trained.log:
        steps = [int(record["step"]) for record in trained.log]
        plot_losses(folder / "losses.png", steps, {name: [record[name] for record in trained.log] for name in LOSSES})
    elif trained.losses is not None:
        shutil.copyfile(trained.losses, folder / trained.losses.name)
    if results.curves:
        plot_curves(folder / "curves.png", results.curves)
