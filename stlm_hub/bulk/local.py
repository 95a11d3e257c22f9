"""The engine for one machine: worker processes, each of which may end at any moment."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import cv2

from ..errors import DataError, STLMError
from .part import Done, Job, Part, PartJudge

MOST_LOADS = 2
"""Workers that end one after the other while they load the model, before the run is given up."""
MOST_ENDS = 20
"""Workers that end one after the other without a judged photograph, before the run is given up."""


def judge_here(job: Job, parts: Sequence[Part], on_photograph: Callable[[int, int], None]) -> Iterator[Done]:
    """Judges parts in this process; arguments as of `judge_in_processes`."""
    judge = PartJudge(job)
    for part in parts:
        yield judge(part, lambda done, number=part.number: on_photograph(number, done))  # type: ignore[misc]


def judge_in_processes(
    job: Job, parts: Sequence[Part], workers: int, on_photograph: Callable[[int, int], None]
) -> Iterator[Done]:
    """Judges parts in worker processes. A worker that ends is replaced, and its part is given to another.

    Args:
        job: for all workers.
        parts: to judge.
        workers: number of processes.
        on_photograph: called with (number of a part, photographs of it that are done).

    Yields:
        Each part once it is written.

    Raises:
        STLMError: the model cannot be loaded, a part cannot be written, or workers keep ending.
    """
    waiting, pool = deque(parts), [_Worker(job) for _ in range(min(workers, len(parts)))]
    loads = ends = 0
    try:
        while waiting or any(worker.part is not None for worker in pool):
            for connection in wait([worker.connection for worker in pool]):
                worker = next(worker for worker in pool if worker.connection is connection)
                try:
                    kind, value = worker.connection.recv()
                except (EOFError, OSError):
                    code = worker.stop()
                    loads, ends = loads + (not worker.ready), ends + 1
                    _check_ends(loads, ends, code)
                    if worker.part is not None:
                        waiting.appendleft(worker.part)
                    pool[pool.index(worker)] = _Worker(job)
                    continue
                if kind == "failed":
                    raise value
                if kind == "photograph" and worker.part is not None:
                    ends = 0
                    on_photograph(worker.part.number, value)
                    continue
                worker.ready, worker.part, loads = True, None, 0
                if kind == "done":
                    yield value
                if waiting:
                    worker.give(waiting.popleft())
    finally:
        for worker in pool:
            worker.stop()


def _check_ends(loads: int, ends: int, code: int | None) -> None:
    """Gives the run up where workers keep ending.

    Args:
        loads: workers that ended in a row while they loaded the model.
        ends: workers that ended in a row without a judged photograph.
        code: exit code of the last one.

    Raises:
        DataError: there are too many.
    """
    if loads >= MOST_LOADS:
        raise DataError(
            f"Workers end while they load the model (exit code {code}), for want of memory, say; use fewer --workers."
        )
    if ends >= MOST_ENDS:
        raise DataError(
            f"{ends} workers ended one after the other (exit code {code}) and none judged a photograph; see above, try "
            "one photograph with stlm predict, and give the same command again."
        )


class _Worker:
    """A worker process, its connection, and the part that it judges."""

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(job, theirs), daemon=True)
        self.process.start()
        theirs.close()  # so that the end of the process is the end of the connection
        self.ready = False
        self.part: Part | None = None

    def give(self, part: Part) -> None:
        """Hands over a part. If the process has ended meanwhile, the next `recv` raises EOFError."""
        self.part = part
        try:
            self.connection.send(part)
        except OSError:
            return

    def stop(self) -> int | None:
        """Ends the process, if it has not ended. Returns its exit code."""
        self.connection.close()
        self.process.terminate()
        self.process.join()
        return self.process.exitcode


def _work(job: Job, connection: Connection[Any, Any]) -> None:
    """What runs in a worker process, until the connection ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the one who started it
    os.environ.setdefault("OMP_NUM_THREADS", str(job.threads))  # read when torch is imported
    cv2.setNumThreads(job.threads)
    try:
        judge = PartJudge(job)
        judge.output.hold()
        connection.send(("ready", None))
        while True:
            part = connection.recv()
            connection.send(("done", judge(part, lambda done: connection.send(("photograph", done)))))
    except STLMError as error:
        connection.send(("failed", error))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the command has ended
