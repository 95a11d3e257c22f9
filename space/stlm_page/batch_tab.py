"""Batch: many photographs in; gallery, table, CSV and an archive of panels out. A bad file stops nothing."""

from __future__ import annotations

import csv
import functools
import io
import shutil
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import torch

from stlm_hub.errors import ImageError
from stlm_hub.files.spreadsheet import harmless
from stlm_hub.predict.images import Picture, read_picture
from stlm_hub.predict.prediction import VERDICTS, Prediction, Unusable
from stlm_hub.predict.stream import predict_many
from stlm_hub.wording import number_of

from .errors import user_errors
from .events import PRIVATE, SILENT
from .judge import MODELS, judge
from .pictures import mask_bytes, panel_bytes, thumbnail
from .scratch import SCRATCH
from .slots import PHOTOGRAPHS
from .stops import Stops
from .uploads import Upload, file_field, uploads

HEADERS = ["File", "Verdict", "Score", "Threshold", "Marked, %", "Note"]
PER_CALL = 8 if torch.cuda.is_available() else 2
"""Photographs a call of the network. A slice of a shared graphics card costs a second to get; a processor gains nothing
from many at once, and whoever inspects a single photograph meanwhile waits for one call."""


@dataclass
class Run:
    """What a batch has made so far."""

    folder: Path
    rows: list[list[Any]] = field(default_factory=list)
    gallery: list[tuple[str, str]] = field(default_factory=list)
    anomalous: int = 0
    others: int = 0
    unusable: int = 0

    def add(self, name: str, prediction: Prediction) -> None:
        """A judged photograph: its row, its thumbnail, its panel in the archive."""
        word, _ = VERDICTS[prediction.verdict]
        area = round(100 * float(prediction.mask.mean()), 3)
        numbers = [round(prediction.score, 4), round(prediction.threshold, 4), area]
        self.rows.append([name, word, *numbers, " ".join(prediction.notes)])
        self.gallery.append((thumbnail(prediction), f"{name}: {word}, {prediction.score:.3f}"))
        self.anomalous += prediction.verdict == "reject"
        self.others += prediction.verdict in ("review", "unfamiliar")
        flat = f"{len(self.rows):04d}_{_flat(name)}"
        with zipfile.ZipFile(self.folder / "panels.zip", "a") as archive:  # stored: a PNG does not shrink further
            archive.writestr(f"panels/{flat}.png", panel_bytes(prediction, name))
            archive.writestr(f"masks/{flat}_mask.png", mask_bytes(prediction))

    def refuse(self, name: str, error: ImageError) -> None:
        """A file that is no photograph: its row says why."""
        self.rows.append([name, "unusable", None, None, None, str(error)])
        self.unusable += 1

    def finish(self) -> tuple[str, str]:
        """Paths of the CSV file and of the archive with panels, masks and the CSV."""
        text = io.StringIO()
        writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(["file", "verdict", "score", "threshold", "marked_area_percent", "note"])
        writer.writerows(["" if cell is None else harmless(cell) for cell in row] for row in self.rows)
        table = self.folder / "verdicts.csv"
        table.write_text(text.getvalue(), encoding="utf-8-sig")  # the mark tells Excel that it is UTF-8
        with zipfile.ZipFile(self.folder / "panels.zip", "a") as archive:
            archive.write(table, table.name)
        return str(table), str(self.folder / "panels.zip")


PROGRESS = gr.Progress()
STOPS = Stops()  # batches that are running


def build(model: gr.Dropdown) -> None:
    """Lays out the tab and wires its events. `model` is the page's list of models."""
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            files = file_field("Photographs, or zip archives of them", "batch-files")
            with gr.Row():
                start = gr.Button("Judge all", variant="primary", elem_id="batch-start")
                stop = gr.Button("Stop", elem_id="batch-stop", interactive=False)
        with gr.Column(scale=3, min_width=300):
            summary = gr.Markdown(
                "Each photograph is judged by the model above, at its calibrated threshold. The verdicts appear here.",
                elem_id="batch-summary",
            )
            with gr.Row():
                table_file = gr.DownloadButton("Table (CSV)", size="sm", interactive=False, elem_id="batch-csv")
                archive = gr.DownloadButton("Panels and masks (zip)", size="sm", interactive=False, elem_id="batch-zip")
    gallery = gr.Gallery(
        label="Outlined photographs",
        columns=5,
        height=None,
        object_fit="contain",
        interactive=False,
        visible=False,
        elem_id="batch-gallery",
        buttons=["fullscreen"],
    )
    table = gr.Dataframe(
        headers=HEADERS,
        datatype=["str", "str", "number", "number", "number", "str"],
        label="Verdicts: click a heading to sort",
        interactive=False,
        wrap=True,
        column_widths=["220px", "110px", "90px", "110px", "110px", "auto"],
        visible=False,
        elem_id="batch-table",
        max_height=420,
    )
    start.click(
        judge_all,
        [files, model],
        [summary, gallery, table, table_file, archive, start, stop],
        preprocess=False,
        concurrency_limit=2,
        show_progress="minimal",
        show_progress_on=[summary],
        **PRIVATE,
    )
    stop.click(STOPS.ask, None, stop, queue=False, **SILENT)


