"""The loop: one photograph after the other -> verdict, row in the journal, sinks."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import DataError, STLMError
from ..models.stlm.judging import Judging
from ..predict.prediction import Prediction
from ..validate import expanded
from .camera import URL, Camera, VideoFile
from .drift import Drift
from .folder import FolderSource
from .journal import Journal, read_rows
from .outbox import Outbox, Sender
from .rejects import Rejects
from .row import Row
from .senders import CsvFile
from .source import Frame


class Source(Protocol):
    """A folder, a camera or a video file."""

    def frames(self, stopped: Callable[[], bool]) -> Iterator[Frame]:
        """Photographs, until there are none or it is stopped."""


class Model(Protocol):
    """What judges."""

    judging: Judging

    def predict(
        self, image_or_list: np.ndarray, *, threshold: float | None = None, refine: bool | None = None
    ) -> Prediction:
        """Judges one HxWx3 uint8 RGB image; with `refine=False` without outlines by Segment Anything."""


def open_source(
    source: str,
    done: Collection[str],
    *,
    every: float,
    once: bool = False,
    bits: int | None = None,
    say: Callable[[str], None],
) -> Source:
    """The source that a text names: a folder, a video file, a camera's number, a device or a URL.

    Raises:
        DataError: it is none of these, or cannot be opened.
    """
    path = expanded(source)
    if source.isdigit() or URL.match(source) or path.is_char_device():
        return Camera(source, done, every, say)
    if path.is_file():
        return VideoFile(path, done, every)
    return FolderSource(path, done, once=once, bits=bits, say=say)


def watch(
    model: Model,
    source: str,
    output: Path,
    *,
    threshold: float | None = None,
    every: float = 1.0,
    once: bool = False,
    csv: Path | None = None,
    senders: Sequence[Sender] = (),
    rejects: Rejects | None = None,
    drift: Drift | None = None,
    on_row: Callable[[Row], None] = lambda row: None,
    say: Callable[[str], None] = lambda message: None,
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Judges until the source ends or `stopped`; goes on where an earlier one with this output was cut off.

    Args:
        model: that judges.
        source: see `open_source`.
        output: folder of the journal.
        threshold: in [0, 1]; None: the calibrated one.
        every: seconds from frame to frame of a camera or a video.
        once: end when a folder holds nothing new.
        csv: file for the same rows as a table.
        senders: receivers of each row.
        rejects: where pictures of rejected and unfamiliar parts go.
        drift: tests of the rows; earlier rows of the same threshold are replayed to it.
        on_row, say: are told each row, and what happens to folders, cameras and receivers.
        stopped: asked between photographs.

    Returns:
        Number of rows that were written.

    Raises:
        DataError: source, output, table or folder of rejects cannot be used.
    """
    written = 0
    with ExitStack() as stack:
        output, csv = expanded(output), None if csv is None else expanded(csv)
        if rejects is not None:
            _check_apart(expanded(source), rejects.folder)
        journal = stack.enter_context(Journal(output))
        frames = open_source(source, journal.ids, every=every, once=once, bits=model.judging.bits, say=say)
        if drift is not None:
            judged_by = model.judging.threshold if threshold is None else threshold
            for _, row in read_rows(journal.path):
                if row.threshold == judged_by:  # else of another calibration, whose scores mean something else
                    drift.add(row)
        table = None if csv is None else CsvFile(csv, journal.path)
        if table is not None:
            stack.callback(table.close)
        outboxes = [Outbox(output, sender, say) for sender in senders]
        for outbox in outboxes:
            outbox.start()
            stack.callback(_stop, outbox, say)
        for frame in frames.frames(stopped):
            row = _judged(model, frame, threshold, rejects)
            if drift is not None:
                row = dataclasses.replace(row, advice=drift.add(row))
            journal.append(row)
            if table is not None:
                table.add(row)
            for outbox in outboxes:
                outbox.wake()
            on_row(row)
            written += 1
    return written


def _check_apart(source: Path, rejects: Path) -> None:
    """Refuses rejects in the watched folder, each of which would be a photograph to reject again."""
    if source.is_dir() and (source.resolve() == rejects.resolve() or source.resolve() in rejects.resolve().parents):
        raise DataError(
            f"{rejects} lies in {source}, so its pictures would be judged as photographs; name a folder beside it for "
            "--rejects."
        )


def _judged(model: Model, frame: Frame, threshold: float | None, rejects: Rejects | None) -> Row:
    started = time.perf_counter()
    row = Row(frame.id, frame.path, datetime.now(timezone.utc).isoformat(timespec="milliseconds"), error=frame.error)
    row = dataclasses.replace(row, note=" ".join(frame.notes) or None)
    if frame.image is None:
        return dataclasses.replace(row, seconds=round(frame.seconds, 4))
    try:
        judged = model.predict(frame.image, threshold=threshold, refine=False)  # a line waits for no outline
    except STLMError as error:
        return dataclasses.replace(row, error=str(error), seconds=round(frame.seconds, 4))
    picture, notes = None, list(frame.notes)
    if rejects is not None and judged.verdict in ("reject", "unfamiliar"):
        try:
            picture = str(rejects.keep(frame.id, judged))
        except (STLMError, OSError) as error:  # the verdict counts, whatever became of the disk for pictures
            notes.append(f"Its picture is not kept: {error}")
    return dataclasses.replace(
        row,
        note=" ".join(notes) or None,
        verdict=judged.verdict,
        score=judged.score,
        threshold=judged.threshold,
        review_threshold=judged.review_threshold,
        unfamiliarity=judged.unfamiliarity,
        seconds=round(frame.seconds + time.perf_counter() - started, 4),
        picture=picture,
    )


def _stop(outbox: Outbox, say: Callable[[str], None]) -> None:
    if not outbox.stop():
        say(f"Some rows have not reached {outbox.sender.name}; the next stlm watch with this --output sends them.")
