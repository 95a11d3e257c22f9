"""What `--refine` does to outlines: by each model, on test photographs, and on pseudo anomalies, which may decide.

    python benchmarks/refine.py --data DIR --output benchmarks/refine.json

The five categories of MVTec AD are judged by the zoo's models, the other sets by a memory alone (`finetune(steps=0)`)
of all their good photographs. F1, IoU and boundary F are means over the anomalous photographs, at the model's own
threshold; one that is not rejected has no outline and counts 0. Average precision and F1-max are of all pixels.

Whether a model should refine is asked of pseudo anomalies on good photographs that its streams do not know, whose own
patches its memory leaves out. Test photographs decide nothing. A row of the file that was measured before is kept.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.data_sets import MVTEC, SETS, PhotoSet, read_set  # noqa: E402
from benchmarks.figures import read_rows, write_rows  # noqa: E402
from benchmarks.outlines import Agreement, agreement  # noqa: E402
from stlm_hub.calibration.normals import Normal  # noqa: E402
from stlm_hub.calibration.outlines import pairs  # noqa: E402
from stlm_hub.cli.console import console, exit_on_error, say  # noqa: E402
from stlm_hub.cli.progress import RunProgress  # noqa: E402
from stlm_hub.errors import DataError  # noqa: E402
from stlm_hub.evaluation.evaluate import TestSet  # noqa: E402
from stlm_hub.evaluation.masks import read_mask  # noqa: E402
from stlm_hub.evaluation.metrics import compute_metrics  # noqa: E402
from stlm_hub.files.fingerprint import fingerprint  # noqa: E402
from stlm_hub.model_folder import results  # noqa: E402
from stlm_hub.models.stlm.outline_gain import OutlineGain  # noqa: E402
from stlm_hub.predict.images import load_image  # noqa: E402
from stlm_hub.predict.photographs import check_photographs  # noqa: E402
from stlm_hub.predict.prediction import Prediction  # noqa: E402
from stlm_hub.stlm import STLM  # noqa: E402
from stlm_hub.training.config import TrainingConfig  # noqa: E402
from stlm_hub.training.data import Split, split_normals  # noqa: E402
from stlm_hub.training.finetune import finetune, held_out_of  # noqa: E402
from stlm_hub.zero_shot.refine import refined  # noqa: E402
from stlm_hub.zero_shot.segment import SegmentAnything, segment_anything  # noqa: E402

DEFAULT_SETS = tuple(name for name in SETS if name != "aliens")  # which has no masks
OUTLINE = Agreement._fields


@dataclass
class Judged:
    """Predictions of some photographs by one way, and how their outlines agree with the true ones."""

    maps: list[np.ndarray] = field(default_factory=list)
    agreements: list[Agreement] = field(default_factory=list)

    def add(self, prediction: Prediction, truth: np.ndarray) -> None:
        self.maps.append(prediction.anomaly_map)
        if truth.any():
            self.agreements.append(agreement(prediction.mask, truth))

    def means(self) -> dict[str, float]:
        """F1, IoU and boundary F in percent."""
        return {name: 100 * float(np.mean([getattr(one, name) for one in self.agreements])) for name in OUTLINE}


def measure(found: PhotoSet, model: STLM, split: Split, sam: SegmentAnything, n: Numbers, seed: int) -> dict[str, Any]:
    """One row: test photographs and pseudo anomalies, each with and without."""
    test = found.sample(n.good, n.anomalous, seed)
    return {
        "set": found.name,
        "seed": seed,
        "numbers": {"good": len(test.good), "anomalous": len(test.anomalous), "pseudo": n.pseudo},
        "photographs": fingerprint(test.photographs),
        "threshold": model.judging.threshold,
        "test": on_test(model, test, sam),
        "pseudo": on_pseudo_anomalies(model, split, sam, n.pseudo, seed),
    }


@dataclass(frozen=True)
class Numbers:
    """How many photographs of each kind a row takes at most."""

    good: int
    anomalous: int
    pseudo: int


def on_test(model: STLM, test: TestSet, sam: SegmentAnything) -> dict[str, Any]:
    """Figures with and without, and seconds of one core."""
    ways = {"plain": Judged(), "refined": Judged()}
    masks, scores, seconds, extra = [], [], [], []
    for i, path in enumerate(test.photographs):
        image = load_image(path)
        started = time.process_time()
        plain = model.predict(image, refine=False)
        judged = time.process_time()
        sharp = refined(plain, sam)
        seconds.append(judged - started)
        if plain.verdict == "reject":
            extra.append(time.process_time() - judged)
        known = i - len(test.good)
        masks.append(np.zeros(image.shape[:2], bool) if known < 0 else read_mask(test.masks[known], image.shape[:2]))
        scores.append(plain.score)
        for way, prediction in zip(ways.values(), (plain, sharp), strict=True):
            way.add(prediction, masks[-1])
    labels = [0] * len(test.good) + [1] * len(test.anomalous)
    figures: dict[str, Any] = {}
    for name, way in ways.items():
        pixels = compute_metrics(scores, labels, way.maps, masks, threshold=None)
        assert pixels.ap is not None and pixels.f1_max is not None
        figures[name] = {"ap": 100 * pixels.ap, "f1_max": 100 * pixels.f1_max, **way.means()}
    return {
        **figures,
        "rejected": len(extra),
        "seconds": float(np.mean(seconds)),
        "extra_seconds_of_a_rejected": float(np.mean(extra)) if extra else 0.0,
    }


def on_pseudo_anomalies(model: STLM, split: Split, sam: SegmentAnything, n: int, seed: int) -> dict[str, Any]:
    """The same on damage painted on good photographs; `helps` is what a calibration tells a model."""
    ways = {"plain": Judged(), "refined": Judged()}
    held_out = [Normal(path, len(split.train) + k) for k, path in enumerate(split.held_out)]
    for plain, sharp, truth in pairs(model, held_out, n, seed, sam):
        for way, prediction in zip(ways.values(), (plain, sharp), strict=True):
            way.add(prediction, truth)
    gain = OutlineGain.of([b.f1 - a.f1 for a, b in zip(*(way.agreements for way in ways.values()), strict=True)])
    return {
        **{name: way.means() for name, way in ways.items()},
        "gain": 100 * gain.mean,
        "standard_error": 100 * gain.standard_error,
        "helps": gain.helps,
    }


def load(found: PhotoSet, folder: Path) -> tuple[STLM, Split]:
    """The zoo's model of a set, or a memory alone of it, written under `folder`; and its split of the good photographs.

    Raises:
        DataError: the photographs are not those that the zoo's model was made of.
    """
    share = TrainingConfig().held_out
    if found.name in MVTEC:
        place, split = ROOT / "model_cards" / f"mvtec-{found.name}", split_normals(found.train, share, 0)
    else:
        with RunProgress(found.name) as observer:
            place = finetune(found.train[0].parent, found.name, output=folder / found.name, steps=0, observer=observer)
        paths = check_photographs(found.train[0].parent).paths
        split = split_normals(paths, share, 0, at_least=held_out_of(len(paths)))
    known = results.load(place / "results.json").dataset.held_out
    if known is None or known.sha256 != fingerprint(split.held_out):
        raise DataError(f"The model of {found.name} was made of other photographs; give --data the set it is of.")
    return STLM.from_pretrained(place, device="cpu", backend="torch"), split


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Prints a row for each set, without and with, and the means."""
    table = Table(title="Outlines without -> with --refine, percent")
    columns = ("f1", "iou", "boundary_f", "ap", "f1_max")
    for head in ("set", *columns, "s", "more s", "pseudo anomalies: gain of F1"):
        table.add_column(head, justify="left" if head == "set" else "right")
    for row in rows:
        test, pseudo = row["test"], row["pseudo"]
        told = "helps" if pseudo["helps"] else "no"
        table.add_row(
            row["set"],
            *(f"{test['plain'][name]:.1f} -> {test['refined'][name]:.1f}" for name in columns),
            f"{test['seconds']:.2f}",
            f"{test['extra_seconds_of_a_rejected']:.1f}",
            f"{pseudo['gain']:+.1f} +- {pseudo['standard_error']:.1f}, {told}",
        )
    console.print(table)
    gains = [row["test"]["refined"]["f1"] - row["test"]["plain"]["f1"] for row in rows]
    chosen = [gain if row["pseudo"]["helps"] else 0.0 for gain, row in zip(gains, rows, strict=True)]
    say(
        f"mean gain of F1: {np.mean(gains):+.1f} where every model refines, {np.mean(chosen):+.1f} where those do "
        "whose pseudo anomalies say so",
    )


