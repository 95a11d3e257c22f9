"""Workers and whole runs that are killed in the middle: each photograph has exactly one row in the end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from drawn import write_photographs
from PIL import Image

from stlm_hub.bulk.output import Output
from stlm_hub.bulk.part import ENDED_TWICE, Job, Part, PartJudge
from stlm_hub.bulk.score import score
from stlm_hub.predict.prediction import Prediction

ROOT = Path(__file__).parents[2]


def rows_of(output: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(output).to_pylist()
    return rows


def check_one_row_each(output: Path, photographs: Path) -> None:
    rows = rows_of(output)
    assert sorted(row["path"] for row in rows) == sorted(map(str, photographs.iterdir()))
    assert [Path(row["path"]).name for row in rows if row["error"]] == ["part_7b.png"]
    assert all(row["verdict"] for row in rows if not row["error"])
    assert not [path for path in output.rglob("*") if path.name.startswith(".part")]
    assert list((output / "_attempts").iterdir()) == []


def at_work(output: Path) -> list[int]:
    """Processes that have begun a part and not ended it."""
    found = []
    for note in output.glob("_attempts/*.json"):
        with contextlib.suppress(OSError, ValueError):  # it ended meanwhile
            found.append(int(json.loads(note.read_text())["process"]))
    return found


def test_a_worker_that_is_killed_costs_no_row(exported: Path, many: Path, tmp_path: Path) -> None:
    output, killed = tmp_path / "rows", []

    def kill(done: int, total: int) -> None:
        if not killed and done >= 3:
            killed.append(at_work(output)[0])
            os.kill(killed[0], signal.SIGKILL)

    made = score(str(many), str(output), str(exported), workers=2, on_progress=kill)
    assert killed and (made.photographs, made.before, made.errors) == (71, 0, 1)
    check_one_row_each(output, many)
    again = score(str(many), str(output), workers=2)
    assert (again.before, again.errors) == (71, 0)


def test_a_run_that_is_killed_is_gone_on_with(exported: Path, many: Path, tmp_path: Path) -> None:
    output = tmp_path / "rows"
    code = "import sys; from stlm_hub.bulk.score import score; score(*sys.argv[1:], workers=1)"
    command = [sys.executable, "-c", code, str(many), str(output), str(exported)]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}) as process:
        until = time.monotonic() + 120
        while not list(output.glob("part-*.parquet")):
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    before = {path.name: path.stat().st_mtime_ns for path in output.glob("part-*.parquet")}
    assert 0 < sum(pq.read_metadata(output / name).num_rows for name in before) < 71
    made = score(str(many), str(output), str(exported), workers=1)
    assert 0 < made.before < 71
    check_one_row_each(output, many)
    assert all((output / name).stat().st_mtime_ns == changed for name, changed in before.items())


HANGS_IN_THE_MIDDLE = """
import sys, time
from pathlib import Path
from stlm_hub.bulk import output, score

whole = output._write_through
def half(path, data):
    if path.name.startswith(".part-"):
        path.write_bytes(data[: len(data) // 2])
        time.sleep(600)
    whole(path, data)
output._write_through = half
score.score(*sys.argv[1:], workers=0)
"""


def test_what_a_kill_left_half_written_goes_once_nobody_writes(exported: Path, tmp_path: Path) -> None:
    photographs, output = tmp_path / "photographs", tmp_path / "rows"
    write_photographs(photographs, 3)
    command = [sys.executable, "-c", HANGS_IN_THE_MIDDLE, str(photographs), str(output), str(exported)]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}) as process:
        until = time.monotonic() + 120
        while not (left := list(output.glob(".part-*"))):
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.005)
        score(str(photographs), str(output), workers=0)
        assert left[0].exists()  # the first run lives and may still rename it
        process.send_signal(signal.SIGKILL)
    digits = "0123456789abcdef" * 2
    for place in ("", "_maps", "_attempts"):
        (output / place).mkdir(exist_ok=True)
        for name in (f".part-0000007.parquet.{digits}", f".0000007.json.{digits}", f"._plan.json.{digits}"):
            (output / place / name).write_bytes(b"half")
    others = [".part-0000007.parquet", f".mine.parquet.{digits}", f"part-1.parquet.{digits}", ".DS_Store"]
    for name in others:
        (output / name).write_bytes(b"of somebody else")
    (output / f".part-0000008.parquet.{digits}").mkdir()
    score(str(photographs), str(output), workers=0)
    kept = {"_plan.json", "_maps", "_attempts", "part-0000000.parquet", f".part-0000008.parquet.{digits}", *others}
    assert {path.name for path in output.iterdir()} == kept
    assert not [*(output / "_maps").iterdir(), *(output / "_attempts").iterdir()]


class Ended(BaseException):
    """Stands for a kill: nothing in a worker catches it."""


def test_a_photograph_that_ends_its_worker_twice_gets_a_row(tmp_path: Path) -> None:
    photographs = write_photographs(tmp_path / "photographs", 3)
    Image.new("RGB", (90, 70), "white").save(photographs[1])
    calls: list[int] = []

    def predict(
        images: list[np.ndarray], threshold: float | None = None, refine: bool | None = None
    ) -> list[Prediction]:
        calls.append(len(images))
        if any(image.min() == 255 for image in images):
            raise Ended
        return [Prediction(image, np.zeros(image.shape[:2], np.float32), 0.25, 0.5) for image in images]

    model: Any = SimpleNamespace(input_size=(64, 64), predict=predict)
    part = Part(0, tuple(map(str, photographs)))

    def judge(run: str) -> Any:
        return PartJudge(Job("", str(tmp_path / "rows"), run, False, 1), model)(part)

    for _ in range(2):
        with pytest.raises(Ended):
            judge("first")
    assert Output(str(tmp_path / "rows")).attempt(0) is not None and calls == [3, 1, 1]
    with pytest.raises(Ended):
        judge("second")  # another command begins anew
    for _ in range(2):
        with contextlib.suppress(Ended):
            done = judge("second")
    assert (done.rows, done.errors) == (3, 1)
    assert [row["error"] for row in rows_of(tmp_path / "rows")] == [None, ENDED_TWICE, None]


@pytest.fixture
def two_workers() -> Iterator[None]:
    """A Ray cluster of this machine with room for two workers."""
    ray = pytest.importorskip("ray", reason='pip install "stlm_hub[bulk]"')
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()


@pytest.mark.usefixtures("two_workers")
def test_an_actor_that_is_killed_costs_no_row(exported: Path, many: Path, tmp_path: Path) -> None:
    output, killed = tmp_path / "rows", []

    def kill() -> None:
        until = time.monotonic() + 200
        while not killed and time.monotonic() < until:
            with contextlib.suppress(ProcessLookupError):
                for process in at_work(output)[:1]:
                    os.kill(process, signal.SIGKILL)
                    killed.append(process)
            time.sleep(0.002)

    killer = threading.Thread(target=kill)
    killer.start()
    made = score(str(many), str(output), str(exported), engine="ray", workers=2)
    killer.join()
    assert len(killed) == 1 and (made.photographs, made.errors) == (71, 1)
    check_one_row_each(output, many)
