"""The model card: config.json and results.json -> README.md, with no measured figure that is not in results.json."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import quote

import jinja2
from huggingface_hub import EvalResult, ModelCardData

from . import hub
from .card_threshold import percent, threshold_facts
from .config import STLMConfig
from .errors import ConfigError, WeightsError
from .maps import KINDS
from .predictor import DEFAULT_THRESHOLD

TEMPLATE = "template.md.jinja"
BASE_MODEL = "dhkim2810/MobileSAM"  # whose weights the streams start from
TAGS = ("anomaly-detection", "anomaly-segmentation", "industrial-inspection", "stlm")

METRICS = {  # name in results.json: row of the table, type in the model index
    "i_auroc": ("Image-level AUROC", "roc_auc"),
    "p_auroc": ("Pixel-level AUROC", "roc_auc"),
    "aupro": ("AUPRO", "aupro"),
    "ap": ("Pixel-level AP", "average_precision"),
    "f1_max": ("Pixel-level F1-max", "f1"),
    "fnr": ("FNR at the threshold", "false_negative_rate"),
}
TEACHERS = {"vit_h": "SAM ViT-H", "vit_l": "SAM ViT-L", "vit_b": "SAM ViT-B", "mobile": "MobileSAM"}
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
    measured = _get(results, "weights.sha256")
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
        template = _environment(Path(__file__).resolve().parent).get_template(TEMPLATE)
    except jinja2.TemplateNotFound:
        raise ConfigError(f"The template of model cards, {TEMPLATE}, is missing; install stlm_hub again.") from None

    def get(path: str) -> Any:
        """What results.json says, ready for Markdown; None where it says nothing."""
        value = _get(results, path)
        return _text(value) or None if isinstance(value, str) else value

    text = template.render(
        front_matter=_front_matter(results, config, repo_id).to_yaml(),
        repo_id=json.dumps(repo_id, ensure_ascii=False),
        get=get,
        config=config,
        part=_text(config.category),
        dataset_name=_text(_dataset_name(results, config)),
        is_public=_is_public(results),
        licences={name: _license_name(value) for name, value in _licenses(results).items()},
        non_commercial=[name for name, value in _licenses(results).items() if "-nc" in str(value).lower()],
        calibration=threshold_facts(results, config),
        default_threshold=DEFAULT_THRESHOLD,
        teachers=TEACHERS,
        homepage=_homepage(results),
        source=_source(results),
        command="\n".join(" ".join(str(command).split()) for command in _commands(results)),
        percent=percent,
        text=_text,
        families=_families(results),
        duration=_duration,
        **_figures(results, config),
        **_pictures(images),
    )
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


@cache
def _environment(package: Path) -> jinja2.Environment:
    folders = [package, package.parent / "model_cards"]  # of an installed library; of a checkout
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
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
        found = _get(results, name)
        if found is not None and found != value:
            raise ConfigError(
                f"results.json says {name} {found}, config.json {value}: they are of different models; "
                "train or evaluate the model again."
            )
    for part in (*(kind.figures for kind in KINDS.values()), "paper"):
        for name in METRICS:
            _check_fraction(f"{part}.{name}", _get(results, f"{part}.{name}"))
    seeds = _get(results, "other_seeds") or []
    if not isinstance(seeds, list) or not all(isinstance(seed, dict) for seed in seeds):
        raise ConfigError("other_seeds in results.json must be a list of objects; train or evaluate the model again.")
    for seed in seeds:
        for name, value in [item for figures in _metrics(seed).values() for item in figures.items()]:
            _check_fraction(f"{name} of another seed", value)
    fnr, scores = _metrics(results)[config.anomaly_map].get("fnr"), _get(results, "test_scores.anomalous")
    if config.calibration and fnr is not None and scores:
        missed = sum(score < config.calibration.threshold for score in scores) / len(scores)
        if abs(missed - fnr) > 1e-6:
            raise ConfigError(
                f"results.json says fnr {fnr}, but by its test_scores {missed} are missed; evaluate the model again."
            )


def _check_fraction(name: str, value: Any) -> None:
    if value is not None and (not isinstance(value, (int, float)) or not 0 <= value <= 1):  # NaN is neither
        raise ConfigError(f"{name} in results.json must be a fraction in [0, 1], not {value!r:.60}.")


def _front_matter(results: dict[str, Any], config: STLMConfig, repo_id: str) -> ModelCardData:
    dataset = _dataset_name(results, config)
    hub_id, slug = _get(results, "dataset.hub_id"), _slug(dataset)
    license = _licenses(results)["weights"]
    # Figures of photographs that may have chosen the map are no result to compare models by.
    metrics = {} if _map_before(results, config) else _metrics(results)[config.anomaly_map]
    name = f"{dataset} ({config.category})" if config.category else dataset
    split = _get(results, "dataset.split")
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


def _figures(results: dict[str, Any], config: STLMConfig) -> dict[str, Any]:
    """The table of figures as rows of cells, empty where nothing was measured, and what has to be said of it."""
    measured, paper = _metrics(results), _get(results, "paper") or {}
    used = config.anomaly_map
    others = [name for name in KINDS if name != used and measured[name]]
    # Seeds may have been trained before the model got the map that it judges by.
    runs = [_metrics(run) for run in (results, *(_get(results, "other_seeds") or []))]
    of_seeds = next((name for name in (used, *KINDS) if all(run[name] for run in runs)), used)
    teacher = str(_get(results, "teacher") or "")
    ours = {"image_size": config.image_size, "teacher": TEACHERS.get(teacher, teacher)}
    columns = {f"**This model**, {KINDS[used].label}": measured[used] | ours} if measured[used] else {}
    columns |= {f"This model, {KINDS[name].label}": measured[name] | ours for name in others}
    if paper:
        columns["Paper"] = paper
    rows = [["", *columns]]
    labels = {key: label for key, (label, _) in METRICS.items()}
    for key, label in (labels | {"image_size": "Image size", "teacher": "Teacher"}).items():
        cells = [_cell(key, column.get(key)) for column in columns.values()]
        if any(cell != "-" for cell in cells):
            rows.append([label, *cells])
    return {
        "figures": rows if any(measured.values()) else [],
        "seeds": _seeds(results, of_seeds),
        "seeds_map": KINDS[of_seeds].label,
        "used_map": KINDS[used].label,
        "used_map_measured": bool(measured[used]),
        "map_before": _map_before(results, config),
        "fnr_known": measured[used].get("fnr") is not None,
        "combined_maps": " and ".join(f'the map "{KINDS[scale.anomaly_map].label}"' for scale in config.combined_maps),
        "other_maps": [KINDS[name].label for name in others],
        "other_settings": [key for key in ours if paper.get(key) not in (None, ours[key])],
    }


def _map_before(results: dict[str, Any], config: STLMConfig) -> str:
    """Label of the map that judged after the training, where a calibration has named another since; else ""."""
    trained = _get(results, "recalibration.trained_map")
    return next((kind.label for name, kind in KINDS.items() if name == trained != config.anomaly_map), "")


def _seeds(results: dict[str, Any], used: str) -> list[list[str]]:
    """Figures of a map of the model and of its trainings with other seeds as rows of cells, mean and range last."""
    others = _get(results, "other_seeds") or []
    if not others:
        return []
    runs = [results, *others]
    figures = [_metrics(run)[used] for run in runs]
    keys = [key for key in METRICS if any(found.get(key) is not None for found in figures)]
    rows = [["seed", *(METRICS[key][0] for key in keys)]]
    rows += [
        [str(_get(run, "seed")), *(_cell(key, found.get(key)) for key in keys)]
        for run, found in zip(runs, figures, strict=True)
    ]
    mean, spread = ["**mean**"], ["highest - lowest, points"]
    for key in keys:
        values = [found[key] for found in figures if found.get(key) is not None]
        whole = len(values) == len(runs)
        mean.append(_cell(key, sum(values) / len(values) if whole else None))
        spread.append(f"{100 * (max(values) - min(values)):.2f}" if whole else "-")
    rows += [mean, spread]
    commits = [_text(_get(run.get("trained") or run, "versions.commit") or "not kept") for run in runs]
    if len(set(commits)) > 1 or commits[0] == "not kept" or commits[0].endswith("-dirty"):
        rows = [[*row, cell] for row, cell in zip(rows, ["commit of the code", *commits, "", ""], strict=True)]
    return rows


def _cell(key: str, value: Any) -> str:
    if value in (None, ""):
        return "-"
    if key in METRICS:
        return f"{100 * value:.2f} %"
    return f"{value} px" if key == "image_size" else _text(value)


def _families(results: dict[str, Any]) -> str:
    """Families of pseudo anomalies; where some are drawn more often than others, how often."""
    names = _get(results, "training.synthesis.families") or []
    counts = Counter(map(_text, names))
    if len(set(counts.values())) <= 1:
        return ", ".join(counts)
    return ", ".join(f"{name} ({n} of {len(names)})" for name, n in counts.items())


def _pictures(images: Sequence[str]) -> dict[str, Any]:
    # The first example opens the card, so it should show a defect where one does.
    examples = sorted((name for name in images if name not in PLOTS), key=lambda name: ("good" in name, name))
    return {
        "plots": [name for name in PLOTS if name in images],
        "examples": [(quote(name), _text(re.sub(r"[\W_]+", " ", Path(name).stem))) for name in examples],
    }


def _get(data: Any, path: str) -> Any:
    """The value at a dotted path, None where a part of it is missing."""
    for key in path.split("."):
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _metrics(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {name: _get(results, kind.figures) or {} for name, kind in KINDS.items()}


def _dataset_name(results: dict[str, Any], config: STLMConfig) -> str:
    return str(_get(results, "dataset.name") or config.dataset)


def _is_public(results: dict[str, Any]) -> bool:
    """Whether others can get the photographs, so that their name says something."""
    return bool(_get(results, "dataset.homepage") or _get(results, "dataset.hub_id"))


def _licenses(results: dict[str, Any]) -> dict[str, str | None]:
    """Identifiers of the Hub; None where there is none, or "other" that is not named."""
    photographs = _get(results, "dataset.license")
    found = {"weights": _get(results, "weights_license") or photographs, "photographs": photographs}
    return {name: None if value in ("", "other") else value for name, value in found.items()}


def _license_name(identifier: str | None) -> str:
    name, url = LICENSES.get(str(identifier), ("", ""))
    return f"[{name}]({url})" if name else _text(identifier)


def _source(results: dict[str, Any]) -> str:
    """Where the starting weights came from; of a path on someone's machine the file's name is enough."""
    source = str(_get(results, "starting_weights.source") or "")
    is_path = PurePosixPath(source).is_absolute() or PureWindowsPath(source).is_absolute()
    return _text(PureWindowsPath(source).name if is_path else source)


def _commands(results: dict[str, Any]) -> list[Any]:
    """What makes the model again, in order."""
    trained = _get(results, "command")
    return [*([trained] if trained else []), *calibrations(_get(results, "recalibration"))]


def calibrations(recalibration: Any) -> list[str]:
    """Commands of the calibrations after the training, in order; a single one in folders of older versions."""
    found = _get(recalibration, "commands") or [_get(recalibration, "command")]
    return [command for command in found if command]


def _homepage(results: dict[str, Any]) -> str:
    homepage = str(_get(results, "dataset.homepage") or "")
    return homepage if re.fullmatch(r"https?://[^\s()<>]+", homepage) else ""


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def _text(value: Any) -> str:
    """One line that Markdown shows as it is, also in a table."""
    return "" if value is None else re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(str(value).split()))
