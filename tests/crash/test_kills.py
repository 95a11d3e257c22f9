"""Processes that are killed at random moments of changing a model folder, and disks that are full.

`make crash` kills 50 of each kind, `make test` a few. Moments come from a seed, but what they hit differs from run to
run.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from drawn import texture, write_photographs

from stlm_hub.errors import ConfigError, ImageError
from stlm_hub.model_folder.versions import PART, settle
from stlm_hub.stlm import STLM
from stlm_hub.training.recalibrate import recalibrate

KILLS = int(os.environ.get("STLM_KILLS", "3"))
NAMES = ("calibration.json", "config.json", "model.safetensors", "patch_memory.safetensors")

# A worker that changes a folder without end, one version after the other. Each file holds its version and nothing else.
WORKER = """
import itertools, sys
from pathlib import Path
from stlm_hub.errors import ConfigError
from stlm_hub.model_folder.versions import change, replace, undo

folder, how, first = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
names = ("calibration.json", "config.json", "model.safetensors", "patch_memory.safetensors")

def write(version):
    def into(new):
        for name in names:
            (new / name).write_bytes(str(version).encode().ljust(20, b".") * 20_000)
    return into

print("at work", flush=True)
for version in itertools.count(first):
    if how == "replace":
        replace(folder, write(version), whole=True)
    else:
        change(folder, write(version))
        if version % 3 == 0:
            undo(folder)
"""


def start(folder: Path, how: str, first: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(folder), how, str(first)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "at work\n"
    return process


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file can get larger than so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def version_of(folder: Path) -> int:
    """The version that all files are of, each whole."""
    contents = {(folder / name).read_bytes() for name in NAMES}
    assert len(contents) == 1, "files of two versions"
    (content,) = contents
    assert len(content) == 400_000 and content == content[:20] * 20_000, "half a file"
    return int(content[:20].rstrip(b"."))


@pytest.mark.parametrize("how", ["replace", "change"])
def test_a_kill_never_leaves_files_of_two_models(how: str, tmp_path: Path) -> None:
    folder, rng = tmp_path / "part", random.Random(how)
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(b"0".ljust(20, b".") * 20_000)
    versions = []
    for kill in range(KILLS):
        with start(folder, how, 1000 * (kill + 1)) as process:
            time.sleep(rng.uniform(0.01, 0.3))
            process.send_signal(signal.SIGKILL)
        settle(folder)
        versions.append(version_of(folder))
        # Before its first change counted, or after that was undone, it is the version of the worker before.
        assert versions[-1] >= 1000 * (kill + 1) or versions[-1] == (versions[-2] if kill else 0)
        assert {path.name for path in folder.iterdir()} <= {*NAMES, PART}
    assert {path.name for path in tmp_path.iterdir()} <= {"part", "part.history"}  # nothing else is left about
    assert len(set(versions)) > KILLS / 2  # the workers were at work when they were killed


@pytest.mark.usefixtures("toy_streams")
def test_a_full_disk_leaves_the_earlier_model(saved_toy: Path, toy_memory_model: STLM, tmp_path: Path) -> None:
    folder = shutil.copytree(saved_toy, tmp_path / "model")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with full_disk(4096), pytest.raises(ConfigError, match="cannot be written"):
        toy_memory_model.save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert STLM.from_pretrained(folder).patch_memory is None


@pytest.mark.usefixtures("toy_streams")
@pytest.mark.parametrize("size", [500, 5_000, 20_000])
def test_a_full_disk_ends_a_calibration_with_a_sentence_and_leaves_nothing(
    size: int, saved_memory_toy: Path, tmp_path: Path
) -> None:
    photographs = write_photographs(tmp_path / "photographs", 5)
    model = STLM.from_pretrained(saved_memory_toy)
    with full_disk(size), pytest.raises(ConfigError, match=r"cannot be written .*free space"):
        recalibrate(model, photographs, tmp_path / "models" / "part", repo_id="org/part")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_full_disk_leaves_no_empty_panel(tiny_model: STLM, tmp_path: Path) -> None:
    prediction = tiny_model.predict(texture(64, 64))
    with full_disk(100), pytest.raises(ImageError, match=r"cannot be written .*free space"):
        prediction.save(tmp_path / "panels" / "part.png")
    assert list((tmp_path / "panels").iterdir()) == []
    assert prediction.save(tmp_path / "panels" / "part.png").stat().st_size > 100
