"""What a table of ablations came to: one row of figures for each variant, as JSON and for a terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from stlm_hub.model_folder.results import Results

from .tables import Variant

FIGURES = {"i_auroc": "I-AUROC", "p_auroc": "P-AUROC", "aupro": "AUPRO", "ap": "AP", "fnr": "FNR"}


def row_of(variant: Variant, results: Results) -> dict[str, Any]:
    """Figures of the map that the variant is about, and of the model's others."""
    figures = {name: found.to_dict() for name, found in results.maps.items()}
    training = results.training
    assert training is not None  # a run writes it
    return {
        "label": variant.label,
        "variant": variant.name,
        "teacher": variant.teacher,
        "metrics": figures.pop(variant.anomaly_map),
        "other_maps": figures,
        "paper": variant.paper,
        "paper_category": variant.paper_category,
        "steps": training.steps,
        "seconds": training.seconds,
        "parameters": results.parameters,
        "date": results.provenance.made.date,
    }


def shown(report: dict[str, Any]) -> Table:
    """The table for a terminal; what is the same in all rows, or in none, takes no column."""
    trained = [row for row in report["rows"] if "not_run" not in row]
    teachers = {row["teacher"] for row in trained}
    with_teacher = len(teachers) > 1
    with_paper = any(row["paper"] or row["paper_category"] for row in trained)
    table = Table(title=_title(report, min(teachers) if len(teachers) == 1 else "", with_paper))
    table.add_column("variant", min_width=12)
    if with_teacher:
        table.add_column("teacher")
    for name in FIGURES.values():
        table.add_column(name, justify="right", no_wrap=True)
    if with_paper:
        table.add_column("paper", justify="right", no_wrap=True)
    for row in report["rows"]:
        table.add_row(row["label"], *_cells(row, with_teacher, with_paper))
    return table


def _title(report: dict[str, Any], teacher: str, with_paper: bool) -> str:
    title = f"{report['title']}: {report['category']}, profile {report['profile']}, in %"
    if teacher:
        title += f", teacher {teacher}"
    if with_paper:
        title += (
            "\n(paper: I-AUROC/P-AUROC/PRO or FNR, mean over 15 categories, 1024 px, ViT-H; below it of this category)"
        )
    return title


def _cells(row: dict[str, Any], with_teacher: bool, with_paper: bool) -> list[str]:
    if "not_run" in row:
        return ["-"] * (with_teacher + len(FIGURES))
    figures = [row["metrics"].get(name) for name in FIGURES]
    cells = [row["teacher"]] if with_teacher else []
    cells += ["-" if figure is None else f"{100 * figure:.2f}" for figure in figures]
    if with_paper:
        papers = [
            "/".join(f"{100 * row[which][name]:.2f}" for name in FIGURES if name in row[which])
            for which in ("paper", "paper_category")
        ]
        cells.append("\n".join(filter(None, papers)) or "-")
    return cells
