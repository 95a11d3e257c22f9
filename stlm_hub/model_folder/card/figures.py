"""The figures in a model card: the table of its maps beside the paper's, and that of other seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...models.stlm.config import STLMConfig, size_text
from ...models.stlm.judging import Judging
from ...models.stlm.scales import MAP_LABELS
from ..figures import METRICS, MapFigures
from ..provenance import Circumstances
from ..results import Results
from .text import Ready

TEACHERS = {"vit_h": "SAM ViT-H", "vit_l": "SAM ViT-L", "vit_b": "SAM ViT-B", "mobile": "MobileSAM"}


@dataclass(frozen=True)
class CardFigures:
    """Tables as rows of cells, the heading first, and what has to be said of them.

    Args:
        rows: the maps' figures and the paper's; empty where nothing was measured.
        used_map, drawn_map: labels of the map that judges, and of the one that is shown and outlined.
        used_map_measured, fnr_known: whether it has figures, and the share of missed photographs among them.
        map_before: label of the map that judged after the training, where another one does now; else "".
        several_maps: whether other maps than the one that judges have figures, too.
        setting, paper_setting: image size and teacher, this model's and the paper's; both "" where they are the same.
        seeds: figures of each seed, then their mean and range; empty where there is one seed.
        seeds_map: label of the map that those are of.
        same_code: whether all seeds are known to be trained by the same code.
    """

    rows: list[list[str]]
    used_map: str
    drawn_map: str
    used_map_measured: bool
    fnr_known: bool
    map_before: str
    several_maps: bool
    setting: str
    paper_setting: str
    seeds: list[list[str]]
    seeds_map: str
    same_code: bool


def card_figures(results: Results, config: STLMConfig, judging: Judging) -> CardFigures:
    """What the template needs of the figures."""
    used = judging.judge_by
    measured = {name: figures for name in MAP_LABELS if (figures := _figures(results.maps, name))}
    columns: dict[str, dict[str, float]] = {}
    if used in measured:
        columns[Ready(f"**This model**, {MAP_LABELS[used]}")] = measured[used]
    columns |= {f"This model, {MAP_LABELS[name]}": found for name, found in measured.items() if name != used}
    if results.paper:
        columns["Paper"] = results.paper.to_dict()
    rows = [["", *columns]]
    for key, (label, _) in METRICS.items():
        cells = [_cell(found.get(key)) for found in columns.values()]
        if any(cell != "-" for cell in cells):
            rows.append([label, *cells])
    setting, paper_setting = _settings(results, config)
    runs = _runs(results)
    seeds_map = next((name for name in (used, *MAP_LABELS) if all(_figures(run.maps, name) for run in runs)), used)
    commits = {run.made.commit for run in runs}
    return CardFigures(
        rows=rows if measured else [],
        used_map=MAP_LABELS[used],
        drawn_map=MAP_LABELS[judging.drawn],
        used_map_measured=used in measured,
        fnr_known="fnr" in measured.get(used, {}),
        map_before=map_before(results, judging),
        several_maps=used in measured and len(measured) > 1,
        setting=setting,
        paper_setting=paper_setting,
        seeds=_seeds(runs, seeds_map),
        seeds_map=MAP_LABELS[seeds_map],
        same_code=len(commits) == 1 and not any(commit == "" or commit.endswith("-dirty") for commit in commits),
    )


def map_before(results: Results, judging: Judging) -> str:
    """Label of the map that judged after the training, where a calibration has named another since; else ""."""
    trained = results.recalibration.trained_map if results.recalibration else judging.judge_by
    return MAP_LABELS[trained] if trained != judging.judge_by else ""


class _Run(NamedTuple):
    """One training of the recipe."""

    seed: int
    made: Circumstances
    maps: Mapping[Any, MapFigures]  # by name


def _runs(results: Results) -> list[_Run]:
    """The model's own training and those with other seeds; none where its own seed is not known."""
    if results.training is None:
        return []
    own = _Run(results.training.seed, results.training.made or results.provenance.made, results.maps)
    return [own, *(_Run(other.seed, other.made, other.maps) for other in results.other_seeds)]


def _seeds(runs: list[_Run], map_name: str) -> list[list[str]]:
    """Figures of one map by seed, mean and range last."""
    if len(runs) < 2:
        return []
    measured = [_figures(run.maps, map_name) for run in runs]
    keys = [key for key in METRICS if any(key in found for found in measured)]
    rows = [["seed", *(METRICS[key][0] for key in keys)]]
    rows += [[str(run.seed), *(_cell(f.get(key)) for key in keys)] for run, f in zip(runs, measured, strict=True)]
    mean: list[str] = [Ready("**mean**")]
    spread = ["highest - lowest, points"]
    for key in keys:
        values = [found[key] for found in measured if key in found]
        whole = len(values) == len(runs)
        mean.append(_cell(sum(values) / len(values) if whole else None))
        spread.append(f"{100 * (max(values) - min(values)):.2f}" if whole else "-")
    return [*rows, mean, spread]


def _settings(results: Results, config: STLMConfig) -> tuple[str, str]:
    """Image size and teacher, this model's and the paper's, as far as the latter are known; "" where they agree."""
    paper = results.paper
    if paper is None:
        return "", ""
    teacher = results.training.teacher if results.training else ""
    pairs = []
    if paper.image_size is not None:
        pairs.append((size_text(config.network), f"{paper.image_size} px"))
    if paper.teacher and teacher:
        pairs.append((f"teacher {TEACHERS.get(teacher, teacher)}", f"teacher {paper.teacher}"))
    ours, theirs = (" and ".join(part) for part in zip(*pairs, strict=True)) if pairs else ("", "")
    return ("", "") if ours == theirs else (ours, theirs)


def _figures(maps: Mapping[Any, MapFigures], name: str) -> dict[str, float]:
    return maps[name].to_dict() if name in maps else {}


def _cell(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.2f} %"