def main(
    data: Annotated[Path, typer.Option(help="Folder with the sets, see data_sets.py.")],
    output: Annotated[Path, typer.Option(help="JSON file; rows that it has are kept.")],
    name: Annotated[list[str] | None, typer.Option("--set", help="Sets to measure; default: all with masks.")] = None,
    good: Annotated[int, typer.Option(help="Good test photographs of a set, at most.")] = 6,
    anomalous: Annotated[int, typer.Option(help="Anomalous test photographs of a set, at most.")] = 24,
    pseudo: Annotated[int, typer.Option(min=2, help="Pseudo anomalies of a set.")] = 16,
    seed: Annotated[int, typer.Option(help="Decides which photographs, and what is painted.")] = 0,
) -> None:
    """Measures outlines with and without refinement on every set."""
    torch.set_num_threads(1)
    rows, numbers = read_rows(output), Numbers(good, anomalous, pseudo)
    sam = segment_anything()
    for one in name or DEFAULT_SETS:
        if any((row["set"], row["seed"]) == (one, seed) for row in rows):
            continue
        found = read_set(data, one)
        with tempfile.TemporaryDirectory(prefix="stlm-refine-") as folder:
            model, split = load(found, Path(folder))
            rows.append(measure(found, model, split, sam, numbers, seed))
        write_rows(output, "benchmarks/refine.py", rows)
        say(f"{one}: {rows[-1]['test']}")
    show(rows)


if __name__ == "__main__":
    with exit_on_error():
        typer.run(main)
