"""What a worker does, whichever engine runs it: it judges one part of the photographs and writes one file of rows.

A worker notes each part before it begins. If a part has a note of the same run already, a worker has ended at it: no
memory, a lost machine, a fault in a decoder. Its photographs are then judged one by one, each noted beforehand. A
photograph that ends a worker again gets a row with an error, so none can stop the others.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..detectors import load
from ..predict.detector import Detector
from ..predict.images import ImageInput, Picture
from ..predict.prediction import Prediction, Unusable
from ..predict.stream import batch_size, predict_many
from .output import MAPS, Attempt, Output, part_name
from .places import read_photograph
from .row import Row, encode_map, judged_row, maps_to_parquet, printable, rows_to_parquet

ENDED_TWICE = "The worker that judged it was ended twice, for want of memory, say; try it alone with stlm predict."


@dataclass(frozen=True)
class Job:
    """What all workers of a run have in common.

    Args:
        model: that judges, as `stlm_hub.load` takes it.
        output: path or address of the output folder.
        run: unique id of this run.
        maps: whether maps are kept.
        threads: of one worker.
        threshold: in [0, 1]; None: the calibrated one.
        bits: that photographs of 16 bits use, see `read_picture`; None: what the model knows.
        device, backend: of the model, as `stlm_hub.load` takes them.
    """

    model: str
    output: str
    run: str
    maps: bool
    threads: int
    threshold: float | None = None
    bits: int | None = None
    device: str | None = None
    backend: str | None = None


@dataclass(frozen=True)
class Part:
    """Photographs that are judged and written together: the number of the part, and their paths or addresses."""

    number: int
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Done:
    """A part that is written: its number, the number of its rows, and how many of them have an error."""

    number: int
    rows: int
    errors: int


class PartJudge:
    """Loads the model once and judges part after part.

    Args:
        job: of the run.
        detector: that judges; None: `job.model` is loaded.

    Raises:
        STLMError: the model cannot be loaded, or the package for the output's protocol is missing.
    """

    def __init__(self, job: Job, detector: Detector | None = None) -> None:
        self.job = job
        self.output = Output(job.output)
        self.model: Detector
        if detector is None:
            loaded = load(job.model, device=job.device, threads=job.threads, bits=job.bits, backend=job.backend)
            self.model, self.bits = loaded, loaded.judging.bits
        else:
            self.model, self.bits = detector, job.bits

    def __call__(self, part: Part, on_photograph: Callable[[int], None] = lambda done: None) -> Done:
        """Judges a part and writes it.

        Args:
            part: what to judge.
            on_photograph: called with the number of photographs that are done.

        Raises:
            DataError: it cannot be written.
        """
        before = self.output.attempt(part.number)
        if before is None or before.run != self.job.run:
            self.output.note(part.number, Attempt(self.job.run, os.getpid()))
            judged = self._judge(part.paths, batch_size(self.model.input_size))
        else:
            judged = self._one_by_one(part, before)
        rows: list[Row] = []
        maps: list[bytes] = []
        paths_of_maps: list[str] = []
        for path, (row, anomaly_map) in zip(part.paths, judged, strict=True):
            rows.append(row)
            if self.job.maps and anomaly_map is not None:
                paths_of_maps.append(path)
                maps.append(encode_map(anomaly_map))
            on_photograph(len(rows))
        if self.job.maps:  # before the rows, whose file says that the part is done
            self.output.write(f"{MAPS}/{part_name(part.number)}", maps_to_parquet(paths_of_maps, maps))
        self.output.write(part_name(part.number), rows_to_parquet(rows))
        self.output.ended(part.number)
        return Done(part.number, len(rows), sum(row.error is not None for row in rows))

    def _one_by_one(self, part: Part, before: Attempt) -> Iterator[tuple[Row, np.ndarray | None]]:
        """`_judge`, one photograph at a time, each noted beforehand; those that ended a worker get an error."""
        ended = before.ended if before.at is None else (*before.ended, before.at)
        for number, path in enumerate(part.paths):
            if number in ended:
                yield Row(printable(path), error=ENDED_TWICE), None
                continue
            self.output.note(part.number, Attempt(self.job.run, os.getpid(), number, ended))
            yield from self._judge([path], 1)

    def _judge(self, paths: Sequence[str], batch: int) -> Iterator[tuple[Row, np.ndarray | None]]:
        """Yields the row of each photograph, and its map HxW float32 or None, in order."""
        reading = [0.0] * len(paths)  # seconds
        judging: deque[float] = deque()  # seconds of each photograph that could be read, in order

        def source(number: int) -> Callable[[], Picture]:
            def read() -> Picture:
                started = time.perf_counter()
                try:
                    return read_photograph(paths[number], self.bits)
                finally:
                    reading[number] = time.perf_counter() - started

            return read

        def judge(images: list[np.ndarray]) -> list[Prediction]:
            started = time.perf_counter()
            inputs: list[ImageInput] = list(images)
            predictions = self.model.predict(inputs, threshold=self.job.threshold, refine=False)
            judging.extend([(time.perf_counter() - started) / len(images)] * len(images))
            return predictions

        sources = [source(number) for number in range(len(paths))]
        for number, judged in enumerate(predict_many(judge, sources, batch=batch)):
            path = paths[number]
            if isinstance(judged, Unusable):
                yield Row(printable(path), error=printable(str(judged.error)), seconds=round(reading[number], 4)), None
            else:
                yield judged_row(path, judged, reading[number] + judging.popleft()), judged.anomaly_map
