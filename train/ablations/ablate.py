"""One ablation of the paper on one category: `python -m train ablate TABLE --category bottle --data DIR`.

A variant is trained once for each category and profile, whichever tables it stands in. What was trained is kept, so
that the command goes on where it was cut off. What tables and variants there are: `tables.py`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from accelerate import PartialState
from rich.table import Table

from stlm_hub.cli.progress import RunProgress, console
from stlm_hub.errors import ConfigError, STLMError, StorageError
from stlm_hub.evaluation.evaluate import check_both_kinds
from stlm_hub.fingerprint import fingerprint
from stlm_hub.models.stlm.anomaly_maps import KINDS
from stlm_hub.starting_weights.sources import starting_weights
from stlm_hub.training.data import split_normals
from stlm_hub.training.pipeline import Source, run
from stlm_hub.training.pseudo_anomalies.textures import TextureSource
from stlm_hub.training.teacher import SAM_FILES

from ..datasets import mvtec_ad
from ..datasets.category import Category
from ..recipe import Recipe, load_recipe
from .tables import Impossible, Variant, load_table

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "stlm_hub"
CODE = (  # of the library: what makes a row
    *("model/*.py", "evaluation/metrics.py", "evaluation/evaluate.py"),
    *("calibration.py", "images.py", "map_scales.py", "maps.py", "predictor.py"),
)
NO_CODE = (  # of training/: changes no figure
    "budget.py",
    "checkpoint.py",
    "finetune.py",
    "identity.py",
    "machine.py",
    "memory.py",
    "trained.py",
)
FIGURES = {"i_auroc": "I-AUROC", "p_auroc": "P-AUROC", "aupro": "AUPRO", "ap": "AP", "fnr": "FNR"}


def ablate(
    table: Annotated[
        str,
        typer.Argument(help="4, 5, 6, 7, 8, 9, 10, 11, fig5, fig6, fig10, fig11, teachers, hardest, recipe, options."),
    ],
    data: Annotated[Path, typer.Option(help="Folder that MVTec AD was unpacked to.")],
    category: Annotated[str, typer.Option(help="Of MVTec AD, e.g. bottle.")] = "bottle",
    profile: Annotated[
        str, typer.Option(help="Settings of the recipe: cpu-short, cpu-paper (as long as cpu) or paper-gpu.")
    ] = "cpu-short",
    variant: Annotated[
        list[str] | None, typer.Option(help="Train this row alone, e.g. stlm; may be given again. Default: all rows.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where models, logs and figures go.")] = ROOT / "runs",
    teachers: Annotated[Path | None, typer.Option(help="Folder of Segment Anything's .pth files.")] = None,
    textures: Annotated[Path | None, typer.Option(help="Folder of textures; default: the built-in ones.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Starting weights; default: fetched and kept.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Loader processes; 0 without a GPU.")] = 0,
) -> None:
    """Trains the variants of a table of the paper and prints their figures beside the paper's."""
    if PartialState().num_processes > 1:
        raise ConfigError("An ablation trains one variant after the other in one process; start it without a launcher.")
    recipe = load_recipe(f"mvtec-{category}", profile)
    title, note, rows = load_table(table, recipe)
    names = [row.name for row in rows]
    chosen = list(dict.fromkeys(variant or names))
    if unknown := [name for name in chosen if name not in names]:
        raise ConfigError(f"Table {table} has no variant {unknown[0]!r}; choose of {', '.join(names)}.")
    photographs = mvtec_ad.read_category(data / category)
    check_both_kinds(photographs.test, data / category)
    folder = runs / "ablations" / f"{recipe.alias}-{profile}"
    start = starting_weights(weights, on_message=console.print)
    source = TextureSource.from_folder(textures) if textures else None
    # with the settings these decide what a row is; one that is kept is of the same
    facts = (
        fingerprint(photographs.train),
        fingerprint(photographs.test.photographs + photographs.test.masks),
        start.sha256,
        fingerprint(source.photographs) if source else "",
        fingerprint(_code()),
        torch.__version__,
    )
    wanted = {row.digest(*facts) for row in rows if isinstance(row, Variant) and row.name in chosen}
    command = f"python -m train ablate {table} --category {category} --profile {profile} --data DIR"
    command += "".join(f" --variant {name}" for name in chosen) if variant else ""
    command += (" --textures DIR" if textures else "") + (" --teachers DIR" if teachers else "")
    done: list[dict[str, Any]] = []
    for number, row in enumerate(rows, start=1):
        reason = row.reason if isinstance(row, Impossible) else _missing_checkpoint(row.training.teacher, teachers)
        if reason or isinstance(row, Impossible):
            done.append({"label": row.label, "not_run": reason})
            continue
        digest = row.digest(*facts)
        work = folder / f"{row.name}-{digest}"
        known = next(folder.glob(f"*-{digest}/model/results.json"), None)
        if known:
            done.append(_row(row, json.loads(known.read_text(encoding="utf-8"))))
            continue
        if digest not in wanted:
            done.append({"label": row.label, "not_run": "it is not among the chosen variants."})
            continue
        console.print(f"{row.label} ({number} of {len(rows)})", highlight=False)
        progress = RunProgress(row.name)
        try:
            with progress as observer:
                results = run(
                    split_normals(photographs.train, row.training.held_out, row.training.seed),
                    row.model,
                    row.training,
                    start,
                    _source(row, recipe, photographs, command),
                    work=work,
                    output=work / "model",
                    test=photographs.test,
                    textures=source,
                    teacher_checkpoint=teachers / SAM_FILES[row.training.teacher]
                    if teachers and row.training.teacher in SAM_FILES
                    else None,
                    workers=workers,
                    observer=observer,
                )
        except STLMError as error:
            if progress.stopped or isinstance(error, StorageError):
                raise
            done.append({"label": row.label, "not_run": str(error)})  # the others can be compared without it
            continue
        shutil.rmtree(work / "checkpoints", ignore_errors=True)  # 400 MB, of a training that is finished
        done.append(_row(row, results))
    report = {
        "table": table,
        "title": title,
        "note": note,
        "category": recipe.alias,
        "split": photographs.split,
        "profile": profile,
        "command": command,
        "rows": done,
    }
    path = folder / f"table-{table}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    console.print(_shown(report))
    if photographs.split.startswith("not"):
        console.print(f"The split is {photographs.split}.", highlight=False)
    if note:
        console.print(note, highlight=False)
    for entry in done:
        if "not_run" in entry:
            console.print(f"Not run, {entry['label']}: {entry['not_run']}", highlight=False, soft_wrap=True)
    console.print(f"{path} holds the figures.", highlight=False, soft_wrap=True)


