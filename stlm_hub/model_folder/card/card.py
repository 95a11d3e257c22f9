"""The model card: config.json, calibration.json and results.json -> README.md, with no other measured figure in it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from ...errors import ConfigError
from ...files.whole import replace_file
from ...models.stlm.config import STLMConfig
from ...models.stlm.judging import DEFAULT_THRESHOLD, Judging
from ..folder import read_folder
from ..names import CARD_NAME, PLOTS, RESULTS_NAME
from ..results import Results, check_files, load, validate
from .figures import card_figures
from .front_matter import front_matter, is_public
from .licences import LICENSES, licences
from .text import Ready, code_block, markdown, shown, table
from .threshold import threshold_facts
from .training import BACKBONES, training_rows

__all__ = ["LICENSES", "card_of", "render_card", "template_folder", "write_card"]

TEMPLATE = "card.md.jinja"


def write_card(folder: Path, repo_id: str) -> Path:
    """Writes README.md of a model folder, whole or not at all; pictures (*.png) in the folder are shown.

    Args:
        folder: of a model. Without results.json the card says what config.json and calibration.json know.
        repo_id: see `render_card`.

    Raises:
        ConfigError: a file is missing or not valid, or they do not belong together.
    """
    card = folder / CARD_NAME
    replace_file(card, card_of(folder, repo_id).encode())
    return card


def card_of(folder: Path, repo_id: str) -> str:
    """What `write_card` writes. Arguments and errors are its own."""
    config, judging = read_folder(folder)
    path = folder / RESULTS_NAME
    results = load(path) if path.exists() else Results()
    check_files(results, folder)
    validate(results, judging)
    images = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.png"))
    return render_card(results, config, judging, repo_id=repo_id, images=images)


def render_card(
    results: Results, config: STLMConfig, judging: Judging, *, repo_id: str, images: Sequence[str] = ()
) -> str:
    """
    Args:
        results: what is known of the model; what is not known is left out of the card.
        config: what the model is.
        judging: how it judges.
        repo_id: `org/repo` on the Hub, or whatever else `STLM.from_pretrained` shall be shown with.
        images: pictures to show, paths relative to the card: the plots of `PLOTS`; others are examples.

    Returns:
        Markdown with YAML front matter. Fractions are shown in percent in the text, and as they are in the front
        matter's model index.

    Raises:
        ConfigError: results and judging are not of the same model, or the template is missing.
    """
    validate(results, judging)
    try:
        template = _environment(template_folder()).get_template(TEMPLATE)
    except jinja2.TemplateNotFound:
        raise ConfigError(f"The template of model cards, {TEMPLATE}, is missing; install stlm_hub again.") from None
    dataset_name = results.dataset.name or config.dataset
    text = template.render(
        results=results,
        config=config,
        judging=judging,
        front_matter=front_matter(results, config, judging, repo_id),
        repo_id=Ready(json.dumps(repo_id, ensure_ascii=False)),
        dataset_name=dataset_name,
        public_name=dataset_name if is_public(results) else "",
        homepage=_homepage(results),
        licences=licences(results),
        threshold=threshold_facts(results, judging),
        threshold_uses_training=bool(results.training)
        and len(judging.normal_scores) > (results.dataset.held_out.n if results.dataset.held_out else 0),
        default_threshold=DEFAULT_THRESHOLD,
        figures=card_figures(results, config, judging),
        cell=8 if "stage1" in config.network.feature_levels else 16,  # px, see LEVEL_CHANNELS
        backbones=BACKBONES,
        training=training_rows(results, config),
        commands=[command.line for command in results.provenance.commands],
        code_block=code_block,
        table=table,
        **_pictures(images),
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def template_folder() -> Path:
    """Where the template is: beside this file in an installed library, in `model_cards/` of a checkout."""
    beside = Path(__file__).with_name("template")
    return beside if beside.is_dir() else Path(__file__).resolve().parents[3] / "model_cards" / "template"


@cache
def _environment(folder: Path) -> jinja2.Environment:
    return jinja2.Environment(  # noqa: S701 - `shown` escapes; the card is Markdown
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _pictures(images: Sequence[str]) -> dict[str, Any]:
    """Plots that are there, and the other pictures as examples: path and caption."""
    # The first example opens the card, so it should show a defect where one does.
    examples = sorted((name for name in images if name not in PLOTS), key=lambda name: ("good" in name, name))
    captions = [markdown(re.sub(r"[\W_]+", " ", Path(name).stem)) for name in examples]
    return {
        "plots": [name for name in PLOTS if name in images],
        "examples": [(Ready(quote(name)), Ready(text)) for name, text in zip(examples, captions, strict=True)],
    }


def _homepage(results: Results) -> Ready:
    """Address of the data set; "" for what is none."""
    homepage = results.dataset.homepage
    return Ready(homepage if re.fullmatch(r"https?://[^\s()<>]+", homepage) else "")
