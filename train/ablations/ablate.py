"""One ablation of the paper on one category: `python -m train ablate TABLE --category bottle --data DIR`.

A variant is trained once for each category and profile, whichever tables it stands in. What was trained is kept, so
that the command goes on where it was cut off. What tables and variants there are: `tables.py`.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from stlm_hub.cli.console import console, say
from stlm_hub.cli.progress import RunProgress
from stlm_hub.errors import ConfigError, STLMError, StorageError
from stlm_hub.evaluation.evaluate import check_both_kinds
from stlm_hub.files.fingerprint import fingerprint
from stlm_hub.model_folder import results as model_results
from stlm_hub.model_folder.provenance import Command, DatasetFacts, Provenance
from stlm_hub.model_folder.results import Results
from stlm_hub.pseudo_anomalies.textures import TextureSource
from stlm_hub.starting_weights.sources import starting_weights
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.training.data import split_normals
from stlm_hub.training.job import Job
from stlm_hub.training.pipeline import run
from stlm_hub.training.processes import processes
from stlm_hub.training.teacher import SAM_FILES

from ..datasets import mvtec_ad
from ..datasets.category import Category
from ..recipe import Recipe, load_recipe
from .report import row_of, shown
from .tables import Impossible, Variant, load_table

ROOT = Path(__file__).resolve().parents[2]
CODE = (  # what makes a row
    "stlm_hub/models/**/*.py",
    "stlm_hub/predict/*.py",
    "stlm_hub/calibration/*.py",
    "stlm_hub/evaluation/metrics.py",
    "stlm_hub/evaluation/evaluate.py",
    "stlm_hub/pseudo_anomalies/*.py",
    "stlm_hub/training/**/*.py",
    "train/ablations/objectives.py",
    "train/ablations/masks.py",
)
NO_CODE = (  # of stlm_hub/training/: changes no figure
    "budget.py",
    "checkpoint.py",
    "feedback.py",
    "fill_memory.py",
    "finetune.py",
    "identity.py",
    "log.py",
    "machine.py",
    "observer.py",
    "options.py",
    "recalibrate.py",
    "trained.py",
)


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
    if processes().num_processes > 1:
        raise ConfigError("An ablation trains one variant after the other in one process; start it without a launcher.")
    recipe = load_recipe(f"mvtec-{category}", profile)
    title, note, rows = load_table(table, recipe)
    chosen = _chosen(table, rows, variant)
    photographs = mvtec_ad.read_category(data / category)
    check_both_kinds(photographs.test, data / category)
    options: dict[str, bool | int | float | str] = {"category": category, "profile": profile, "data": "DIR"}
    options |= {"textures": "DIR"} if textures else {}
    options |= {"teachers": "DIR"} if teachers else {}
    command = Command("python -m train ablate", (table,), options)
    trainings = _Trainings(
        recipe,
        photographs,
        runs / "ablations" / f"{recipe.alias}-{profile}",
        starting_weights(weights, on_message=say),
        TextureSource.from_folder(textures) if textures else None,
        teachers,
        workers,
        command,
    )
    done = trainings.of(rows, chosen)
    report = {
        "table": table,
        "title": title,
        "note": note,
        "category": recipe.alias,
        "split": photographs.split.words if photographs.split else "",
        "profile": profile,
        "command": command.line + "".join(f" --variant {name}" for name in (chosen if variant else [])),
        "rows": done,
    }
    path = trainings.folder / f"table-{table}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    _print(report, path)


def _chosen(table: str, rows: list[Variant | Impossible], variants: list[str] | None) -> list[str]:
    """Names of the rows to train, each once.

    Raises:
        ConfigError: the table has no such row.
    """
    names = [row.name for row in rows]
    if unknown := [name for name in variants or [] if name not in names]:
        raise ConfigError(f"Table {table} has no variant {unknown[0]!r}; choose of {', '.join(names)}.")
    return list(dict.fromkeys(variants or names))


@dataclass(frozen=True)
class _Trainings:
    """What the trainings of a table share."""

    recipe: Recipe
    photographs: Category
    folder: Path  # receives a folder for each training
    weights: StartingWeights
    textures: TextureSource | None
    teachers: Path | None  # folder of Segment Anything's checkpoints
    workers: int
    command: Command

    def of(self, rows: list[Variant | Impossible], chosen: list[str]) -> list[dict[str, Any]]:
        """Each row with its figures, or with "not_run" and why."""
        digests = self._digests(rows)
        wanted = {digests[name] for name in chosen if name in digests}
        return [self._row(row, f"{number} of {len(rows)}", digests, wanted) for number, row in enumerate(rows, start=1)]

    def _digests(self, rows: list[Variant | Impossible]) -> dict[str, str]:
        """By a variant's name: settings and all else that decides its figures. Kept ones are found by it."""
        facts = (
            fingerprint(self.photographs.train),
            fingerprint(self.photographs.test.photographs + self.photographs.test.masks),
            self.weights.sha256,
            fingerprint(self.textures.photographs) if self.textures else "",
            fingerprint(code()),
            torch.__version__,
        )
        return {row.name: row.digest(*facts) for row in rows if isinstance(row, Variant)}

    def _row(self, row: Variant | Impossible, place: str, digests: dict[str, str], wanted: set[str]) -> dict[str, Any]:
        if isinstance(row, Impossible):
            return {"label": row.label, "not_run": row.reason}
        if reason := self._missing_checkpoint(row.teacher):
            return {"label": row.label, "not_run": reason}
        digest = digests[row.name]
        if known := next(self.folder.glob(f"*-{digest}/model/results.json"), None):
            return row_of(row, model_results.load(known))
        if digest not in wanted:
            return {"label": row.label, "not_run": "it is not among the chosen variants."}
        say(f"{row.label} ({place})")
        progress = RunProgress(row.name)
        try:
            return row_of(row, self._train(row, self.folder / f"{row.name}-{digest}", progress))
        except STLMError as error:
            if progress.stopped or isinstance(error, StorageError):
                raise
            return {"label": row.label, "not_run": str(error)}  # the others can be compared without it

    def _train(self, row: Variant, work: Path, progress: RunProgress) -> Results:
        """Trains and evaluates one variant."""
        with progress as observer:
            results = run(
                Job(
                    split=split_normals(self.photographs.train, row.training.held_out, row.training.seed),
                    config=row.model,
                    anomaly_map=row.anomaly_map,
                    training=row.training,
                    objective=row.objective,
                    weights=self.weights,
                    provenance=self._provenance(row),
                    dataset=self._dataset(row),
                    work=work,
                    output=work / "model",
                    test=self.photographs.test,
                    textures=self.textures,
                    teacher_checkpoint=self._checkpoint(row.teacher),
                    workers=self.workers,
                ),
                observer,
            )
        assert results is not None  # a single process
        shutil.rmtree(work / "checkpoints", ignore_errors=True)  # 400 MB, of a training that is finished
        return results

    def _checkpoint(self, teacher: str) -> Path | None:
        return self.teachers / SAM_FILES[teacher] if self.teachers and teacher in SAM_FILES else None

    def _missing_checkpoint(self, teacher: str) -> str:
        """Why a teacher cannot teach, or nothing."""
        path = self._checkpoint(teacher)
        if teacher not in SAM_FILES or (path and path.is_file()):
            return ""
        return (
            f"it needs {SAM_FILES[teacher]} of the segment-anything repository; pass the file's folder as --teachers."
        )

    def _provenance(self, row: Variant) -> Provenance:
        return Provenance(
            alias=f"{self.recipe.alias}-{row.name}",
            repo_id=f"stlm-hub/ablation-{self.recipe.alias}-{row.name}",
            weights_license=self.recipe.license,
            profile=self.recipe.profile,
            commands=(self.command,),
        )

    def _dataset(self, row: Variant) -> DatasetFacts:
        return DatasetFacts(
            name=self.recipe.dataset,
            license=self.recipe.license,
            homepage=self.recipe.homepage,
            split=self.photographs.split,
            note=f"An ablation of a short training, not a model to use: {row.label}.",
        )


def code() -> list[Path]:
    """Files that decide a row's figures."""
    found = (path for pattern in CODE for path in sorted(ROOT.glob(pattern)))
    training = ROOT / "stlm_hub" / "training"
    return [path for path in found if not (path.parent == training and path.name in NO_CODE)]


def _print(report: dict[str, Any], path: Path) -> None:
    console.print(shown(report))
    if report["split"].startswith("not"):
        say(f"The split is {report['split']}.")
    if report["note"]:
        say(report["note"])
    for row in report["rows"]:
        if "not_run" in row:
            say(f"Not run, {row['label']}: {row['not_run']}")
    say(f"{path} holds the figures.")
