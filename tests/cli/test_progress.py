"""What is said of long work where there is no terminal."""

from __future__ import annotations

import pytest

from stlm_hub.cli import progress


def test_without_a_terminal_the_time_left_is_said_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = progress.Lines()
    for done in (*range(1, 8), *range(1, 5)):  # a second round begins from the front
        lines(done, 20)
        now[0] += 20
    assert capsys.readouterr().out.splitlines() == [
        "photographs 3/20  6 min left",
        "photographs 5/20  5 min left",
        "photographs 7/20  4 min left",
        "photographs 3/20  6 min left",
    ]
