"""A model on the test photographs of a folder -> report.md, plots, and panels of photographs apart from them."""

from __future__ import annotations

import datetime
import json
import math
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from .. import __version__
from ..errors import DataError
from ..fingerprint import fingerprint
from ..model_folder.card.text import markdown
from ..model_folder.figures import METRICS
from ..model_folder.results import Results
from ..models.stlm.anomaly_maps import MAP_LABELS
from ..models.stlm.config import size_text
from ..predict.photographs import few
from ..predict.prediction import VERDICTS
from ..stlm import STLM
from ..validate import expanded
from .evaluate import Evaluation, TestSet, check_both_kinds, curves, evaluate
from .metrics import average_precision
from .pictures import GOOD, JudgedPhotograph, Picture, judged_photographs, write_overview, write_panels
from .plots import LOSSES, plot_curves, plot_losses, plot_score_histogram
from .test_folder import read_test_set

PHOTOGRAPHS = "photographs"
"""Folder of the pictures that hold photographs of the data set; the others may be passed on freely."""

_TITLE = "# Report of "
_LAYOUT = "test/good, test/<kind of defect> and ground_truth/<kind of defect>, as in MVTec AD"


@dataclass(frozen=True)
class KindFigures:
    """How the model does on the `n` photographs of one kind of defect.

    Args:
        i_auroc: of these photographs against all good ones.
        missed: number of those whose score stays below the threshold.
        ap: average precision of the pixels of these photographs; None where their masks mark nothing.
    """

    kind: str
    n: int
    i_auroc: float
    missed: int
    ap: float | None


def write_report(
    model: STLM,
    name: str,
    data: Path,
    output: Path,
    *,
    results: Results | None = None,
    log: Path | None = None,
    losses: Path | None = None,
    command: Sequence[str] = (),
    on_image: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] = lambda note: None,
) -> Path:
    """Evaluates a model and writes what there is to see.

    Args:
        model: at its calibrated threshold, or at `DEFAULT_THRESHOLD` without one.
        name: of the model, for titles.
        data: folder of one category in MVTec AD's layout.
        output: receives report.md, scores.png, curves.png, losses.png (where they are known), photographs/. An earlier
            report there is replaced.
        results: of the model, which know the split where these are the photographs that it was evaluated on.
        log: of the training, log.jsonl.
        losses: plot of the training's losses, for want of a log.
        command: what makes the report again, word by word.
        on_image: called with (done, total) after each photograph.
        say: is told what may make the figures wrong, which is in the report, too.

    Returns:
        The path of report.md.

    Raises:
        DataError: the folder lacks something, the log is none, or `output` holds other things or cannot be written.
        ImageError: a photograph cannot be read.
    """
    data, output = expanded(data), expanded(output)
    test = _test_set(data)
    records = _read_log(expanded(log)) if log else []
    _check_output(output)
    threshold, used = model.judging.threshold, model.judging.judge_by
    # The threshold is that of the map in use; what another map would miss at a threshold of its own is not known.
    evaluation = evaluate(model, test, {used: threshold}, on_image)
    for note in few(evaluation.notes):
        say(note)
    judged = judged_photographs(test, evaluation, threshold)
    category = data.resolve().name
    try:
        photographs = _empty_folder(output)
        plot_score_histogram(
            output / "scores.png",
            model.judging,
            evaluation.good_scores,
            evaluation.anomalous_scores,
        )
        plot_curves(output / "curves.png", curves(evaluation))
        if records:
            steps = [int(record["step"]) for record in records]
            plot_losses(output / "losses.png", steps, {key: [record[key] for record in records] for key in LOSSES})
        elif losses:
            shutil.copyfile(losses, output / "losses.png")
        title = f"{name} on {category}: worst, median and best of {len(test.anomalous)} photographs with a defect"
        write_overview(photographs / "overview.png", judged, threshold, title)
        panels = write_panels(photographs, judged, threshold)
        lines = [
            f"{_TITLE}{name} on {category}\n",
            *_facts(model, test, threshold, evaluation.seconds),
            *_split(results, test),
            *_notes(evaluation.notes),
            *_metrics_table(evaluation, used),
            *_kinds_table(kind_figures(judged, threshold), evaluation.good_scores, threshold),
            *_pictures(panels, threshold, bool(records or losses)),
            *(["## Make it again\n", f"```bash\n{shlex.join(command)}\n```"] if command else []),
        ]
        report = output / "report.md"
        report.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8", errors="replace", newline="\n")
    except OSError as error:
        raise DataError(f"{output} cannot be written: {error.strerror or error}; choose another folder.") from None
    return report


