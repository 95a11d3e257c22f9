"""Your part: good photographs in, a model of one's own out, with progress, to download or push to the Hub."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr

from stlm_hub.errors import ConfigError, DataError, STLMError, TrainingError
from stlm_hub.model_folder.publish import publish
from stlm_hub.predict.good_ones import good_members
from stlm_hub.predict.images import list_images
from stlm_hub.predict.photographs import remaining
from stlm_hub.training.budget import MAX_STEPS
from stlm_hub.training.finetune import finetune
from stlm_hub.training.observer import Observer
from stlm_hub.training.options import Options

from . import your_part_form, your_part_result
from .budget import check_budget
from .clicked_mask import Marks
from .errors import user_errors
from .events import PRIVATE, SILENT
from .judge import recalibrate_on_gpu, remember_on_gpu
from .long_run import Progress, follow
from .models import choices
from .scratch import SCRATCH
from .stops import Stops
from .uploads import uploads
from .where_to_look import mask_files
from .your_part_form import ANEW, MAX_MINUTES, MINUTES, QUICK, ROTATIONS, SIZES, TIME
from .your_part_result import Made, Wanted, finished, idle, running, so_far

STOPS = Stops()  # trainings that are running


def build(model: gr.Dropdown, seconds_only: bool) -> None:
    """Lays out the tab and wires its events.

    Args:
        model: the page's list of models; a finished model is added to it for this visitor.
        seconds_only: whether the graphics card is lent for seconds only, too short to train.
    """
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            form = your_part_form.build(model, seconds_only)
        with gr.Column(scale=3, min_width=300):
            result = your_part_result.build()
    left_out = gr.State(())  # photographs that the next model does without, unless it is made from the form
    made, more, unusual = result.made, result.more, result.unusual
    options: dict[str, Any] = {"preprocess": False, "concurrency_id": "training", "concurrency_limit": 1, **PRIVATE}
    options |= {"outputs": [*result.shown, form.start, form.stop]}
    options |= {"show_progress": "minimal", "show_progress_on": [result.status]}  # who is before a visitor in the queue
    options |= {"fn": make_in_seconds if seconds_only else train}
    anew: dict[str, Any] = {"inputs": [*form.inputs, left_out], **options}
    offering: dict[str, Any] = {"fn": _offer_training, "inputs": [made, form.how], "outputs": more, **SILENT}
    form.start.click(inputs=form.inputs, **options).success(**offering)
    if form.minutes is not None:
        settings = [form.how, form.minutes, more, left_out]
        more.click(_train_longer, made, settings, queue=False, **SILENT).success(**anew)
    leaving = [form.how, left_out]
    again = unusual.again.click(to_leave_out, [made, unusual.names], leaving, preprocess=False, **SILENT)
    again.success(**anew).success(**offering)
    form.stop.click(STOPS.ask, None, form.stop, queue=False, **SILENT)
    result.use.click(offer, made, model, **SILENT)
    inputs, pushed = [made, result.repo, result.token, result.private], result.pushed
    pushing = result.push.click(push_to_hub, inputs, pushed, show_progress_on=[pushed], **PRIVATE)
    pushing.then(lambda: "", None, result.token, queue=False, **SILENT)  # whatever became of it: it stays in no session


@user_errors
def train(
    files: list[dict[str, Any]] | None,
    name: str,
    percent: float,
    how: str,
    minutes: float,
    steps: float,
    size: int,
    rotation: str,
    where: str,
    marks: Marks | None,
    request: gr.Request,
    leave_out: Sequence[str] = (),
) -> Iterator[list[Any]]:
    """Fine-tunes; yields what the tab shows until the model is done, the visitor stops it or has left."""
    if size not in SIZES or rotation not in ROTATIONS:
        raise ConfigError("Choose one of the listed input sizes, and how the part lies.")
    # Tiles would take more than this page lends for a photograph.
    options: dict[str, Any] = {"size": size, "tiles": "none", "rotation": ROTATIONS[rotation]}
    check_budget(Options(**options).model(name, (size, size)))  # and not after an hour, when the model is to be loaded
    options |= _length(how, minutes, steps)
    options |= {"false_alarm_rate": percent / 100, "leave_out": leave_out}
    folder = SCRATCH.folder()
    options |= mask_files(where, marks, folder)
    photographs = _unpack(files, folder / "photographs", leave_out)
    progress = Progress()

    def work(observer: Observer) -> Path:
        with _upload_in_words(photographs):
            return finetune(photographs, name, output=folder / "model", observer=observer, **options)

    yield from _train(work, progress, Wanted(name, how, tuple(leave_out)), folder, request)


@user_errors
def make_in_seconds(
    files: list[dict[str, Any]] | None,
    base: str,
    name: str,
    percent: float,
    how: str,
    where: str,
    marks: Marks | None,
    request: gr.Request,
    leave_out: Sequence[str] = (),
) -> Iterator[list[Any]]:
    """A memory of the visitor's good photographs; or an existing model, its threshold chosen anew from them."""
    Options().model(name, (1, 1))  # the name becomes that of a file: the same names are refused as by `train`
    if how not in (QUICK, ANEW):
        raise ConfigError("Choose what is to be made.")
    folder = SCRATCH.folder()
    try:
        look = mask_files(where, marks, folder)
        photographs = _unpack(files, folder / "photographs", leave_out)
        progress = Progress()
        doing = f"Judging the good photographs with {base}." if how == ANEW else "Remembering the good photographs."
        yield running(doing, stoppable=False)
        made, rate = folder / "model", percent / 100
        with _upload_in_words(photographs):
            if how == ANEW:
                recalibrate_on_gpu(base, photographs, made, name, rate, look)
            else:
                progress.unusual = remember_on_gpu(photographs, made, name, rate, look, leave_out)
        yield finished(made, Wanted(name, how, tuple(leave_out)), progress)
    except Exception:
        yield idle("That did not work.")
        raise
    finally:
        shutil.rmtree(folder / "photographs", ignore_errors=True)
        shutil.rmtree(folder / "model.run", ignore_errors=True)


