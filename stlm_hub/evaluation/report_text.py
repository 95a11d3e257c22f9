"""The sections of a report, in Markdown."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import numpy as np

from .. import __version__
from ..files.fingerprint import fingerprint
from ..model_folder.card.text import markdown
from ..model_folder.figures import METRICS
from ..model_folder.results import Results
from ..models.stlm.config import size_text
from ..models.stlm.scales import MAP_LABELS
from ..predict.prediction import VERDICTS
from ..stlm import STLM
from ..wording import number_of
from .evaluate import Evaluation, TestSet
from .kind_figures import KindFigures
from .pictures import Picture

PHOTOGRAPHS = "photographs"
"""Folder of the pictures that hold photographs of the data set; the others may be passed on freely."""


def facts(model: STLM, test: TestSet, threshold: float, seconds: float) -> list[str]:
    """What was measured, on what; `seconds` are those of all photographs together."""
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


def split(results: Results | None, test: TestSet) -> list[str]:
    """What the model's results say of these photographs; of others they know nothing."""
    known = results.dataset if results else None
    if known is None or known.split is None or known.split.official or known.test is None:
        return []
    if known.test.sha256 != fingerprint(test.photographs + test.masks):
        return []
    return [f"**The split: {markdown(known.split.words)}.**\n"]


def notes(said: Sequence[str]) -> list[str]:
    """What may make the figures wrong, before them."""
    return ["## Notes\n", *(f"- {markdown(note)}" for note in said), ""] if said else []


def metrics_table(evaluation: Evaluation, used: str) -> list[str]:
    """Figures of every map; the threshold is that of the map `used`."""
    figures = evaluation.figures.values()
    rows = [[label, *(_percent(getattr(found, key)) for found in figures)] for key, (label, _) in METRICS.items()]
    return [
        "## Figures\n",
        *_table(["", *(MAP_LABELS[name] for name in evaluation.figures)], rows),
        *([] if evaluation.has_masks else ["There are no masks, so there are no figures of pixels.\n"]),
        f"Verdicts, plots and pictures are of the map {MAP_LABELS[used]}; the threshold is not for the others.\n",
    ]


def kinds_table(kinds: Sequence[KindFigures], good_scores: Sequence[float], threshold: float) -> list[str]:
    """Figures of each kind of defect, and the false alarms."""
    rows = [
        [_cell(row.kind), str(row.n), _percent(row.i_auroc), f"{row.missed} of {row.n}", _percent(row.ap)]
        for row in kinds
    ]
    false_alarms = int(np.count_nonzero(np.asarray(good_scores) >= threshold))
    reach = "reaches" if false_alarms == 1 else "reach"
    return [
        "## Kinds of defects\n",
        *_table(["kind", "photographs", "I-AUROC", "missed at the threshold", "pixel AP"], rows),
        "I-AUROC is against all good photographs, pixel AP over the photographs of the kind alone. "
        f"Of {number_of(len(good_scores), 'good photograph')} {false_alarms} {reach} the threshold (false alarms).\n",
    ]


def pictures(panels: Sequence[Picture], threshold: float, has_losses: bool) -> list[str]:
    """Links to the plots, and a row for each panel of a photograph."""
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
