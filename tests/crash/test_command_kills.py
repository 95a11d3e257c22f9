"""Whole pieces of work that are killed at random moments, or interrupted with Ctrl-C: what is left, and what goes on.

`make crash` kills 50 of each kind, `make test` a few.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from crash import work
from drawn import texture, write_photographs
from PIL import Image
from safetensors.torch import load_file
from small_training import starting_weights, textures

from stlm_hub.line.journal import read_rows
from stlm_hub.model_folder import hub, versions
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.stlm import STLM
from stlm_hub.training import checkpoint
from stlm_hub.training.log import read_log

__all__ = ["starting_weights", "textures"]
KILLS = int(os.environ.get("STLM_KILLS", "3"))
TESTS = Path(__file__).parents[1]

pytestmark = [
    pytest.mark.usefixtures("toy_streams"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork"),
    pytest.mark.timeout(300 + 30 * KILLS),
]


class Workers:
    """A process that has imported everything and forks at once, see `work.serve`."""

    def __init__(self, complaints: Path) -> None:
        self.complaints = complaints
        paths = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
        self._server = subprocess.Popen(
            [sys.executable, "-m", "crash.work"],
            env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints.open("w"),
            text=True,
        )

    def start(self, name: str, *arguments: Any) -> int:
        """The number of a process that does this."""
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps([name, [str(a) if isinstance(a, Path) else a for a in arguments]]) + "\n")
        self._server.stdin.flush()
        return self._answer()

    def end(self) -> int:
        """Exit code of the process that was started last, once it ended; negative for a signal."""
        return self._answer()

    def run(self, name: str, *arguments: Any) -> None:
        """Does it to its end."""
        self.start(name, *arguments)
        assert self.end() == 0, self.complaints.read_text()[-3000:]

    def kill(
        self, after: float, name: str, *arguments: Any, how: int = signal.SIGKILL, at_work: Path | None = None
    ) -> int:
        """Starts it and sends it a signal after so many seconds (of work, with a marker). Returns its exit code."""
        marker = None if at_work is None else at_work.with_name(f"{at_work.name}.at-work")
        if marker is not None:
            marker.unlink(missing_ok=True)
        process = self.start(name, *arguments)
        until = time.monotonic() + 60
        while marker is not None and not marker.exists():
            assert time.monotonic() < until, self.complaints.read_text()[-3000:]
            time.sleep(0.002)
        time.sleep(after)
        with contextlib.suppress(ProcessLookupError):  # it had finished
            os.kill(process, how)
        return self.end()

    def _answer(self) -> int:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        assert line, self.complaints.read_text()[-3000:]
        return int(line)

    def close(self) -> None:
        self._server.kill()
        self._server.wait()


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    workers = Workers(tmp_path_factory.mktemp("crash") / "stderr")
    yield workers
    workers.close()


@pytest.fixture
def moments() -> Callable[[float], float]:
    """Seconds up to the given ones, the same in each run."""
    rng = random.Random(0)
    return lambda most: rng.uniform(0.0, most)


def write_parts(folder: Path, n: int) -> None:
    """Photographs of one part, with noise."""
    folder.mkdir()
    for i in range(n):
        noise = np.random.default_rng(i).integers(-6, 7, (70, 90, 3))
        pixels = (texture(70, 90).astype(int) + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"part_{i}.png")


def leftovers(folder: Path) -> list[str]:
    """Names of what is neither a model nor belongs to one."""
    return [path.name for path in folder.iterdir() if ".making-" in path.name or path.name.endswith(".part")]


def test_a_killed_training_loses_at_most_the_steps_since_its_checkpoint(
    workers: Workers, moments: Callable[[float], float], starting_weights: StartingWeights, tmp_path: Path
) -> None:
    """However often it was killed, it ends with the same bits as one that never was."""
    steps = 6 if KILLS < 10 else 60
    photographs, weights = tmp_path / "photographs", tmp_path / "weights.safetensors"
    write_photographs(photographs, 6, 64, 64)
    starting_weights.save(weights)
    folder, whole = tmp_path / "killed", tmp_path / "whole"
    for made in (folder, whole):
        made.mkdir()
    for _ in range(KILLS):
        if (newest := checkpoint.latest(folder / "checkpoints")) and newest.name.endswith(f"{steps:07d}"):
            shutil.rmtree(folder)  # it had finished: once more from the start
            folder.mkdir()
        workers.kill(0.2 + moments(2.5), "train", folder, photographs, weights, steps)
        logged = [int(record["step"]) for record in read_log(folder / "log.jsonl")]
        newest = checkpoint.latest(folder / "checkpoints")
        kept = checkpoint.read_state(newest)["step"] if newest else 0
        assert kept <= max(logged, default=0) <= kept + work.EVERY
        assert logged == list(range(1, len(logged) + 1))
    workers.run("train", folder, photographs, weights, steps)
    assert not [path.name for path in (folder / "checkpoints").iterdir() if path.name.startswith(".")]
    assert len(list((folder / "checkpoints").iterdir())) <= checkpoint.KEEP + 1

    workers.run("train", whole, photographs, weights, steps)
    for name in ("model.safetensors", "optimizers.safetensors"):
        ours, theirs = (load_file(f / "checkpoints" / f"step-{steps:07d}" / name) for f in (folder, whole))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    for made in (folder, whole):
        shutil.rmtree(made)  # hundreds of MB


def test_a_killed_save_leaves_the_one_model_or_the_other(
    workers: Workers, moments: Callable[[float], float], saved_toy: Path, saved_memory_toy: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "part"
    shutil.copytree(saved_memory_toy, folder)
    scores = {STLM.from_pretrained(path).config.category: path for path in (saved_toy, saved_memory_toy)}
    seen = set()
    for _ in range(KILLS):
        assert (
            workers.kill(moments(0.3), "save", folder, saved_toy, saved_memory_toy, at_work=folder) == -signal.SIGKILL
        )
        model = STLM.from_pretrained(folder)
        wanted = STLM.from_pretrained(scores[model.config.category])
        ours, theirs = model.state_dict(), wanted.state_dict()
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert model.judging == wanted.judging
        seen.add(model.config.category)
        assert leftovers(tmp_path) == []
    assert KILLS < 10 or len(seen) == 2


def test_a_killed_accept_reject_or_undo_leaves_a_whole_version(
    workers: Workers, moments: Callable[[float], float], saved_memory_toy: Path, tmp_path: Path
) -> None:
    folder, photographs = shutil.copytree(saved_memory_toy, tmp_path / "part"), tmp_path / "photographs"
    write_parts(photographs, 4)
    for _ in range(KILLS):
        code = workers.kill(moments(1.0), "accept_and_undo", folder, photographs, at_work=folder)
        assert code == -signal.SIGKILL, workers.complaints.read_text()[-3000:]
        model = STLM.from_pretrained(folder)
        assert model.patch_memory is not None and model.config.patch_memory is not None
        assert len(model.patch_memory.entries) == model.config.patch_memory.entries
        hub.results_of(hub.resolve(folder))  # raises where they are of other weights
        assert all(len(list(kept.iterdir())) == 2 for kept in versions.added(folder))  # rejected at once
    assert leftovers(tmp_path) == []


def test_a_killed_calibration_leaves_the_earlier_model_and_nothing_for_ever(
    workers: Workers, moments: Callable[[float], float], saved_memory_toy: Path, tmp_path: Path
) -> None:
    photographs, output, marker = tmp_path / "photographs", tmp_path / "models" / "part", tmp_path / "calibrate"
    arguments = (marker, saved_memory_toy, photographs, output)
    write_parts(photographs, 5)
    for _ in range(KILLS):
        workers.kill(moments(1.2), "calibrate", *arguments, at_work=marker)
        if (output / "config.json").exists() or (output / ".next").exists():
            hub.results_of(hub.resolve(output))
            STLM.from_pretrained(output)
        if output.parent.exists():
            assert len(leftovers(output.parent)) <= 1  # the next one swept that of the one before
    workers.run("calibrate", *arguments)
    assert {path.name for path in output.parent.iterdir()} == {"part"}


def test_a_killed_watch_has_one_row_for_each_photograph(
    workers: Workers, moments: Callable[[float], float], tmp_path: Path
) -> None:
    photographs, output = tmp_path / "photographs", tmp_path / "out"
    write_photographs(photographs, 2 * KILLS + 10, 16, 16)
    time.sleep(0.6)  # until they are complete, see `line.folder.SETTLE`
    for _ in range(KILLS):
        workers.kill(moments(0.12), "watch", photographs, output)
    workers.run("watch", photographs, output)
    rows = [row for _, row in read_rows(output / "verdicts.jsonl")]
    assert sorted(Path(row.path).name for row in rows) == sorted(path.name for path in photographs.iterdir())
    table = (output / "rows.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in table[1:]] == [row.id for row in rows]


@pytest.mark.parametrize(
    ("how", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)], ids=["Ctrl-C", "kill"]
)
def test_a_command_that_is_ended_anywhere_leaves_nothing_and_goes_on(
    how: int, code: int, workers: Workers, moments: Callable[[float], float], tmp_path: Path
) -> None:
    photographs, models, marker = tmp_path / "photographs", tmp_path / "models", tmp_path / "finetune"
    write_parts(photographs, 9)
    options = ("--name", "part", "--output", models / "part", "--steps", "0", "--size", "64", "--memory-entries", "64")
    started = time.monotonic()
    workers.run("command", marker, "finetune", photographs, *options[:3], tmp_path / "usual" / "part", *options[4:])
    usual = time.monotonic() - started
    codes = []
    for _ in range(KILLS):
        told = len(workers.complaints.read_text())
        codes.append(
            workers.kill(
                0.02 + moments(0.8 * usual),
                "command",
                marker,
                "finetune",
                photographs,
                *options,
                how=how,
                at_work=marker,
            )
        )
        assert "Traceback" not in workers.complaints.read_text()[told:]
        if models.exists():
            assert len(leftovers(models)) <= (how == signal.SIGKILL)
        if (models / "part" / "config.json").exists() or (models / "part" / ".next").exists():
            STLM.from_pretrained(models / "part")
    assert set(codes) <= {code, 0} and code in codes, codes  # 0: it had finished
    workers.run("command", marker, "finetune", photographs, *options)
    assert leftovers(models) == []
    STLM.from_pretrained(models / "part")
