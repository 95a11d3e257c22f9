"""`stlm samples`: photographs of parts for whoever has none."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import say


def samples(
    folder: Annotated[Path, typer.Argument(help="Where to write brick/, grass/, gravel/ in MVTec AD's layout.")],
    part: Annotated[list[str] | None, typer.Option(help="brick, grass, gravel; default: all three.")] = None,
    size: Annotated[int, typer.Option(help="Side of the photographs in px.")] = 256,
    seed: Annotated[int, typer.Option(help="Decides crops, light and defects.")] = 0,
) -> None:
    """Makes sample photographs that anyone may use: CC0 textures with painted defects and their masks."""
    from ..samples.parts import PARTS, write_samples

    for name in part or PARTS:
        made = write_samples(folder, part=name, size=size, seed=seed)
        say(f"{made} is written.")
