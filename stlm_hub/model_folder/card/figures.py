"""The figures in a model card: the table of its maps beside the paper's, that of other seeds, and their checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import ConfigError
from ...models.stlm.anomaly_maps import KINDS
from ...models.stlm.config import STLMConfig
from .text import lookup, markdown

METRICS = {  # name in results.json: row of the table, type in the model index
    "i_auroc": ("Image-level AUROC", "roc_auc"),
    "p_auroc": ("Pixel-level AUROC", "roc_auc"),
    "aupro": ("AUPRO", "aupro"),
    "ap": ("Pixel-level AP", "average_precision"),
    "f1_max": ("Pixel-level F1-max", "f1"),
    "fnr": ("FNR at the threshold", "false_negative_rate"),
}
TEACHERS = {"vit_h": "SAM ViT-H", "vit_l": "SAM ViT-L", "vit_b": "SAM ViT-B", "mobile": "MobileSAM"}


def check_figures(results: dict[str, Any], config: STLMConfig) -> None:
    """
    Raises:
        ConfigError: a metric is not a fraction, other seeds are told in a strange way, or the share of missed anomalous
            photographs is not that of the scores beside it.
    """
    for part in (*(kind.figures for kind in KINDS.values()), "paper"):
        for name in METRICS:
            _check_fraction(f"{part}.{name}", lookup(results, f"{part}.{name}"))
    seeds = lookup(results, "other_seeds") or []
    if not isinstance(seeds, list) or not all(isinstance(seed, dict) for seed in seeds):
        raise ConfigError("other_seeds in results.json must be a list of objects; train or evaluate the model again.")
    for seed in seeds:
        for measured in metrics_of(seed).values():
            for name, value in measured.items():
                _check_fraction(f"{name} of another seed", value)
    fnr, scores = metrics_of(results)[config.anomaly_map].get("fnr"), lookup(results, "test_scores.anomalous")
    if config.calibration and fnr is not None and scores:
        missed = sum(score < config.calibration.threshold for score in scores) / len(scores)
        if abs(missed - fnr) > 1e-6:
            raise ConfigError(
                f"results.json says fnr {fnr}, but by its test_scores {missed} are missed; evaluate the model again."
            )


def figures(results: dict[str, Any], config: STLMConfig) -> dict[str, Any]:
    """The table of figures as rows of cells, empty where nothing was measured, and what has to be said of it."""
    measured, paper = metrics_of(results), lookup(results, "paper") or {}
    used = config.anomaly_map
    others = [name for name in KINDS if name != used and measured[name]]
    seeds, seeds_map = _seeds([results, *(lookup(results, "other_seeds") or [])], used)
    teacher = str(lookup(results, "teacher") or "")
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
        "seeds": seeds,
        "seeds_map": KINDS[seeds_map].label,
        "used_map": KINDS[used].label,
        "used_map_measured": bool(measured[used]),
        "map_before": map_before(results, config),
        "fnr_known": measured[used].get("fnr") is not None,
        "combined_maps": " and ".join(f'the map "{KINDS[scale.anomaly_map].label}"' for scale in config.combined_maps),
        "other_maps": [KINDS[name].label for name in others],
        "other_settings": [key for key in ours if paper.get(key) not in (None, ours[key])],
    }


def map_before(results: dict[str, Any], config: STLMConfig) -> str:
    """Label of the map that judged after the training, where a calibration has named another since; else ""."""
    trained = lookup(results, "recalibration.trained_map")
    return next((kind.label for name, kind in KINDS.items() if name == trained != config.anomaly_map), "")


def _seeds(runs: Sequence[dict[str, Any]], used: str) -> tuple[list[list[str]], str]:
    """Figures of trainings with several seeds as rows of cells, mean and range last, and the map they are of.

    That is the map that judges or, where not all trainings have it since some are older, the first that they all have.
    """
    maps = [metrics_of(run) for run in runs]
    name = next((name for name in (used, *KINDS) if all(found[name] for found in maps)), used)
    if len(runs) == 1:
        return [], name
    measured = [found[name] for found in maps]
    keys = [key for key in METRICS if any(found.get(key) is not None for found in measured)]
    rows = [["seed", *(METRICS[key][0] for key in keys)]]
    rows += [
        [str(lookup(run, "seed")), *(_cell(key, found.get(key)) for key in keys)]
        for run, found in zip(runs, measured, strict=True)
    ]
    mean, spread = ["**mean**"], ["highest - lowest, points"]
    for key in keys:
        values = [found[key] for found in measured if found.get(key) is not None]
        whole = len(values) == len(runs)
        mean.append(_cell(key, sum(values) / len(values) if whole else None))
        spread.append(f"{100 * (max(values) - min(values)):.2f}" if whole else "-")
    rows += [mean, spread]
    commits = [markdown(lookup(run.get("trained") or run, "versions.commit") or "not kept") for run in runs]
    if len(set(commits)) > 1 or commits[0] == "not kept" or commits[0].endswith("-dirty"):
        rows = [[*row, cell] for row, cell in zip(rows, ["commit of the code", *commits, "", ""], strict=True)]
    return rows, name


def _cell(key: str, value: Any) -> str:
    if value in (None, ""):
        return "-"
    if key in METRICS:
        return f"{100 * value:.2f} %"
    return f"{value} px" if key == "image_size" else markdown(value)


def metrics_of(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {name: lookup(results, kind.figures) or {} for name, kind in KINDS.items()}


def _check_fraction(name: str, value: Any) -> None:
    if value is not None and (not isinstance(value, (int, float)) or not 0 <= value <= 1):  # NaN is neither
        raise ConfigError(f"{name} in results.json must be a fraction in [0, 1], not {value!r:.60}.")
