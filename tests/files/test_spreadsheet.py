"""Cells of CSV files: whatever a file is called, no spreadsheet runs it."""

from __future__ import annotations

import pytest

from stlm_hub.files.spreadsheet import harmless


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_a_name_cannot_be_a_formula(cell: str) -> None:
    assert harmless(cell).startswith("'") and harmless(cell).replace("'", "") == cell


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        (";=1+1", ";'=1+1"),
        ("part;=1+1.png", "part;'=1+1.png"),
        ("part; @SUM(A1)", "part;' @SUM(A1)"),
        ('part;"=1+1"', 'part;\'"=1+1"'),
        ("part\t+1\n-1", "part\t'+1\n'-1"),
        ("\uff1d1+1", "'\uff1d1+1"),
        (" =1+1", "' =1+1"),
        ("'=1+1", "''=1+1"),
    ],
)
def test_nor_can_what_follows_a_mark_that_spreadsheets_cut_at(cell: str, shown: str) -> None:
    assert harmless(cell) == shown


def test_numbers_stay_and_half_a_character_can_be_written() -> None:
    assert all(harmless(cell) == cell for cell in ("part=1.png", "a - b;c.png", -0.5, "", 3, None))
    assert harmless("M\udcfcller").encode() == b"M?ller"
