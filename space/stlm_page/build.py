"""The whole page: the choice of a model on top, five tabs below, endpoints for programs."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import gradio as gr

from stlm_hub.model_folder.card.card import LICENSES
from stlm_hub.model_folder.figures import METRICS
from stlm_hub.model_folder.results import Results
from stlm_hub.models.stlm.config import size_text

from . import about_tab, batch_tab, first_look_tab, inspect_tab, your_part_tab
from .errors import user_errors
from .events import PRIVATE
from .judge import MODELS
from .models import LoadedModel, choices, offered
from .worker import ON_ZERO_GPU

CACHE_SECONDS = (900, 2700)  # how often files are deleted, and from which age on: none gets older than an hour
MODEL_SLOTS = 2  # photographs on their way at once: one is decoded or drawn while the network has the other

PROGRESS = gr.Progress()

INTRODUCTION = """
# Find defects on photographs of parts

This page judges photographs of industrial parts with models that have seen **good parts only**. It says whether a
part looks anomalous, how strongly, and where.
"""


def build_page(examples: list[tuple[Path, str]] = (), seconds_only: bool = ON_ZERO_GPU) -> gr.Blocks:  # type: ignore[assignment]
    """
    Args:
        examples: photographs to click on the first tab, with captions. They belong to the first model of the list.
        seconds_only: "Your part" does without training, where the graphics card is lent for seconds.

    Returns:
        The page, ready for `queue` and `launch`.
    """
    entries = offered()
    first = os.environ.get("STLM_SPACE_MODEL") or entries[0].alias
    example_model = next((e.alias for e in entries if e.alias.startswith("sample-")), first)
    with gr.Blocks(
        title="stlm_hub: find defects on photographs of parts",
        analytics_enabled=False,
        delete_cache=CACHE_SECONDS,
        fill_width=False,
    ) as page:
        gr.Markdown(INTRODUCTION, elem_id="introduction")
        with gr.Row(elem_id="model-row"):
            model = gr.Dropdown(
                choices(),
                value=first,
                label="Model",
                info='Choose one, or type the name of a repository on the Hub: "org/repo".',
                allow_custom_value=True,
                elem_id="model",
                scale=2,
                min_width=280,
            )
            facts = gr.Markdown("", elem_id="model-facts")
        with gr.Tabs():
            with gr.Tab("Inspect", id="inspect"):
                inspect = inspect_tab.build(model, list(examples), example_model)
            with gr.Tab("Batch", id="batch"):
                batch_tab.build(model)
            with gr.Tab("Your part", id="your-part"):
                your_part_tab.build(model, seconds_only)
            with gr.Tab("First look", id="few"):
                first_look_tab.build()
            with gr.Tab("About", id="about"):
                card = about_tab.build()
        loading: dict[str, Any] = {
            "fn": describe,
            "inputs": model,
            "outputs": [facts, card],
            "concurrency_limit": 4,
            **PRIVATE,
        }
        page.load(**loading, show_progress="hidden")
        # Loading has a queue of its own: whoever fetches a model from the Hub keeps nobody waiting.
        chosen = model.change(**loading, show_progress_on=[facts])
        chosen.success(**inspect.run, show_progress="hidden").success(**inspect.files)
        chosen.failure(**inspect.failed)
        _endpoints()
    return page


@user_errors
def describe(name: str, progress: gr.Progress = PROGRESS) -> tuple[str, str]:
    """Loads a model if need be; what the page says of it, and its card. Markdown."""
    if not MODELS.is_loaded(name):
        progress(None, desc=f"Loading {name}, which takes a moment the first time")
    return _facts(MODELS.get(name)), about_tab.card(name)


def _facts(model: LoadedModel) -> str:
    results, lines = model.results or Results(), []
    figures = results.figures(model.network.judging.judge_by)
    if figures is not None:
        # Pixels are those of the map that is shown, as in the zoo's table.
        known = figures.to_dict() | {"p_auroc": (results.figures(model.network.judging.drawn) or figures).p_auroc}
        shown = ", ".join(
            f"{METRICS[key][0]} {100 * value:.1f} %"
            for key in ("i_auroc", "p_auroc")
            if (value := known.get(key)) is not None
        )
        official = results.dataset.split is None or results.dataset.split.official
        split = "" if official else ", **not the official split**"
        lines.append(f"On its test photographs{split}: {shown}." if shown else "")
    else:
        lines.append("Not measured on photographs of defects.")
    license = results.provenance.weights_license
    # A stranger's results.json must not draw on this page.
    if license != "other" and re.fullmatch(r"[\w.-]{1,40}", license):
        lines.append(f"Licence: {LICENSES.get(license, (license, ''))[0]}.")
        if "-nc" in license:
            lines.append("**Not for commercial use.**")
    lines.append(f"Input: {size_text(model.network.config.network)}.")
    return " ".join(line for line in lines if line)


def list_models() -> list[dict[str, Any]]:
    """The models of the zoo that can be used here.

    Returns:
        For each: alias, data set, height and width of its input in px, licence of the weights, metrics as
        fractions, and whether these are of the data set's official split (null: it has none).
    """
    names = ("alias", "dataset", "input_size", "license", "metrics", "official_split")
    return [{name: getattr(entry, name) for name in names} for entry in offered()]


def _path_of(payload: Any) -> str | None:
    """Where an uploaded file is. What Gradio does in its place leaves an empty file behind for each request."""
    return None if payload is None else str(payload.path)


def _number_or_null() -> Any:
    """What programs are told of the threshold: as Gradio describes it, an agent that says null is refused."""
    return {"anyOf": [{"type": "number"}, {"type": "null"}]}


def _endpoints() -> None:
    """What programs call: /predict and /models, over HTTP, with gradio_client, or as tools of an MCP client."""
    with gr.Row(visible=False):
        photo = gr.File(type="filepath", label="photo")
        photo.preprocess = _path_of  # type: ignore[method-assign]
        model = gr.Textbox("sample-brick", label="model")
        threshold = gr.Number(None, label="threshold")
        threshold.api_info = _number_or_null  # type: ignore[method-assign]
        facts = gr.JSON(label="verdict")
        panel = gr.File(label="panel")
        mask = gr.File(label="mask")
        button = gr.Button("predict")
    button.click(
        inspect_tab.predict,
        [photo, model, threshold],
        [facts, panel, mask],
        api_name="predict",
        concurrency_id="model",
        concurrency_limit=MODEL_SLOTS,
    )
    gr.api(list_models, api_name="models", queue=False)
