"""Cells of CSV files that spreadsheets show and do not run."""

from __future__ import annotations

import re
from typing import Any

_FORMULA = re.compile(r"(^|[;|\t\r\n])(?=[\s\"']*[=+\-@\uff1d\uff0b\uff0d\uff20])")  # the last four are full-width


def harmless(cell: Any) -> Any:
    """A cell that no spreadsheet takes for a formula, and that can be written as UTF-8; what is no text as it is.

    A spreadsheet runs a cell that starts like a formula; a file's name must not be able to. Where decimals have a
    comma, spreadsheets cut lines at semicolons: a formula can also start after one.
    """
    if not isinstance(cell, str):
        return cell
    return _FORMULA.sub(r"\1'", cell).encode("utf-8", "replace").decode("utf-8")
