"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

BitsOption = Annotated[
    int | None,
    typer.Option(help="Bits of the camera in files of 16: 10, 12, 14 or 16. Default: what the model knows."),
]
