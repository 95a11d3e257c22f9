"""Your part: good photographs in, a model of one's own out, with progress, to download or push to the Hub."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from stlm_hub.errors import ConfigError, DataError, STLMError, TrainingError
from stlm_hub.model_folder.publish import publish
from stlm_hub.predict.good_ones import good_members
from stlm_hub.training.budget import MAX_STEPS
from stlm_hub.training.finetune import finetune
from stlm_hub.training.observer import Observer
from stlm_hub.training.options import Options

from . import your_part_form
from .budget import check_budget
from .clicked_mask import Marks
from .errors import user_errors
from .events import PRIVATE, SILENT
from .judge import MODELS, recalibrate_on_gpu, remember_on_gpu
from .long_run import Progress, follow
from .models import choices
from .pictures import threshold_words
from .scale import score_scale
from .scratch import SCRATCH
from .stops import Stops
from .uploads import uploads
from .where_to_look import mask_files
from .your_part_form import ANEW, MAX_MINUTES, MINUTES, QUICK, ROTATIONS, SIZES, TIME

STOPS = Stops()  # trainings that are running


@dataclass(frozen=True)
class Made:
    """A visitor's finished model: its name, the name it is loaded by, its folder."""

    name: str
    model: str
    folder: Path


def build(model: gr.Dropdown, seconds_only: bool) -> None:
    """Lays out the tab and wires its events.

    Args:
        model: the page's list of models; a finished model is added to it for this visitor.
        seconds_only: whether the graphics card is lent for seconds only, too short to train.
    """
    made = gr.State(None)  # folder of the finished model
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            form = your_part_form.build(model, seconds_only)
        with gr.Column(scale=3, min_width=300):
            status = gr.Markdown(
                "Nothing is made yet. Progress and the finished model appear here.", elem_id="part-status"
            )
            curve = gr.LinePlot(x="step", y="loss", title="Loss", height=260, visible=False, elem_id="part-curve")
            scale = gr.HTML("", visible=False, elem_id="part-scale")
            with gr.Column(visible=False) as finished:
                archive = gr.DownloadButton("Model folder (zip), kept for an hour", elem_id="part-zip")
                use = gr.Button("Inspect photographs with it", elem_id="part-use")
                more = gr.Button(f"Train it as well: {MINUTES} minutes", visible=False, elem_id="part-more")
                with gr.Accordion("Push it to the Hugging Face Hub", open=False):
                    repo = gr.Textbox(
                        label="Repository", placeholder="your-name/my-part", max_lines=1, elem_id="part-repo"
                    )
                    token = gr.Textbox(
                        label="Access token with write permission: used once, kept nowhere",
                        type="password",
                        max_lines=1,
                        elem_id="part-token",
                    )
                    private = gr.Checkbox(True, label="Private", elem_id="part-private")
                    push = gr.Button("Push", elem_id="part-push")
                    pushed = gr.Markdown("", elem_id="part-pushed")

    shown = [status, curve, scale, finished, archive, made, form.start, form.stop]
    options: dict[str, Any] = {"preprocess": False, "concurrency_id": "training", "concurrency_limit": 1, **PRIVATE}
    options |= {"outputs": shown}
    options |= {"show_progress": "minimal", "show_progress_on": [status]}  # says who is before a visitor in the queue
    making: dict[str, Any] = {"fn": make_in_seconds if seconds_only else train, "inputs": form.inputs, **options}
    form.start.click(**making).success(_offer_training, [made, form.how], more, **SILENT)
    if form.minutes is not None:
        settings = [form.how, form.minutes, more]
        longer = more.click(lambda: [TIME, MINUTES, gr.update(visible=False)], None, settings, queue=False, **SILENT)
        longer.success(**making)
    form.stop.click(STOPS.ask, None, form.stop, queue=False, **SILENT)
    use.click(offer, made, model, **SILENT)
    pushing = push.click(push_to_hub, [made, repo, token, private], pushed, show_progress_on=[pushed], **PRIVATE)
    pushing.then(lambda: "", None, token, queue=False, **SILENT)  # whatever became of it: a token stays in no session


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
) -> Iterator[list[Any]]:
    """Fine-tunes; yields what the tab shows until the model is done, the visitor stops it or has left."""
    if size not in SIZES or rotation not in ROTATIONS:
        raise ConfigError("Choose one of the listed input sizes, and how the part lies.")
    # Tiles would take more than this page lends for a photograph.
    options: dict[str, Any] = {"size": size, "tiles": "none", "rotation": ROTATIONS[rotation]}
    check_budget(Options(**options).model(name, (size, size)))  # and not after an hour, when the model is to be loaded
    options |= _length(how, minutes, steps)
    rate = percent / 100
    folder = SCRATCH.folder()
    options |= mask_files(where, marks, folder)
    photographs = _unpack(files, folder / "photographs")
    progress = Progress()

    def work(observer: Observer) -> Path:
        with _upload_in_words(photographs):
            return finetune(
                photographs, name, output=folder / "model", false_alarm_rate=rate, observer=observer, **options
            )

    yield from _train(work, progress, name, folder, request)


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
) -> Iterator[list[Any]]:
    """A memory of the visitor's good photographs; or an existing model, its threshold chosen anew from them."""
    Options().model(name, (1, 1))  # the name becomes that of a file: the same names are refused as by `train`
    if how not in (QUICK, ANEW):
        raise ConfigError("Choose what is to be made.")
    folder = SCRATCH.folder()
    try:
        look = mask_files(where, marks, folder)
        photographs = _unpack(files, folder / "photographs")
        doing = f"Judging the good photographs with {base}." if how == ANEW else "Remembering the good photographs."
        yield _running(doing, stoppable=False)
        with _upload_in_words(photographs):
            if how == ANEW:
                made = recalibrate_on_gpu(base, photographs, folder / "model", name, percent / 100, look)
            else:
                made = remember_on_gpu(photographs, folder / "model", name, percent / 100, look)
        yield _finished(made, name, None)
    except Exception:
        yield _idle("That did not work.")
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
    work: Callable[[Observer], Path], progress: Progress, name: str, folder: Path, request: gr.Request
) -> Iterator[list[Any]]:
    try:
        with STOPS.running(request) as stopped:
            yield _running(progress.message)
            try:
                for made in follow(work, progress, stopped):
                    if made is None:
                        yield _so_far(progress)
                    else:
                        yield _finished(made, name, progress)
            except Exception as error:
                on_purpose = stopped.is_set() and isinstance(error, TrainingError)
                yield _idle("Stopped. Nothing was kept." if on_purpose else "That did not work.")
                if not on_purpose:
                    raise
    finally:
        shutil.rmtree(folder / "photographs", ignore_errors=True)
        shutil.rmtree(folder / "model.run", ignore_errors=True)


