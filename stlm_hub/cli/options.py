"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

BitsOption = Annotated[
    int | None,
    typer.Option(help="Bits of the camera in files of 16: 10, 12, 14 or 16. Default: what the model knows."),
]

REFINE_HELP = (
    "Whether Segment Anything outlines what is rejected: auto (where that helps on pseudo anomalies; a minute or two "
    "to find out), on or off."
)
RefineOption = Annotated[str, typer.Option(help=REFINE_HELP)]
