"""The engine for many machines: Ray Data hands out parts to actors, each of which loads the model once."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ..errors import DataError, STLMError
from .part import Done, Job, Part, PartJudge

MOST_RESTARTS = 100
"""How often Ray starts one actor again, and tries one part again, before it gives up."""


class _Actor:
    """A worker. Each batch is one part. An error that ends the run is returned as a value, not raised."""

    def __init__(self, job: Job) -> None:
        self.judge: PartJudge | None = None
        self.error = ""
        try:
            self.judge = PartJudge(job)
            self.judge.output.hold()
        except STLMError as error:
            self.error = str(error)

    def __call__(self, batch: pa.Table) -> dict[str, list[Any]]:
        number, paths = batch.column("number")[0].as_py(), batch.column("paths")[0].as_py()
        done, error = Done(number, 0, 0), self.error
        if self.judge is not None:
            try:
                done = self.judge(Part(number, tuple(os.fsdecode(path) for path in paths)))
            except STLMError as caught:
                error = str(caught)
            except Exception:  # ends the worker, as in a process; the part is then judged photograph by photograph
                traceback.print_exc()
                os._exit(1)
        return {"number": [done.number], "rows": [done.rows], "errors": [done.errors], "error": [error]}


def judge_on_ray(job: Job, parts: Sequence[Part], workers: int | None) -> Iterator[Done]:
    """Judges parts on the cluster that Ray finds (`RAY_ADDRESS`, or one of this machine), else on this machine.

    Ray Data holds back parts that no actor is free for, so memory does not grow with their number.

    Args:
        job: for all workers; each takes `job.threads` processors.
        parts: to judge.
        workers: number of actors; None: as many as the cluster has processors for; or graphics cards, of which each
            takes one, where the job is for them.

    Yields:
        Each part once it is written.

    Raises:
        STLMError: Ray is not installed or gives up, the model cannot be loaded, or a part cannot be written.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise DataError(f'--engine ray needs {error.name}: pip install "stlm_hub[bulk]"') from None

    started = not ray.is_initialized()
    try:
        if started:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False  # they count blocks; ours counts photographs
        if workers is None:
            workers = _places(ray.cluster_resources(), job)
        items = [{"number": part.number, "paths": [os.fsencode(path) for path in part.paths]} for part in parts]
        judged = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            _Actor,
            fn_constructor_args=(job,),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(items))),
            num_cpus=job.threads,
            num_gpus=1 if _on_card(job) else None,
            max_restarts=MOST_RESTARTS,
            max_task_retries=MOST_RESTARTS,
        )
        for row in judged.iter_rows():
            if row["error"]:
                raise DataError(row["error"])
            yield Done(int(row["number"]), int(row["rows"]), int(row["errors"]))
    except (ray.exceptions.RayError, ConnectionError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1][:200]
        raise DataError(f"Ray gave up ({reason}); mend the cluster and give the same command again.") from None
    finally:
        if started:
            ray.shutdown()


def _places(resources: Mapping[str, float], job: Job) -> int:
    """For how many workers a cluster has processors, and graphics cards where the job is on one; at least 1."""
    places = resources.get("CPU", 1) // job.threads
    return max(1, int(min(places, resources.get("GPU", 0)) if _on_card(job) else places))


def _on_card(job: Job) -> bool:
    return job.device not in (None, "cpu")
