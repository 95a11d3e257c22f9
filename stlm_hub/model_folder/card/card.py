"""The model card: config.json and results.json -> README.md, with no measured figure that is not in results.json."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from huggingface_hub import EvalResult, ModelCardData

from ...errors import ConfigError, WeightsError
from ...models.stlm.config import STLMConfig
from ...predict.predictor import DEFAULT_THRESHOLD
from .. import hub
from .figures import METRICS, TEACHERS, check_figures, figures, map_before, metrics_of
from .text import lookup, markdown, percent, public_source
from .threshold import threshold_facts

TEMPLATE = "card.md.jinja"
BASE_MODEL = "dhkim2810/MobileSAM"  # whose weights the streams start from
TAGS = ("anomaly-detection", "anomaly-segmentation", "industrial-inspection", "stlm")

LICENSES = {  # identifier of the Hub: name and text
    "apache-2.0": ("Apache 2.0", "https://www.apache.org/licenses/LICENSE-2.0"),
    "mit": ("MIT", "https://opensource.org/license/mit"),
    "cc0-1.0": ("CC0 1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
    "cc-by-4.0": ("CC BY 4.0", "https://creativecommons.org/licenses/by/4.0/"),
    "cc-by-sa-4.0": ("CC BY-SA 4.0", "https://creativecommons.org/licenses/by-sa/4.0/"),
    "cc-by-nc-4.0": ("CC BY-NC 4.0", "https://creativecommons.org/licenses/by-nc/4.0/"),
    "cc-by-nc-sa-4.0": ("CC BY-NC-SA 4.0", "https://creativecommons.org/licenses/by-nc-sa/4.0/"),
}
PLOTS = ("scores.png", "curves.png", "losses.png")


def write_card(folder: Path, repo_id: str) -> Path:
    """Writes README.md of a model folder from its config.json and results.json; pictures (*.png) in it are shown.

    Args:
        folder: what the training wrote.
        repo_id: see `render_card`.

    Raises:
        ConfigError: config.json or results.json is missing, not valid, or they do not belong together.
        WeightsError: results.json is of other weights than those in the folder.
    """
    config = STLMConfig.load(folder / hub.CONFIG_NAME)
    results = read_results(folder / "results.json", folder / hub.WEIGHTS_NAME)
    images = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.png"))
    card = folder / "README.md"
    card.write_text(render_card(results, config, repo_id=repo_id, images=images), encoding="utf-8", newline="\n")
    return card


def read_results(path: Path, weights: Path) -> Any:
    """What results.json of a model says.

    Raises:
        ConfigError: it is missing or no JSON.
        WeightsError: it is of other weights than `weights`, if they are there.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing; a card is written from the results of a training.") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid JSON ({error}); train or evaluate the model again.") from None
    measured = lookup(results, "weights.sha256")
    if measured and weights.is_file() and hub.file_sha256(weights) != measured:
        raise WeightsError(f"{path} is of other weights than {weights}; train or evaluate the model again.")
    return results


def render_card(results: dict[str, Any], config: STLMConfig, *, repo_id: str, images: Sequence[str] = ()) -> str:
    """
    Args:
        results: what results.json holds. Parts that are missing or null are left out of the card; without `metrics` it
            says that the model was not measured.
        config: of the same model.
        repo_id: `org/repo` on the Hub, or whatever else `STLM.from_pretrained` shall be shown with.
        images: pictures to show, paths relative to the card: the plots of `PLOTS`; others are examples.

    Returns:
        Markdown with YAML front matter. Fractions are shown in percent in the text, and as they are in the front
        matter's model index.

    Raises:
        ConfigError: results and config are not of the same model, or a metric is not a fraction.
    """
    _check(results, config)
    try:
        template = _environment(template_folder()).get_template(TEMPLATE)
    except jinja2.TemplateNotFound:
        raise ConfigError(f"The template of model cards, {TEMPLATE}, is missing; install stlm_hub again.") from None

    def get(path: str) -> Any:
        """What results.json says, ready for Markdown; None where it says nothing."""
        value = lookup(results, path)
        return markdown(value) or None if isinstance(value, str) else value

    text = template.render(
        front_matter=_front_matter(results, config, repo_id).to_yaml(),
        repo_id=json.dumps(repo_id, ensure_ascii=False),
        get=get,
        config=config,
        part=markdown(config.category),
        dataset_name=markdown(_dataset_name(results, config)),
        is_public=_is_public(results),
        licences={name: _license_name(value) for name, value in _licenses(results).items()},
        non_commercial=[name for name, value in _licenses(results).items() if "-nc" in str(value).lower()],
        calibration=threshold_facts(results, config),
        default_threshold=DEFAULT_THRESHOLD,
        teachers=TEACHERS,
        homepage=_homepage(results),
        source=markdown(public_source(str(lookup(results, "starting_weights.source") or ""))),
        command="\n".join(" ".join(str(command).split()) for command in _commands(results)),
        percent=percent,
        text=markdown,
        families=_families(results),
        duration=_duration,
        **figures(results, config),
        **_pictures(images),
    )
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def template_folder() -> Path:
    """Where the template is: beside this file in an installed library, in `model_cards/` of a checkout."""
    beside = Path(__file__).with_name("template")
    return beside if beside.is_dir() else Path(__file__).resolve().parents[3] / "model_cards" / "template"


