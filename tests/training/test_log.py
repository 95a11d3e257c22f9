"""The log of a training: it holds what was done, whatever killed the process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stlm_hub.errors import StorageError
from stlm_hub.training.log import LogFile, read_log


def test_a_kill_right_after_resuming_does_not_empty_the_log(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    records = [{"step": float(i)} for i in range(3)]
    path.write_text("".join(json.dumps(record) + "\n" for record in [*records, {"step": 3.0}]))
    with LogFile(path, records) as write:
        assert read_log(path) == records  # before anything is written or closed
        write({"step": 3.0})
        assert read_log(path) == [*records, {"step": 3.0}]
    with LogFile(path, [], active=False) as write:  # not the main process
        write({"step": 9.0})
    assert read_log(path) == [*records, {"step": 3.0}]
    assert read_log(tmp_path / "missing.jsonl") == []


def test_a_line_that_was_cut_off_ends_the_log(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "pla\n{"step": 3}\n')
    assert read_log(path) == [{"step": 1}]


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(StorageError, match=r"log\.jsonl cannot be written .*make room there"):
        LogFile(tmp_path / "run" / "log.jsonl", []).__enter__()