@user_errors
def judge_all(
    files: list[dict[str, Any]] | None, name: str, request: gr.Request, progress: gr.Progress = PROGRESS
) -> Iterator[list[Any]]:
    """Judges every photograph; yields what the tab shows after each call of the network."""
    try:
        with STOPS.running(request) as stopped:
            yield from _judge_all(uploads(files), name, stopped, progress)
    except Exception:
        yield [*[gr.skip()] * 5, gr.update(interactive=True), gr.update(interactive=False)]
        raise


def _judge_all(found: list[Upload], name: str, stopped: threading.Event, progress: gr.Progress) -> Iterator[list[Any]]:
    progress(0, desc=f"Loading {name}")
    MODELS.get(name)
    run = Run(SCRATCH.folder())
    try:
        yield from _rounds(found, run, name, stopped, progress)
    finally:
        shutil.rmtree(run.folder, ignore_errors=True)  # the files to download were copied to the page's cache


def _rounds(
    found: list[Upload], run: Run, name: str, stopped: threading.Event, progress: gr.Progress
) -> Iterator[list[Any]]:
    yield [f"0 of {len(found)}", [], [], *_files(None), gr.update(interactive=False), gr.update(interactive=True)]
    predictions = _judged(found, name, MODELS.get(name).network.judging.bits)
    for upload in found:
        if stopped.is_set():
            break
        with PHOTOGRAPHS.one():  # decoded, judged and drawn
            judged = next(predictions)
            if isinstance(judged, Unusable):
                run.refuse(upload.name, judged.error)
            else:
                run.add(upload.name, judged)
        done = len(run.rows)
        progress((done, len(found)), desc="Judging", unit="photographs")
        if done % PER_CALL == 0:
            yield [
                f"{done} of {len(found)}",
                gr.update(value=run.gallery, visible=bool(run.gallery)),
                gr.update(value=run.rows, visible=True),
                *[gr.skip()] * 4,
            ]
    usable = len(run.rows) - run.unusable
    are = "is" if run.anomalous == 1 else "are"
    words = f"**{run.anomalous} of {number_of(usable, 'photograph')} {are} rejected**"
    words += f", {number_of(run.others, 'more needs', 'more need')} a look" if run.others else ""
    words += f", {run.unusable} could not be used (the table says why)" if run.unusable else ""
    words += f". Stopped after {len(run.rows)} of {len(found)}." if stopped.is_set() else "."
    yield [
        words,
        gr.update(value=run.gallery, visible=bool(run.gallery)),
        gr.update(value=run.rows, visible=True),
        *_files(run.finish()),
        gr.update(interactive=True),
        gr.update(interactive=False),
    ]


def _judged(found: list[Upload], name: str, bits: int | None = None) -> Iterator[Prediction | Unusable]:
    """A prediction for each upload, in order, or why it is no photograph; `bits` of the model named so."""
    photographs = [functools.partial(_load, upload, bits) for upload in found]
    return predict_many(functools.partial(judge, name), photographs, batch=PER_CALL)


def _load(upload: Upload, bits: int | None) -> Picture:
    return read_picture(upload.read(), name=upload.name, bits=bits)


def _files(paths: tuple[str, str] | None) -> list[Any]:
    if paths is None:
        return [gr.update(value=None, interactive=False)] * 2
    return [gr.update(value=path, interactive=True) for path in paths]


def _flat(name: str) -> str:
    return "".join(char if char.isalnum() or char in "-_" else "_" for char in str(Path(name).with_suffix("")))[-60:]