@cache
def _environment(folder: Path) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def _check(results: Any, config: STLMConfig) -> None:
    if not isinstance(results, dict):
        raise ConfigError("results.json must hold a JSON object; train or evaluate the model again.")
    expected = {
        "image_size": config.image_size,
        "feature_levels": list(config.feature_levels),
        "calibration.threshold": config.calibration.threshold if config.calibration else None,
    }
    for name, value in expected.items():
        found = lookup(results, name)
        if found is not None and found != value:
            raise ConfigError(
                f"results.json says {name} {found}, config.json {value}: they are of different models; "
                "train or evaluate the model again."
            )
    check_figures(results, config)


def _front_matter(results: dict[str, Any], config: STLMConfig, repo_id: str) -> ModelCardData:
    dataset = _dataset_name(results, config)
    hub_id, slug = lookup(results, "dataset.hub_id"), _slug(dataset)
    license = _licenses(results)["weights"]
    # Figures of photographs that may have chosen the map, or of other scales than the model's, are none to compare by.
    others = map_before(results, config) or (config.anomaly_map == "combined" and lookup(results, "recalibration"))
    metrics = {} if others else metrics_of(results)[config.anomaly_map]
    name = f"{dataset} ({config.category})" if config.category else dataset
    split = lookup(results, "dataset.split")
    evaluations = [
        EvalResult(
            task_type="image-segmentation",
            task_name="Anomaly detection and segmentation",
            dataset_type=hub_id or slug or "private",
            dataset_name=(name or "private") + ("" if split == "official" else ", not an official split"),
            dataset_config=config.category or None,
            dataset_split="test",
            metric_type=kind,
            metric_name=label,
            metric_value=metrics[key],
        )
        for key, (label, kind) in METRICS.items()
        if metrics.get(key) is not None
    ]
    return ModelCardData(
        license=license if license in LICENSES else "other",
        license_name=_slug(license) if license and license not in LICENSES else None,
        library_name="stlm_hub",
        pipeline_tag="image-segmentation",
        tags=[*TAGS, *([slug] if _is_public(results) and slug else [])],
        base_model=BASE_MODEL,
        base_model_relation="finetune",
        datasets=[hub_id] if hub_id else None,
        model_name=repo_id.rsplit("/", 1)[-1] if evaluations else None,
        eval_results=evaluations or None,
    )


def _families(results: dict[str, Any]) -> str:
    """Families of pseudo anomalies; where some are drawn more often than others, how often."""
    names = lookup(results, "training.synthesis.families") or []
    counts = Counter(map(markdown, names))
    if len(set(counts.values())) <= 1:
        return ", ".join(counts)
    return ", ".join(f"{name} ({n} of {len(names)})" for name, n in counts.items())


def _pictures(images: Sequence[str]) -> dict[str, Any]:
    # The first example opens the card, so it should show a defect where one does.
    examples = sorted((name for name in images if name not in PLOTS), key=lambda name: ("good" in name, name))
    return {
        "plots": [name for name in PLOTS if name in images],
        "examples": [(quote(name), markdown(re.sub(r"[\W_]+", " ", Path(name).stem))) for name in examples],
    }


def _dataset_name(results: dict[str, Any], config: STLMConfig) -> str:
    return str(lookup(results, "dataset.name") or config.dataset)


def _is_public(results: dict[str, Any]) -> bool:
    """Whether others can get the photographs, so that their name says something."""
    return bool(lookup(results, "dataset.homepage") or lookup(results, "dataset.hub_id"))


def _licenses(results: dict[str, Any]) -> dict[str, str | None]:
    """Identifiers of the Hub; None where there is none, or "other" that is not named."""
    photographs = lookup(results, "dataset.license")
    found = {"weights": lookup(results, "weights_license") or photographs, "photographs": photographs}
    return {name: None if value in ("", "other") else value for name, value in found.items()}


def _license_name(identifier: str | None) -> str:
    name, url = LICENSES.get(str(identifier), ("", ""))
    return f"[{name}]({url})" if name else markdown(identifier)


def _commands(results: dict[str, Any]) -> list[Any]:
    """What makes the model again, in order."""
    trained = lookup(results, "command")
    return [*([trained] if trained else []), *calibrations(lookup(results, "recalibration"))]


def calibrations(recalibration: Any) -> list[str]:
    """Commands of the calibrations after the training, in order; a single one in folders of older versions."""
    found = lookup(recalibration, "commands") or [lookup(recalibration, "command")]
    return [command for command in found if command]


def _homepage(results: dict[str, Any]) -> str:
    homepage = str(lookup(results, "dataset.homepage") or "")
    return homepage if re.fullmatch(r"https?://[^\s()<>]+", homepage) else ""


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
