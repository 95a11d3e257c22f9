"""`stlm finetune`: a folder of photographs of good parts -> a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import needing, say_next_steps
from .options import BitsOption, IgnoreOption, RefineOption, RegionOption
from .progress import RunProgress


def finetune(
    folder: Annotated[Path, typer.Argument(help="Folder of photographs of good parts, at least 8.")],
    name: Annotated[str, typer.Option(help="Name of the model.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Model folder; default: models/<name>.")] = None,
    steps: Annotated[
        int, typer.Option(min=0, help="Training steps of 4 photographs; 0: a memory alone, in half a minute.")
    ] = 400,
    size: Annotated[
        int | None,
        typer.Option(
            help="Longer side of the network's input in px, a multiple of 64. Default: of about 256 x 256 px."
        ),
    ] = None,
    tiles: Annotated[
        str, typer.Option(help="Cut large photographs into tiles: auto, none, or rows and columns like 3x4.")
    ] = "auto",
    region: RegionOption = None,
    ignore: IgnoreOption = None,
    minimum_area: Annotated[
        float, typer.Option(help="Smallest defect in px of a photograph; smaller regions do not count.")
    ] = 0.0,
    camera: Annotated[
        str, typer.Option(help="How much light, focus and noise may differ: fixed, normal or rough.")
    ] = "normal",
    careful: Annotated[
        bool, typer.Option("--careful", help="Keep the threshold above all photographs: the next batch will differ.")
    ] = False,
    rotation: Annotated[
        str,
        typer.Option(help="How parts may lie: none, slight (up to 5 degrees), quarter (by 90, 180, 270), full (both)."),
    ] = "none",
    false_alarm_rate: Annotated[float, typer.Option(help="Share of good parts that may be judged anomalous.")] = 0.01,
    seed: Annotated[int, typer.Option(help="Decides everything random.")] = 0,
    memory_entries: Annotated[
        int | None,
        typer.Option(help="Normal patches to remember beside the streams, 0 for none. Default: 4096, at most all."),
    ] = None,
    backbone: Annotated[
        str, typer.Option(help="Network whose features these are: efficientnet_lite0 or mobile_sam.")
    ] = "efficientnet_lite0",
    leave_out: Annotated[
        list[str] | None, typer.Option(help="Name of a photograph in the folder that is not good after all.")
    ] = None,
    bits: BitsOption = None,
    refine: RefineOption = "off",
    textures: Annotated[Path | None, typer.Option(help="Folder of textures to paste; default: built in.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Starting weights; default: fetched and kept.")] = None,
) -> None:
    """Trains a model of your part from photographs of good parts, and calibrates its threshold."""
    with needing("Fine-tuning", "train"):
        from ..training.finetune import finetune as run

    with RunProgress(name) as observer:
        made = run(
            folder,
            name,
            output=output,
            steps=steps,
            size=size,
            tiles=tiles,
            region=region,
            ignore=ignore,
            minimum_area=minimum_area,
            rotation=rotation,
            camera=camera,
            careful=careful,
            false_alarm_rate=false_alarm_rate,
            seed=seed,
            memory_entries=memory_entries,
            backbone=backbone,
            textures=textures,
            starting_from=weights,
            leave_out=leave_out or (),
            bits=bits,
            refine=refine,
            observer=observer,
        )
    say_next_steps(made, name)
