"""How well one, two and four photographs of good parts judge, without any training: every set, three draws each.

    python benchmarks/references.py --data DIR --output benchmarks/references.json

The references are drawn from the good photographs of a set by a seed; the two contain the one, the four the two. The
test photographs are a sample that is the same for all. Maps are those before Segment Anything outlines them. A row of
the file that was measured before is kept.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.table import Table
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.data_sets import SETS, PhotoSet, read_set  # noqa: E402
from benchmarks.figures import read_rows, write_rows  # noqa: E402
from stlm_hub.cli.console import console, exit_on_error  # noqa: E402
from stlm_hub.evaluation.evaluate import TestSet  # noqa: E402
from stlm_hub.evaluation.masks import read_mask  # noqa: E402
from stlm_hub.evaluation.metrics import compute_metrics  # noqa: E402
from stlm_hub.files.fingerprint import fingerprint  # noqa: E402
from stlm_hub.models.stlm.judging import DEFAULT_THRESHOLD  # noqa: E402
from stlm_hub.models.stlm.scales import in_unit  # noqa: E402
from stlm_hub.predict.frame import resize_image, to_frame  # noqa: E402
from stlm_hub.predict.images import load_image  # noqa: E402
from stlm_hub.zero_shot.reference_memory import ReferenceMemory  # noqa: E402

NUMBERS = (1, 2, 4)
SEEDS = (0, 1, 2)
QUALITY = ("i_auroc", "p_auroc", "aupro", "ap")
Kept = dict[tuple[int, tuple[int, int]], list[Tensor]]
"""What the backbones see of test photographs, by number and frame: the same for all references of one frame."""


def measure(found: PhotoSet, test: TestSet, n: int, seed: int, kept: Kept) -> dict[str, Any]:
    """Looks at n references and judges the test photographs: one row."""
    order = np.random.default_rng(seed).permutation(len(found.train))
    chosen = [found.train[i] for i in order[:n]]
    started = time.process_time()
    memory = ReferenceMemory([load_image(path) for path in chosen])
    seconds, scores, maps, masks = time.process_time() - started, [], [], []
    for i, path in enumerate(test.photographs):
        image = load_image(path)
        shape = (image.shape[0], image.shape[1])
        if (i, memory.frame_size) not in kept:
            kept[i, memory.frame_size] = memory.see(resize_image(image, memory.frame_size))
        far, highest = memory.limits(kept[i, memory.frame_size])
        maps.append(to_frame(in_unit(far)[0, 0].numpy(), shape))
        scores.append(float(in_unit(highest)))
        known = i - len(test.good)
        if test.masks:
            masks.append(read_mask(test.masks[known], shape) if known >= 0 else np.zeros(shape, bool))
    labels = [0] * len(test.good) + [1] * len(test.anomalous)
    figures = compute_metrics(scores, labels, maps, masks or None, threshold=DEFAULT_THRESHOLD)
    rejected = np.array(scores) >= DEFAULT_THRESHOLD
    return {
        "set": found.name,
        "references": n,
        "seed": seed,
        "names": [path.name for path in chosen],
        "photographs": fingerprint(test.photographs),
        "good": len(test.good),
        "anomalous": len(test.anomalous),
        **{name: None if (value := getattr(figures, name)) is None else 100 * value for name in QUALITY},
        "good_rejected": int(rejected[: len(test.good)].sum()),
        "anomalous_missed": int((~rejected[len(test.good) :]).sum()),
        "seconds_to_look": seconds,
    }


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each set and number of references: means and lowest I-AUROC of the draws, shares in percent."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["set"], row["references"]), []).append(row)
    made = []
    for (name, n), draws in groups.items():
        means = {key: None if draws[0][key] is None else float(np.mean([row[key] for row in draws])) for key in QUALITY}
        made.append(
            {
                "set": name,
                "references": n,
                "draws": len(draws),
                **means,
                "lowest": min(row["i_auroc"] for row in draws),
                "rejected": 100 * sum(row["good_rejected"] for row in draws) / sum(row["good"] for row in draws),
                "missed": 100 * sum(row["anomalous_missed"] for row in draws) / sum(row["anomalous"] for row in draws),
            }
        )
    return made


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Prints `summary`, and the means over the sets."""
    table = Table(title="References, means of the draws")
    heads = ("set", "references", "I-AUROC", "lowest", "P-AUROC", "AUPRO", "AP", "good rejected %", "missed %")
    for head in heads:
        table.add_column(head, justify="left" if head == "set" else "right")
    columns = ("i_auroc", "lowest", "p_auroc", "aupro", "ap", "rejected", "missed")
    found = summary(rows)
    for row in found:
        cells = ["-" if row[name] is None else f"{row[name]:.1f}" for name in columns]
        table.add_row(row["set"], str(row["references"]), *cells)
    for n in sorted({row["references"] for row in found}):
        of_n = [row for row in found if row["references"] == n]
        means = [np.mean([row[name] for row in of_n if row[name] is not None]) for name in columns]
        table.add_row("mean", str(n), *(f"{value:.1f}" for value in means))
    console.print(table)


def main(
    data: Annotated[Path, typer.Option(help="Folder with the sets, see data_sets.py.")],
    output: Annotated[Path, typer.Option(help="JSON file; rows that it has are kept.")],
    name: Annotated[list[str] | None, typer.Option("--set", help="Sets to measure; default: all.")] = None,
    number: Annotated[list[int] | None, typer.Option(help="Numbers of references; default: 1, 2, 4.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Each draws other references; default: 0, 1, 2.")] = None,
    good: Annotated[int, typer.Option(help="Good test photographs of a set, at most.")] = 12,
    anomalous: Annotated[int, typer.Option(help="Anomalous test photographs of a set, at most.")] = 28,
) -> None:
    """Measures references on every set."""
    torch.set_num_threads(1)
    rows = read_rows(output)
    for one in name or list(SETS):
        found = read_set(data, one)
        test, kept = found.sample(good, anomalous, 0), Kept()
        for drawn in seed or SEEDS:
            for n in number or NUMBERS:
                if any((row["set"], row["references"], row["seed"]) == (one, n, drawn) for row in rows):
                    continue
                rows.append(measure(found, test, n, drawn, kept))
                write_rows(output, "benchmarks/references.py", rows)
    show(rows)


if __name__ == "__main__":
    with exit_on_error():
        typer.run(main)
