"""`stlm mask`: a click on a part -> the picture that says where to look."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigError, ImageError
from ..validate import expanded
from ..wording import percent
from .console import print_note, say

SURE = 0.9
"""IoU that Segment Anything predicts for its own mask; below it the click may have met something else."""


def mask(
    photograph: Annotated[Path, typer.Argument(help="Photograph of a good part.")],
    at: Annotated[
        list[str], typer.Option(help="X,Y of a point on the part, in px from the upper left; may be repeated.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG file to write.")],
    outside: Annotated[
        list[str] | None, typer.Option(help="X,Y of a point that is not on the part; may be repeated.")
    ] = None,
) -> None:
    """Makes a picture for --region or --ignore: Segment Anything finds what a point on a photograph lies on."""
    import numpy as np
    from PIL import Image

    from ..predict.images import read_picture
    from ..zero_shot.segment import segment_anything, segment_embedded

    output, photograph = expanded(output), expanded(photograph)
    if output.exists() and photograph.exists() and output.samefile(photograph):
        raise ConfigError(f"{output} is the photograph itself; name another file for --output.")
    clicks, others = [_place(text) for text in at], [_place(text) for text in outside or ()]
    picture = read_picture(photograph)
    for note in picture.notes:
        print_note(note)
    image = picture.image
    embedded = segment_anything().embed(image)
    found = [segment_embedded(embedded, click, outside=others) for click in clicks]
    covered = np.logical_or.reduce([one.mask for one in found])
    try:
        Image.fromarray(np.where(covered, 255, 0).astype(np.uint8)).save(output)
    except (OSError, ValueError) as error:
        raise ImageError(f"{output} cannot be written ({error}); name a file that ends in .png.") from error
    iou = min(one.predicted_iou for one in found)
    say(
        f"{output} covers {percent(covered.mean())} of the photograph; Segment Anything is {iou:.2f} of 1 sure."
        + ("" if iou >= SURE else " That is little: look at it, and click elsewhere or name --outside.")
    )


def _place(text: str) -> tuple[float, float]:
    numbers = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*,\s*(\d+(?:\.\d+)?)\s*", text)
    if numbers is None:
        raise ConfigError(f'A place is two numbers like "320,240", not {text!r:.40}.')
    return float(numbers[1]), float(numbers[2])
