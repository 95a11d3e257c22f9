"""The loop of `stlm watch`: each photograph gets a verdict, a row in the journal, and goes to the sinks."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

from ..errors import DataError, STLMError
from ..runtime.judging_model import JudgingModel
from ..validate import expanded
from .camera import URL, camera_or_video
from .drift import Drift
from .folder import FolderSource
from .journal import Journal, read_rows
from .outbox import Outbox, Sender
from .rejects import Rejects
from .row import Row
from .senders import CsvFile
from .source import Frame
from .video import video_file


class Source(Protocol):
    """A folder, a camera or a video."""

    def frames(self, stopped: Callable[[], bool]) -> Iterator[Frame]:
        """Yields photographs until there are no more or `stopped` returns True."""


def open_source(
    source: str,
    done: Collection[str],
    *,
    every: float,
    once: bool = False,
    bits: int | None = None,
    say: Callable[[str], None],
) -> Source:
    """Opens a folder, a camera, or a video in a file or behind http(s).

    Args:
        source: path of a folder or a video file, number of a USB camera, a device such as /dev/video0, or a URL.
        done: ids of photographs that have a row already; they are passed over.
        every: seconds from frame to frame of a camera or a video.
        once: end when a folder holds nothing new.
        bits: that photographs of 16 bits in a folder use, see `read_picture`.
        say: called with a sentence when a folder or camera is lost, when it is back, and at the end of a video behind
            http(s).

    Raises:
        DataError: it is none of these, or cannot be opened.
    """
    path = expanded(source)
    if source.isdigit() or URL.match(source) or path.is_char_device():
        return camera_or_video(source, done, every, say)
    if path.is_file():
        return video_file(path, done, every)
    return FolderSource(path, done, once=once, bits=bits, say=say)


def watch(
    model: JudgingModel,
    source: str,
    output: Path,
    *,
    threshold: float | None = None,
    review_threshold: float | None = None,
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
    """Judges until the source ends or `stopped` returns True. A run that was cut off goes on with the same output.

    Args:
        model: a PyTorch or an exported one.
        source: see `open_source`.
        output: folder of the journal.
        threshold, review_threshold: in [0, 1]; None: the calibrated ones.
        every: seconds from frame to frame of a camera or a video.
        once: end when a folder holds nothing new.
        csv: file for the same rows as a table.
        senders: receivers of each row.
        rejects: where pictures of rejected and unfamiliar parts go.
        drift: tests on the rows. Earlier rows with the same threshold are replayed into it first.
        on_row: called with each row once it is written.
        say: called with a sentence when a folder, camera or receiver is lost, when it is back, and at the end of a
            video behind http(s).
        stopped: called between photographs.

    Returns:
        Number of rows that were written.

    Raises:
        DataError: source, output, table or folder of rejects cannot be used. A source that cannot be used leaves no
            output behind that was not there.
    """
    written = 0
    with ExitStack() as stack:
        output, csv = expanded(output), None if csv is None else expanded(csv)
        if rejects is not None:
            _check_apart(expanded(source), rejects.folder)
        journal = stack.enter_context(Journal(output))
        opened = open_source(source, journal.ids, every=every, once=once, bits=model.judging.bits, say=say)
        if drift is not None:
            judged_by = model.judging.threshold if threshold is None else threshold
            for _, row in read_rows(journal.path):
                if row.threshold == judged_by:  # scores of another calibration are on another scale
                    drift.add(row)
        table = None if csv is None else CsvFile(csv, journal.path)
        if table is not None:
            stack.callback(table.close)
        if rejects is not None:  # late, as it stays: what is refused before it leaves nothing behind
            rejects.open()
        outboxes = [Outbox(output, sender, say) for sender in senders]
        for outbox in outboxes:
            outbox.start()
            stack.callback(_stop, outbox, say)
        for frame in opened.frames(stopped):
            row = _judged_row(model, frame, threshold, review_threshold, rejects)
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
    """Refuses a folder for rejects inside the watched folder, where each would be judged and rejected again.

    Raises:
        DataError: it is the watched folder or lies in it.
    """
    if source.is_dir() and (source.resolve() == rejects.resolve() or source.resolve() in rejects.resolve().parents):
        raise DataError(
            f"{rejects} lies in {source}, so its pictures would be judged as photographs; name a folder beside it for "
            "--rejects."
        )


def _judged_row(
    model: JudgingModel,
    frame: Frame,
    threshold: float | None,
    review_threshold: float | None,
    rejects: Rejects | None,
) -> Row:
    """The row of one photograph: its verdict, or the error of a photograph that cannot be judged."""
    started = time.perf_counter()
    row = Row(frame.id, frame.path, datetime.now(timezone.utc).isoformat(timespec="milliseconds"), error=frame.error)
    row = dataclasses.replace(row, note=" ".join(frame.notes) or None)
    if frame.image is None:
        return dataclasses.replace(row, seconds=round(frame.seconds, 4))
    try:
        # Outlines would take seconds.
        judged = model.predict(frame.image, threshold=threshold, review_threshold=review_threshold, refine=False)
    except STLMError as error:
        return dataclasses.replace(row, error=str(error), seconds=round(frame.seconds, 4))
    picture, notes = None, list(frame.notes)
    if rejects is not None and judged.verdict in ("reject", "unfamiliar"):
        try:
            picture = str(rejects.keep(frame.id, judged))
        except (STLMError, OSError) as error:  # a full disk for pictures must not cost the verdict
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
    """Ends an outbox, and says so if rows are left over."""
    if not outbox.stop():
        say(f"Some rows have not reached {outbox.sender.name}; the next stlm watch with this --output sends them.")
