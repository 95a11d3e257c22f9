"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stlm_hub.files.whole import held, made_beside, replace_file

MAKES = """
import sys, time
from pathlib import Path
from stlm_hub.files.whole import made_beside
with made_beside(Path(sys.argv[1])) as folder:
    (folder / "large").write_bytes(bytes(1000))
    print("made", flush=True)
    time.sleep(60)
"""


def test_a_file_that_cannot_be_written_leaves_the_one_of_before_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / ("部" * 80)  # 240 bytes: its part would have too long a name with ".part" behind it
    replace_file(path, b"before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            replace_file(path, bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


def test_a_folder_goes_afterwards_whatever_happened(tmp_path: Path) -> None:
    with made_beside(tmp_path / "part") as folder:
        assert folder.parent.parent == tmp_path and folder.parent.name.startswith(".part.making-")
        with held(folder, 0):  # as whoever saves a model into it does
            assert list(folder.iterdir()) == []
    with pytest.raises(ZeroDivisionError), made_beside(tmp_path / "part") as folder:
        (folder / "file").touch()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="nobody can tell whether its process lives")
@pytest.mark.parametrize("name", ["part", "[a*b]"])
def test_what_a_killed_process_left_goes_and_what_a_live_one_makes_stays(name: str, tmp_path: Path) -> None:
    for other in (".part.backup01", f".{name}-2.making-x", "part.making-1"):
        (tmp_path / other).mkdir()
    command = [sys.executable, "-c", MAKES, str(tmp_path / name)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "made\n"
        (left,) = (path for path in tmp_path.iterdir() if path.name.startswith(f".{name}.making-"))
        with made_beside(tmp_path / name):
            assert left.exists()
        process.send_signal(signal.SIGKILL)
    with made_beside(tmp_path / name):
        assert not left.exists()
    assert {path.name for path in tmp_path.iterdir()} == {".part.backup01", f".{name}-2.making-x", "part.making-1"}


@pytest.mark.skipif(os.name != "posix", reason="the system cannot hold a folder")
def test_a_held_folder_is_waited_for(tmp_path: Path) -> None:
    started = time.monotonic()
    with held(tmp_path), pytest.raises(TimeoutError), held(tmp_path, 0.1):
        pass
    assert 0.1 <= time.monotonic() - started < 10
    with held(tmp_path, 0):
        assert list(tmp_path.iterdir()) == []