def _code() -> list[Path]:
    training = [path for path in LIBRARY.glob("training/*.py") if path.name not in NO_CODE]
    return [*training, *(path for part in CODE for path in LIBRARY.glob(part))]


def _missing_checkpoint(teacher: str, teachers: Path | None) -> str:
    """Why a teacher cannot teach, or nothing."""
    if teacher not in SAM_FILES or (teachers and (teachers / SAM_FILES[teacher]).is_file()):
        return ""
    return f"it needs {SAM_FILES[teacher]} of the segment-anything repository; pass the file's folder as --teachers."


def _source(row: Variant, recipe: Recipe, photographs: Category, command: str) -> Source:
    return Source(
        alias=f"{recipe.alias}-{row.name}",
        dataset={
            "name": recipe.dataset,
            "license": recipe.license,
            "homepage": recipe.homepage,
            "split": photographs.split,
            "note": f"An ablation of a short training, not a model to use: {row.label}.",
        },
        weights_license=recipe.license,
        repo_id=f"stlm-hub/ablation-{recipe.alias}-{row.name}",
        command=command,
        profile=recipe.profile,
    )


def _row(row: Variant, results: dict[str, Any]) -> dict[str, Any]:
    """Figures of the map that the variant is about, and of the model's others."""
    judging = KINDS[row.model.anomaly_map].figures
    others = [kind.figures for kind in KINDS.values() if kind.figures != judging and results.get(kind.figures)]
    return {
        "label": row.label,
        "variant": row.name,
        "teacher": row.training.teacher,
        "metrics": results[judging],
        "other_maps": {name: results[name] for name in others},
        "paper": row.paper,
        "paper_category": row.paper_category,
        "steps": results["steps"],
        "seconds": results["seconds"],
        "parameters": results["parameters"],
        "date": results["date"],
    }


def _shown(report: dict[str, Any]) -> Table:
    """The table for a terminal; what is the same in all rows, or in none, takes no column."""
    trained = [entry for entry in report["rows"] if "not_run" not in entry]
    teachers = {entry["teacher"] for entry in trained}
    with_teacher = len(teachers) > 1
    with_paper = any(entry["paper"] or entry["paper_category"] for entry in trained)
    title = f"{report['title']}: {report['category']}, profile {report['profile']}, in %"
    if teachers and not with_teacher:
        title += f", teacher {min(teachers)}"
    if with_paper:
        title += (
            "\n(paper: I-AUROC/P-AUROC/PRO or FNR, mean over 15 categories, 1024 px, ViT-H; below it of this category)"
        )
    shown = Table(title=title)
    shown.add_column("variant", min_width=12)
    if with_teacher:
        shown.add_column("teacher")
    for name in FIGURES.values():
        shown.add_column(name, justify="right", no_wrap=True)
    if with_paper:
        shown.add_column("paper", justify="right", no_wrap=True)
    for entry in report["rows"]:
        cells = [entry["label"]]
        if "not_run" in entry:
            shown.add_row(*cells, *["-"] * (with_teacher + len(FIGURES)))
            continue
        if with_teacher:
            cells.append(entry["teacher"])
        figures = [entry["metrics"].get(name) for name in FIGURES]
        cells += ["-" if f is None else f"{100 * f:.2f}" for f in figures]
        if with_paper:
            papers = [
                "/".join(f"{100 * entry[which][name]:.2f}" for name in FIGURES if name in entry[which])
                for which in ("paper", "paper_category")
            ]
            cells.append("\n".join(filter(None, papers)) or "-")
        shown.add_row(*cells)
    return shown
