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


@pytest.mark.parametrize(
    "arguments",
    [("predict", "x.png"), ("calibrate", "good", "-o", "out"), ("watch", "photos", "-o", "out")],
    ids=lambda arguments: arguments[0],
)
def test_a_misspelt_alias_costs_half_a_second(arguments: tuple[str, ...]) -> None:
    taken = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = stlm(*arguments, "--model", "mvtec-botle")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.returncode == 1 and "Did you mean mvtec-bottle?" in done.stderr
        if taken[-1] < 0.5:
            return
    raise AssertionError(f"{min(taken):.2f} s")


def test_a_folder_that_is_not_there_is_called_so() -> None:
    done = stlm("predict", "x.png", "--model", "models/my-part")
    assert done.returncode == 1 and "There is no folder models/my-part here" in done.stderr


def test_a_narrow_console_replaces_what_it_cannot_write() -> None:
    done = stlm("finetune", "部品", "--name", "part", PYTHONIOENCODING="cp1252")
    assert done.returncode == 1 and "?? is not a folder" in done.stderr and "Traceback" not in done.stderr
