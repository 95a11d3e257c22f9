"""CLIP and Segment Anything without photographs of good parts, beside the published figures of such methods.

    python benchmarks/zero_shot.py --mvtec-ad DIR --visa DIR --output benchmarks/zero_shot.json

Pixel-level F1-max, AP, P-AUROC and AUPRO, and I-AUROC, of CLIP's map alone and of the map that PPG and CPS refine, over
the test photographs of each category. As the published methods do, maps and masks are compared at CLIP's input size. It
needs CLIP's weights, see docs/zero_shot.md. A row of the file that was measured before is kept.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from rich.progress import Progress, TaskID
from rich.table import Table
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.figures import read_rows, write_rows  # noqa: E402
from stlm_hub.cli.console import console, exit_on_error  # noqa: E402
from stlm_hub.errors import DataError  # noqa: E402
from stlm_hub.evaluation.evaluate import check_both_kinds  # noqa: E402
from stlm_hub.evaluation.masks import read_mask  # noqa: E402
from stlm_hub.evaluation.metrics import compute_metrics  # noqa: E402
from stlm_hub.models.stlm.judging import DEFAULT_THRESHOLD  # noqa: E402
from stlm_hub.predict.frame import to_frame  # noqa: E402
from stlm_hub.predict.images import load_image  # noqa: E402
from stlm_hub.zero_shot.detector import ZeroShot  # noqa: E402
from stlm_hub.zero_shot.refine import refine_map  # noqa: E402
from train.datasets import mvtec_ad, visa  # noqa: E402
from train.datasets.category import Category  # noqa: E402

PUBLISHED = Path(__file__).with_name("zero_shot_published.json")
MAPS = {"clip": "CLIP alone", "refined": "CLIP, PPG and CPS"}
"""Maps of a row, and what tables call them."""
FIGURES = {"f1_max": "F1-max", "ap": "AP", "p_auroc": "P-AUROC", "aupro": "AUPRO"}

READERS: dict[str, tuple[dict[str, Any], Callable[[Path, str], Category]]] = {
    "MVTec AD": (mvtec_ad.OFFICIAL_COUNTS, lambda root, name: mvtec_ad.read_category(root / name)),
    "VisA": (visa.OFFICIAL_COUNTS, visa.read_category),
}
"""Categories of each data set, and what reads one of them."""


def part_name(category: str) -> str:
    """What a category's part is called in a prompt: "metal_nut" -> "metal nut", "pcb1" -> "pcb"."""
    return re.sub(r"\d+$", "", category).replace("_", " ")


