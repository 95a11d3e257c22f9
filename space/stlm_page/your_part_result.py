"""Your part, right column: how far the work is, then the finished model and what can be done with it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from stlm_hub.model_folder.card.text import markdown

from . import unusual
from .judge import MODELS
from .long_run import Progress
from .pictures import legend, scale, threshold_words
from .your_part_form import MINUTES


@dataclass(frozen=True)
class Wanted:
    """What a visitor asks for: the model's name, how it is made, names of photographs that are left out."""

    name: str
    how: str
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Made:
    """A visitor's finished model: as it was wanted, the name it is loaded by, its folder, its unusual photographs."""

    wanted: Wanted
    model: str
    folder: Path
    unusual: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """The components. `shown`, with the buttons of the form behind them, are what `running` and the others fill."""

    status: gr.Markdown
    made: gr.State
    unusual: unusual.Field
    use: gr.Button
    more: gr.Button
    repo: gr.Textbox
    token: gr.Textbox
    private: gr.Checkbox
    push: gr.Button
    pushed: gr.Markdown
    shown: list[Any]


def build() -> Result:
    """Lays out the column."""
    made = gr.State(None)
    status = gr.Markdown("Nothing is made yet. Progress and the finished model appear here.", elem_id="part-status")
    curve = gr.LinePlot(x="step", y="loss", title="Loss", height=260, visible=False, elem_id="part-curve")
    scale = gr.HTML("", visible=False, elem_id="part-scale")
    field = unusual.build()
    with gr.Column(visible=False) as finished:
        archive = gr.DownloadButton("Model folder (zip), kept for an hour", elem_id="part-zip")
        use = gr.Button("Inspect photographs with it", elem_id="part-use")
        more = gr.Button(f"Train it as well: {MINUTES} minutes", visible=False, elem_id="part-more")
        with gr.Accordion("Push it to the Hugging Face Hub", open=False):
            repo = gr.Textbox(label="Repository", placeholder="your-name/my-part", max_lines=1, elem_id="part-repo")
            token = gr.Textbox(
                label="Access token with write permission: used once, kept nowhere",
                type="password",
                max_lines=1,
                elem_id="part-token",
            )
            private = gr.Checkbox(True, label="Private", elem_id="part-private")
            push = gr.Button("Push", elem_id="part-push")
            pushed = gr.Markdown("", elem_id="part-pushed")
    shown = [status, curve, scale, finished, archive, made, *field.shown]
    return Result(status, made, field, use, more, repo, token, private, push, pushed, shown)


def running(message: str, stoppable: bool = True) -> list[Any]:
    """What is shown when the work begins; what was made before disappears."""
    hidden = gr.update(visible=False)
    return [message, hidden, hidden, hidden, gr.skip(), None, hidden, *[gr.skip()] * 2, *_buttons(False, stoppable)]


def so_far(progress: Progress) -> list[Any]:
    """What is shown while it goes on."""
    curve = gr.update(value=progress.curve(), visible=True) if len(progress.steps) > 1 else gr.skip()
    return [progress.words(), curve, *[gr.skip()] * 9]


def idle(message: str) -> list[Any]:
    """What is shown when it has ended without a model."""
    return [message, *[gr.skip()] * 8, *_buttons(True, False)]


def finished(folder: Path, wanted: Wanted, progress: Progress) -> list[Any]:
    """What is shown of the finished model in `folder`."""
    own = MODELS.add_own(folder)
    model = MODELS.get(own)
    memory = "" if model.network.config.streams else _BY_MEMORY
    without = f" Left out: {markdown(', '.join(wanted.left_out))}." if wanted.left_out else ""
    drawn = scale(model, model.threshold, model.network.judging.review_threshold)
    return [
        f"**{wanted.name} is finished.** {memory}{threshold_words(model, model.threshold)}{without}",
        gr.update(value=progress.curve(), visible=True) if progress.steps else gr.skip(),
        gr.update(value=f'{drawn}<p class="hint">{legend(model)}</p>', visible=True),
        gr.update(visible=True),
        shutil.make_archive(str(folder.parent / wanted.name), "zip", folder),
        Made(wanted, own, folder, tuple(one.name for one in progress.unusual)),
        *unusual.update(progress.unusual),
        *_buttons(True, False),
    ]


def _buttons(start: bool, stop: bool) -> list[Any]:
    return [gr.update(interactive=start), gr.update(interactive=stop)]


_BY_MEMORY = "It judges by a memory of good parts alone, without training. "
