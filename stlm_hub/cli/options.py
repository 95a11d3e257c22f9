"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MODEL_HELP = "Model folder, name from `stlm zoo list`, or org/repo or org/repo@revision on the Hub."
ModelArgument = Annotated[str, typer.Argument(help=MODEL_HELP)]
ModelOption = Annotated[str, typer.Option("--model", "-m", help=MODEL_HELP)]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, ...; default: cuda where there is one.")]
BACKENDS = "torch, torch bf16, torch compiled or torch bf16 compiled"
BackendOption = Annotated[
    str | None, typer.Option(help=f"{BACKENDS}; default: an export of the model where there is one, else torch.")
]
ThresholdOption = Annotated[
    float | None, typer.Option(help="Score that rejects, from 0 to 1; default: the calibrated one.")
]
ReviewOption = Annotated[
    float | None,
    typer.Option(help="Score from which to say review, below the threshold; default: the calibrated one."),
]
BITS_HELP = "Bits that the camera uses in 16-bit files: 10, 12, 14 or 16."
BitsOption = Annotated[int | None, typer.Option(help=f"{BITS_HELP} Default: as the model was made.")]
FoundBitsOption = Annotated[int | None, typer.Option(help=f"{BITS_HELP} Default: found on the photographs.")]

RegionOption = Annotated[Path | None, typer.Option(help="Picture, white where to look, black elsewhere.")]
IgnoreOption = Annotated[Path | None, typer.Option(help="Picture, white where not to look, black elsewhere.")]
REFINE_HELP = (
    "Outline rejected photographs with Segment Anything: off, on, or auto (only if it helps, which takes a minute "
    "or two to find out)."
)
RefineOption = Annotated[str, typer.Option(help=REFINE_HELP)]

TokenOption = Annotated[str | None, typer.Option(help="Access token; default: that of `hf auth login`.")]
PrivateOption = Annotated[bool, typer.Option(help="Only you can see it.")]