def _length(how: str, minutes: float | None, steps: float | None) -> dict[str, Any]:
    if how == QUICK:
        return {"steps": 0}
    wanted, most, unit = (minutes, MAX_MINUTES, "minutes") if how == TIME else (steps, MAX_STEPS, "steps")
    if not wanted or not 1 <= wanted <= most:
        raise ConfigError(f"Give a number of {unit} from 1 to {most}.")
    return {unit: wanted if how == TIME else int(wanted)}


def _train(
    work: Callable[[Observer], Path], progress: Progress, wanted: Wanted, folder: Path, request: gr.Request
) -> Iterator[list[Any]]:
    try:
        with STOPS.running(request) as stopped:
            yield running(progress.message)
            try:
                for made in follow(work, progress, stopped):
                    if made is None:
                        yield so_far(progress)
                    else:
                        yield finished(made, wanted, progress)
            except Exception as error:
                on_purpose = stopped.is_set() and isinstance(error, TrainingError)
                yield idle("Stopped. Nothing was kept." if on_purpose else "That did not work.")
                if not on_purpose:
                    raise
    finally:
        shutil.rmtree(folder / "photographs", ignore_errors=True)
        shutil.rmtree(folder / "model.run", ignore_errors=True)


def _offer_training(made: Made | None, how: str) -> dict[str, Any]:
    return gr.update(visible=made is not None and how == QUICK)


def _train_longer(made: Made | None) -> list[Any]:
    return [TIME, MINUTES, gr.update(visible=False), made.wanted.left_out if made else ()]


@user_errors
def to_leave_out(made: Made | None, names: list[str] | None) -> list[Any]:
    """How the model is to be made again, and what is left out of it: what was before, and the unusual ones named."""
    made = _made(made)
    if not names:
        raise DataError("Choose the photographs that are not good, then leave them out.")
    if set(names) - set(made.unusual):
        raise DataError("Choose among the photographs that are shown.")
    return [made.wanted.how, (*made.wanted.left_out, *names)]


@user_errors
def offer(made: Made | None) -> dict[str, Any]:
    """Puts the finished model into the page's list of models, for this visitor, and chooses it."""
    made = _made(made)
    return gr.update(choices=[*choices(), (f"{made.wanted.name} · made here", made.model)], value=made.model)


@user_errors
def push_to_hub(made: Made | None, repo: str, token: str, private: bool) -> str:
    """Publishes the finished model with the visitor's own token, which is not kept."""
    made = _made(made)
    if not re.fullmatch(r"[\w][\w.-]*/[\w.-]+", (repo or "").strip()):
        raise ConfigError("Name the repository as your-name/my-part.")
    if not token:
        raise ConfigError("Give an access token with write permission: https://huggingface.co/settings/tokens")
    published = publish(made.folder, repo.strip(), token=token.strip(), private=private)
    return f"Published at {published.url}, revision `{published.revision}`."


def _made(made: Made | None) -> Made:
    if made is None:
        raise DataError("There is no finished model yet; make one first.")
    return made


@contextmanager
def _upload_in_words(folder: Path) -> Iterator[None]:
    """Errors name the folder; what its visitor knows is the upload."""
    try:
        yield
    except STLMError as error:
        said = str(error).replace(f"in {folder}", "in the upload").replace(str(folder), "The upload")
        raise type(error)(said) from error


def _unpack(files: list[dict[str, Any]] | None, folder: Path, leave_out: Sequence[str] = ()) -> Path:
    """Writes the uploaded good photographs into one folder, which the training reads; names stay, clashes are numbered.

    Of an archive of a whole data set, its train/good counts. What an upload that cannot be used has left is deleted.
    """
    folder.mkdir()
    try:
        found = uploads(files)
        chosen, note = good_members([upload.name for upload in found])
        if note:
            gr.Info(note)
        for number in chosen:
            upload = found[number]
            name = Path(upload.name).name[-60:]  # at most 240 bytes
            target = folder / name if not (folder / name).exists() else folder / f"{number:04d}_{name}"
            target.write_bytes(upload.read())
        if leave_out:  # now, while the finished model is still on the page
            with _upload_in_words(folder):
                remaining(list_images(folder), leave_out, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder
