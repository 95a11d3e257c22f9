"""Ctrl-C ends every command with exit code 130, and a training once its checkpoint is kept."""

from __future__ import annotations

import os
import signal

import pytest

from stlm_hub.cli.console import INTERRUPTED, exit_on_error
from stlm_hub.cli.progress import RunProgress
from stlm_hub.errors import TrainingError


def test_ctrl_c_exits_130_and_the_handler_is_given_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as ended, exit_on_error():
        os.kill(os.getpid(), signal.SIGINT)
    assert ended.value.code == INTERRUPTED == 130
    assert signal.getsignal(signal.SIGINT) is before


def test_a_training_that_stops_on_request_exits_130(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, exit_on_error(), RunProgress("part") as observer:
        os.kill(os.getpid(), signal.SIGINT)
        assert observer.should_stop()
        raise TrainingError("Stopped after step 3.")
    assert ended.value.code == 130
    assert "Stopped after step 3." in capfd.readouterr().err


def test_an_error_of_its_own_still_exits_1() -> None:
    with pytest.raises(SystemExit) as ended, exit_on_error(), RunProgress("part"):
        raise TrainingError("The loss is not finite.")
    assert ended.value.code == 1