def _running(message: str, stoppable: bool = True) -> list[Any]:
    hidden = gr.update(visible=False)
    return [message, hidden, hidden, hidden, gr.skip(), None, gr.update(interactive=False),
            gr.update(interactive=stoppable)]  # fmt: skip


def _so_far(progress: Progress) -> list[Any]:
    curve = gr.update(value=progress.curve(), visible=True) if len(progress.steps) > 1 else gr.skip()
    return [progress.words(), curve, *[gr.skip()] * 6]


def _idle(message: str) -> list[Any]:
    return [message, *[gr.skip()] * 5, gr.update(interactive=True), gr.update(interactive=False)]


def _finished(made: Path, name: str, progress: Progress | None) -> list[Any]:
    own = MODELS.add_own(made)
    model = MODELS.get(own)
    memory = "" if model.network.config.streams else _BY_MEMORY
    return [
        f"**{name} is finished.** {memory}{threshold_words(model, model.threshold)}",
        gr.update(value=progress.curve(), visible=True) if progress else gr.skip(),
        gr.update(value=_SCALE.format(score_scale(model.normal_scores, model.threshold)), visible=True),
        gr.update(visible=True),
        shutil.make_archive(str(made.parent / name), "zip", made),
        Made(name, own, made),
        gr.update(interactive=True),
        gr.update(interactive=False),
    ]


def _offer_training(made: Made | None, how: str) -> dict[str, Any]:
    return gr.update(visible=made is not None and how == QUICK)


@user_errors
def offer(made: Made | None) -> dict[str, Any]:
    """Puts the finished model into the page's list of models, for this visitor, and chooses it."""
    made = _made(made)
    return gr.update(choices=[*choices(), (f"{made.name} · made here", made.model)], value=made.model)


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
        raise type(error)(str(error).replace(str(folder), "The upload")) from error


def _unpack(files: list[dict[str, Any]] | None, folder: Path) -> Path:
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
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


_SCALE = '{}<p class="hint">Bars: scores of the good photographs.</p>'
_BY_MEMORY = "It judges by a memory of good parts alone, without training. "
