"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MODEL_HELP = "Alias, org/repo, org/repo@revision or folder."
ModelArgument = Annotated[str, typer.Argument(help=MODEL_HELP)]
ModelOption = Annotated[str, typer.Option("--model", "-m", help=MODEL_HELP)]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, ...; default: cuda where there is one.")]
ThresholdOption = Annotated[float | None, typer.Option(help="In [0, 1]; default: the calibrated one.")]
BitsOption = Annotated[
    int | None,
    typer.Option(help="Bits of the camera in files of 16: 10, 12, 14 or 16. Default: what the model knows."),
]

RegionOption = Annotated[Path | None, typer.Option(help="Picture of where to look: white on black, as a photograph.")]
IgnoreOption = Annotated[Path | None, typer.Option(help="Picture of where not to look: white on black.")]
REFINE_HELP = (
    "Whether Segment Anything outlines what is rejected: auto (where that helps on pseudo anomalies; a minute or two "
    "to find out), on or off."
)
RefineOption = Annotated[str, typer.Option(help=REFINE_HELP)]

TokenOption = Annotated[str | None, typer.Option(help="Access token; default: that of `hf auth login`.")]
PrivateOption = Annotated[bool, typer.Option(help="Only you can see it.")]
