"""What surrounds a command: narrow consoles, and names that are refused before anything heavy is loaded."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest


def stlm(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stlm_hub.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


ALIAS, FOLDER = "Did you mean mvtec-bottle?", "There is no folder"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("predict", "x.png", "-m", "mvtec-botle"), ALIAS),
        (("calibrate", "good", "-o", "out", "-m", "mvtec-botle"), ALIAS),
        (("watch", "photos", "-o", "out", "-m", "mvtec-botle"), ALIAS),
        (("export", "mvtec-botle"), ALIAS),
        (("export", "mvtec-bottle", "--format", "onix"), "format must be one of"),
        (("accept", "x.png", "-m", "models/my-prat"), FOLDER),
        (("reject", "x.png", "-m", "models/my-prat"), FOLDER),
        (("undo", "-m", "models/my-prat"), FOLDER),
        (("publish", "models/my-prat", "--repo", "a/b"), FOLDER),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_misspelt_name_costs_half_a_second(arguments: tuple[str, ...], said: str) -> None:
    taken = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = stlm(*arguments)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.returncode == 1 and said in done.stderr
        if taken[-1] < 0.5:
            return
    raise AssertionError(f"{min(taken):.2f} s")


def test_a_folder_that_is_not_there_is_called_so() -> None:
    done = stlm("predict", "x.png", "--model", "models/my-part")
    assert done.returncode == 1 and "There is no folder models/my-part here" in done.stderr


def test_a_narrow_console_replaces_what_it_cannot_write() -> None:
    done = stlm("finetune", "部品", "--name", "part", PYTHONIOENCODING="cp1252")
    assert done.returncode == 1 and "?? is not a folder" in done.stderr and "Traceback" not in done.stderr
