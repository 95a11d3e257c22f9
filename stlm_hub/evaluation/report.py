"""A model on the test photographs of a folder -> report.md, plots, and panels of photographs apart from them."""

from __future__ import annotations

import json
import math
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import DataError
from ..model_folder.results import Results
from ..predict.photographs import few
from ..stlm import STLM
from ..validate import expanded
from ..wording import number_of
from . import report_text
from .evaluate import TestSet, check_both_kinds, curves, evaluate
from .kind_figures import kind_figures
from .pictures import judged_photographs, write_overview, write_panels
from .plots import LOSSES, plot_curves, plot_losses, plot_score_histogram
from .report_text import PHOTOGRAPHS
from .test_folder import read_test_set

_TITLE = "# Report of "
_LAYOUT = "test/good, test/<kind of defect> and ground_truth/<kind of defect>, as in MVTec AD"


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
        defects = number_of(len(test.anomalous), "photograph")
        title = f"{name} on {category}: worst, median and best of {defects} with a defect"
        write_overview(photographs / "overview.png", judged, threshold, title)
        panels = write_panels(photographs, judged, threshold)
        lines = [
            f"{_TITLE}{name} on {category}\n",
            *report_text.facts(model, test, threshold, evaluation.seconds),
            *report_text.split(results, test),
            *report_text.notes(evaluation.notes),
            *report_text.metrics_table(evaluation, used),
            *report_text.kinds_table(kind_figures(judged, threshold), evaluation.good_scores, threshold),
            *report_text.pictures(panels, threshold, bool(records or losses)),
            *(["## Make it again\n", f"```bash\n{shlex.join(command)}\n```"] if command else []),
        ]
        report = output / "report.md"
        report.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8", errors="replace", newline="\n")
    except OSError as error:
        raise DataError(f"{output} cannot be written: {error.strerror or error}; choose another folder.") from None
    return report


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
