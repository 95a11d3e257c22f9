"""Two runs on one output: the second is refused, and a killed one holds nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stlm_hub.errors import ConfigError
from stlm_hub.training.one_at_a_time import one_at_a_time

HOLDS = """
import sys, time
from pathlib import Path
from stlm_hub.training.one_at_a_time import one_at_a_time
with one_at_a_time(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match="Another run is at work in"), one_at_a_time(tmp_path):
            pass
        first.send_signal(signal.SIGKILL)
    with one_at_a_time(tmp_path):
        assert (tmp_path / ".lock").exists()


def test_a_folder_that_is_missing_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"), one_at_a_time(tmp_path / "file"):
        pass