def kind_figures(judged: Sequence[JudgedPhotograph], threshold: float) -> list[KindFigures]:
    """A row for each kind of defect, by name."""
    good = [photograph.score for photograph in judged if photograph.kind == GOOD]
    rows = []
    for kind in sorted({photograph.kind for photograph in judged} - {GOOD}):
        same = [photograph for photograph in judged if photograph.kind == kind]
        scores = [photograph.score for photograph in same]
        rows.append(
            KindFigures(
                kind=kind,
                n=len(same),
                i_auroc=float(roc_auc_score([0] * len(good) + [1] * len(scores), good + scores)),
                missed=sum(score < threshold for score in scores),
                ap=_pixel_precision(same),
            )
        )
    return rows


def _pixel_precision(photographs: Sequence[JudgedPhotograph]) -> float | None:
    masks = [photograph.truth for photograph in photographs if photograph.truth is not None]
    if len(masks) < len(photographs):
        return None
    return average_precision([photograph.anomaly_map for photograph in photographs], masks)


def _test_set(folder: Path) -> TestSet:
    if not (folder / "test").is_dir():
        raise DataError(f"{folder / 'test'} is missing; pass --data with the folder of one category: {_LAYOUT}.")
    test = read_test_set(folder)
    check_both_kinds(test, folder)
    return test


def _read_log(path: Path) -> list[dict[str, float]]:
    """The records of a training's log; a last line that was cut off is left out."""
    records = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); pass --log with the log.jsonl of the training.") from None
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            records.append({key: float(record[key]) for key in ("step", *LOSSES)})
        except (ValueError, TypeError, LookupError):
            if number < len(lines):
                raise DataError(f"Line {number} of {path} is no step of a training; pass its log.jsonl.") from None
    if not records or not all(math.isfinite(record["step"]) for record in records):
        raise DataError(f"{path} holds no steps of a training; pass --log with its log.jsonl, or leave it out.")
    return records


def _check_output(output: Path) -> None:
    """Only an earlier report is written over."""
    if output.is_dir() and any(output.iterdir()):
        report = output / "report.md"
        if not report.is_file() or not report.read_text(encoding="utf-8", errors="replace").startswith(_TITLE):
            raise DataError(f"{output} is not empty and holds no earlier report; name another --output.")
    elif output.exists() and not output.is_dir():
        raise DataError(f"{output} is a file; name a folder as --output.")


def _empty_folder(output: Path) -> Path:
    """The folder for pictures with photographs; those of an earlier report go. Git never takes what it holds."""
    photographs = output / PHOTOGRAPHS
    photographs.mkdir(parents=True, exist_ok=True)
    for stale in [*photographs.glob("*.png"), output / "losses.png"]:
        stale.unlink(missing_ok=True)
    (photographs / ".gitignore").write_text("*\n", encoding="utf-8")
    (output / "report.md").write_text(f"{_TITLE}\n", encoding="utf-8")  # one that is cut off may be made again
    return photographs