def measure(
    model: ZeroShot, data_set: str, name: str, category: Category, on_image: Callable[[int, int], None]
) -> dict[str, Any]:
    """The row of one category.

    Args:
        model: what judges.
        data_set, name: of the category.
        category: only its test photographs are looked at.
        on_image: called with (done, total) after each photograph.

    Raises:
        DataError: good or anomalous photographs, or masks, are missing.
    """
    test, size = category.test, model.input_size
    check_both_kinds(test, name)
    if not test.masks:
        raise DataError(f"{name} of {data_set} has no masks; figures of pixels need them.")
    labels = [0] * len(test.good) + [1] * len(test.anomalous)
    maps: dict[str, list[np.ndarray]] = {kind: [] for kind in MAPS}
    seconds = dict.fromkeys(MAPS, 0.0)
    scores, masks = [], []
    for done, path in enumerate(test.photographs):
        image = load_image(path)
        shape = (image.shape[0], image.shape[1])
        started = time.perf_counter()
        (seen,) = model.see([image], part_name(name))
        looked = time.perf_counter()
        coarse = to_frame(seen.anomaly_map, shape)
        sharp = refine_map(image, coarse, DEFAULT_THRESHOLD, model.sam)
        seconds["clip"] += looked - started
        seconds["refined"] += time.perf_counter() - started
        maps["clip"].append(to_frame(seen.anomaly_map, size))
        maps["refined"].append(cv2.resize(sharp, size[::-1], interpolation=cv2.INTER_AREA).clip(0, 1))
        truth = read_mask(test.masks[done - len(test.good)], shape) if labels[done] else np.zeros(shape, bool)
        masks.append(cv2.resize(truth.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA) >= 0.5)
        scores.append(seen.score)
        on_image(done + 1, len(labels))
    figures = {kind: compute_metrics(scores, labels, maps[kind], masks, threshold=None).to_dict() for kind in MAPS}
    return {
        "data_set": data_set,
        "category": name,
        "part": part_name(name),
        "weights": model.clip.name,
        "input_size": list(size),
        "n_good": len(test.good),
        "n_anomalous": len(test.anomalous),
        "official_split": bool(category.split and category.split.official),
        "figures": figures,
        "seconds_per_photograph": {kind: round(total / len(labels), 2) for kind, total in seconds.items()},
    }


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Prints the categories of each data set, and their means beside the published figures, in percent."""
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    for data_set, (categories, _) in READERS.items():
        own = [row for row in rows if row["data_set"] == data_set]
        if not own:
            continue
        table = Table(title=f"{data_set}, zero-shot, %")
        for head in ("", *FIGURES.values(), "source"):
            table.add_column(head, justify="left" if head in ("", "source") else "right")
        for kind, title in MAPS.items():
            for row in own:
                table.add_row(f"{row['category']}: {title}", *_cells(row["figures"][kind], 100.0), "")
        for kind, title in MAPS.items():
            means = {name: np.mean([row["figures"][kind][name] for row in own]) for name in FIGURES}
            table.add_row(
                Text.assemble((title, "bold"), f", mean of {len(own)} of {len(categories)}"),
                *_cells(means, 100.0),
                own[0]["weights"],
            )
        for row in published["rows"]:
            if row["data_set"] == data_set:
                table.add_row(row["method"], *_cells(row), row["source"])
        for row in published["gains"]:
            if row["data_set"] == data_set:
                gained = [f"+{row[name]:.1f}" if name in row else "" for name in FIGURES]
                table.add_row(f"{row['method']}, gain", *gained, row["source"])
        console.print(table)


def _cells(figures: dict[str, Any], times: float = 1.0) -> list[str]:
    return ["" if figures.get(name) is None else f"{times * figures[name]:.1f}" for name in FIGURES]


def main(
    output: Annotated[Path, typer.Option(help="JSON file; rows that it has are kept.")],
    mvtec: Annotated[Path | None, typer.Option("--mvtec-ad", help="Folder of MVTec AD.")] = None,
    visa_root: Annotated[Path | None, typer.Option("--visa", help="Folder of VisA.")] = None,
    category: Annotated[list[str] | None, typer.Option(help="Category, e.g. bottle; default: all there are.")] = None,
    clip: Annotated[str | None, typer.Option(help="CLIP's weights: hf-hub:org/repo, folder or file.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...; default: cuda where there is one.")] = None,
) -> None:
    """Measures zero-shot verdicts and maps on VisA and MVTec AD."""
    roots = {name: root for name, root in (("MVTec AD", mvtec), ("VisA", visa_root)) if root is not None}
    wanted = [
        (data_set, name, root)
        for data_set, root in roots.items()
        for name in READERS[data_set][0]
        if (name in category if category else _is_there(root, name))
    ]
    if not wanted:
        raise DataError("There is no such category; name folders with --mvtec-ad and --visa that hold some.")
    found = [(data_set, name, READERS[data_set][1](root, name)) for data_set, name, root in wanted]
    model = ZeroShot.from_pretrained(clip, device=device)
    rows = read_rows(output)
    known = {(row["data_set"], row["category"], row["weights"]) for row in rows}
    for data_set, name, photographs in found:
        if (data_set, name, model.clip.name) in known:
            continue
        with Progress(console=console, transient=True) as bars:
            task = bars.add_task(f"{data_set} {name}", total=len(photographs.test.photographs))
            rows.append(measure(model, data_set, name, photographs, _shown_by(bars, task)))
        write_rows(output, "benchmarks/zero_shot.py", rows)
    show([row for row in rows if row["weights"] == model.clip.name])


def _shown_by(bars: Progress, task: TaskID) -> Callable[[int, int], None]:
    return lambda done, _: bars.update(task, completed=done)


def _is_there(root: Path, name: str) -> bool:
    return any((folder / name).is_dir() for folder in (root, root / "1cls"))


if __name__ == "__main__":
    with exit_on_error():
        typer.run(main)
