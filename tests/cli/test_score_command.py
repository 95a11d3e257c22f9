"""`stlm score`: rows, progress, and one sentence for what cannot be done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from drawn import write_photographs

Stlm = Callable[..., tuple[int, str, str]]


@pytest.mark.usefixtures("toy_streams")
def test_score(stlm: Stlm, saved_memory_toy: Path, tmp_path: Path) -> None:
    write_photographs(tmp_path / "photos", 3)
    (tmp_path / "photos" / "broken.png").write_bytes(b"x")
    command = ("score", tmp_path / "photos", "--output", tmp_path / "rows", "--workers", "0")
    code, _, errors = stlm(*command)
    assert (code, errors) == (1, "Error: Which model is to judge? Name it with --model.\n")
    code, shown, errors = stlm(*command, "--model", saved_memory_toy)
    assert (code, errors) == (0, "")
    assert "photographs 4/4" in shown and "min left" in shown
    assert f"4 photographs have a row each in {tmp_path / 'rows'}. 1 could not be judged" in shown
    assert pq.read_table(tmp_path / "rows").num_rows == 4
    code, shown, _ = stlm(*command)
    assert code == 0 and shown.startswith("4 photographs have a row each") and "4 of them from before" in shown
    for options, sentence in (
        (("--engine", "spark"), 'There is no engine "spark"; use local or ray.'),
        (("--model", "mvtec-botle"), 'There is no model "mvtec-botle". Did you mean'),
    ):
        code, _, errors = stlm(*command, *options)
        assert code == 1 and errors.startswith(f"Error: {sentence}") and errors.count("\n") == 1
