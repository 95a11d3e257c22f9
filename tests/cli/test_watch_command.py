"""`stlm watch`: what is said of a photograph stands on the console, in the journal and in the table alike."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from drawn import write_photographs
from watched import rows

from stlm_hub.line.drift import ADVICE, Drift

Stlm = Callable[..., tuple[int, str, str]]


@pytest.mark.usefixtures("toy_streams")
def test_all_advice_on_a_photograph_is_told(
    stlm: Stlm, saved_toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advice = f"{ADVICE['familiarity']} {ADVICE['rejects']}"
    monkeypatch.setattr(Drift, "add", lambda self, row: advice)
    write_photographs(tmp_path / "photos", 1)
    output = tmp_path / "out"
    code, shown, _ = stlm(
        "watch", tmp_path / "photos", "-m", saved_toy, "-o", output, "--csv", output / "rows.csv", "--once"
    )
    assert code == 0 and f"Drift: {advice}\n" in shown
    assert [row.advice for row in rows(output)] == [advice]
    with (output / "rows.csv").open(newline="", encoding="utf-8") as file:
        assert [row["advice"] for row in csv.DictReader(file)] == [advice]


@pytest.mark.usefixtures("toy_streams")
def test_a_source_that_is_not_there_leaves_no_folder_behind(stlm: Stlm, saved_toy: Path, tmp_path: Path) -> None:
    made = ["-o", tmp_path / "new" / "out", "--rejects", tmp_path / "new" / "rejects", "--csv", tmp_path / "rows.csv"]
    code, _, said = stlm("watch", tmp_path / "none", "-m", saved_toy, *made)
    assert code == 1 and "is not a folder; pass a folder, a video file" in " ".join(said.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("toy_streams")
def test_both_thresholds_can_be_named(stlm: Stlm, saved_toy: Path, tmp_path: Path) -> None:
    write_photographs(tmp_path / "photos", 1)

    def watched(threshold: str, review: str) -> tuple[int, str]:
        options = ("--once", "--threshold", threshold, "--review", review)
        code, _, said = stlm(
            "watch", tmp_path / "photos", "-m", saved_toy, "-o", tmp_path / f"out{threshold}{review}", *options
        )
        return code, " ".join(said.split())

    assert watched("1", "0") == (0, "")
    (row,) = rows(tmp_path / "out10")
    assert (row.threshold, row.review_threshold) == (1.0, 0.0) and row.verdict in ("review", "unfamiliar")
    code, said = watched("0.5", "0.75")
    assert code == 1 and "review threshold 0.75 lies above the threshold 0.5" in said
    assert not (tmp_path / "out0.50.75").exists()