def _facts(model: STLM, test: TestSet, threshold: float, seconds: float) -> list[str]:
    calibration = model.calibration
    how = (
        f"calibrated on {calibration.n} photographs of good parts at a false-alarm rate of "
        f"{100 * calibration.false_alarm_rate:g} %"
        if calibration
        else "the model was never calibrated"
    )
    pace = f"{1000 * seconds / len(test.photographs):.0f} ms a photograph, reading and all maps"
    return [
        f"{len(test.good)} good and {len(test.anomalous)} defective test photographs, network input "
        f"{size_text(model.config.network)}, threshold {threshold:.6g} ({how}). {pace} "
        f"on {next(model.parameters()).device}. stlm_hub {__version__}, {datetime.date.today().isoformat()}.\n"
    ]


def _split(results: Results | None, test: TestSet) -> list[str]:
    """What the model's results say of these photographs; of others they know nothing."""
    known = results.dataset if results else None
    if known is None or known.split is None or known.split.official or known.test is None:
        return []
    if known.test.sha256 != fingerprint(test.photographs + test.masks):
        return []
    return [f"**The split: {markdown(known.split.words)}.**\n"]


def _notes(notes: Sequence[str]) -> list[str]:
    """What may make the figures wrong, before them."""
    return ["## Notes\n", *(f"- {markdown(note)}" for note in notes), ""] if notes else []


def _metrics_table(evaluation: Evaluation, used: str) -> list[str]:
    figures = evaluation.figures.values()
    rows = [[label, *(_percent(getattr(found, key)) for found in figures)] for key, (label, _) in METRICS.items()]
    return [
        "## Figures\n",
        *_table(["", *(MAP_LABELS[name] for name in evaluation.figures)], rows),
        *([] if evaluation.has_masks else ["There are no masks, so there are no figures of pixels.\n"]),
        f"Verdicts, plots and pictures are of the map {MAP_LABELS[used]}; the threshold is not for the others.\n",
    ]


def _kinds_table(kinds: Sequence[KindFigures], good_scores: Sequence[float], threshold: float) -> list[str]:
    rows = [
        [_cell(row.kind), str(row.n), _percent(row.i_auroc), f"{row.missed} of {row.n}", _percent(row.ap)]
        for row in kinds
    ]
    false_alarms = int(np.count_nonzero(np.asarray(good_scores) >= threshold))
    return [
        "## Kinds of defects\n",
        *_table(["kind", "photographs", "I-AUROC", "missed at the threshold", "pixel AP"], rows),
        "I-AUROC is against all good photographs, pixel AP over the photographs of the kind alone. "
        f"Of {len(good_scores)} good photographs {false_alarms} reach the threshold (false alarms).\n",
    ]


def _pictures(panels: Sequence[Picture], threshold: float, has_losses: bool) -> list[str]:
    rows = []
    for picture in panels:
        judged = picture.judged
        verdict, _ = VERDICTS["reject" if judged.score >= threshold else "pass"]
        rows.append(
            [
                f"[{_cell(picture.path.name)}](<{PHOTOGRAPHS}/{picture.path.name}>)",
                _cell(judged.name),
                picture.place if picture.n == 1 else f"{picture.place} of {picture.n}",
                judged.rank_text(),
                f"{judged.score:.4f}",
                verdict if judged.is_correct(threshold) else f"**{verdict}**, wrong",
            ]
        )
    return [
        "## Pictures\n",
        "Without photographs: [scores.png](scores.png) (histograms of the anomaly scores), [curves.png](curves.png) "
        f"(ROC, per-region overlap){', [losses.png](losses.png) (training)' if has_losses else ''}.\n",
        "With photographs of the data set, whose licence decides who may see them: "
        f"[overview.png]({PHOTOGRAPHS}/overview.png) and these panels. Photographs with a defect are ranked by the "
        "overlap (IoU) of found and true mask, worst is lowest, missed ones have 0; good ones by the anomaly score, "
        "worst is highest.\n",
        *_table(["panel", "photograph", "place", "ranked by", "score", "verdict"], rows),
    ]


def _table(head: list[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]] + [""]


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.2f} %"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
