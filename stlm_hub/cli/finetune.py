"""`stlm finetune`: a folder of photographs of good parts -> a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import console, needing, say, say_next_steps
from .feedback import say_known_defects
from .options import FoundBitsOption, IgnoreOption, RefineOption, RegionOption
from .progress import RunProgress
from .promise import promise


def finetune(
    folder: Annotated[Path, typer.Argument(help="Folder of photographs of good parts, at least 8.")],
    name: Annotated[str, typer.Option(help="Name of the model: letters, digits, dots, dashes.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Model folder to write; default: models/<name>.")
    ] = None,
    steps: Annotated[
        int, typer.Option(min=0, help="Training steps of 4 photographs; 0: a memory alone, in half a minute.")
    ] = 400,
    size: Annotated[
        int | None,
        typer.Option(
            help="Longer side that the network sees, in px, a multiple of 64. Larger finds smaller defects, and takes "
            "longer. Default: as many px in all as 256 x 256."
        ),
    ] = None,
    tiles: Annotated[
        str, typer.Option(help="Cut large photographs into tiles: auto, none, or rows and columns like 3x4.")
    ] = "auto",
    region: RegionOption = None,
    ignore: IgnoreOption = None,
    minimum_area: Annotated[
        float, typer.Option(help="Smallest defect, in px of a photograph by area; smaller regions do not count.")
    ] = 0.0,
    camera: Annotated[
        str, typer.Option(help="How much light, focus and noise differ between photographs: fixed, normal or rough.")
    ] = "normal",
    careful: Annotated[
        bool,
        typer.Option(
            "--careful",
            help="Keep the threshold above all your photographs; for parts whose next batch looks different.",
        ),
    ] = False,
    rotation: Annotated[
        str,
        typer.Option(help="How parts may lie: none, slight (up to 5 degrees), quarter (by 90, 180, 270), full (both)."),
    ] = "none",
    false_alarm_rate: Annotated[float, typer.Option(help="Share of good parts that may be judged anomalous.")] = 0.01,
    seed: Annotated[int, typer.Option(help="Number that decides everything random.")] = 0,
    memory_entries: Annotated[
        int | None,
        typer.Option(help="Patches of good parts to remember; 0: none. Default: 4096, or all if there are fewer."),
    ] = None,
    backbone: Annotated[
        str, typer.Option(help="Network that sees the remembered patches: efficientnet_lite0 or mobile_sam.")
    ] = "efficientnet_lite0",
    leave_out: Annotated[
        list[str] | None, typer.Option(help="Photograph in the folder that is not good after all; may be repeated.")
    ] = None,
    bits: FoundBitsOption = None,
    refine: RefineOption = "off",
    textures: Annotated[
        Path | None, typer.Option(help="Folder of textures to paint as damage; default: built in.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="File of starting weights; default: fetched once and kept.")
    ] = None,
) -> None:
    """Trains a model of your part from photographs of good parts, and calibrates its threshold."""
    with needing("Fine-tuning", "train"):
        from ..model_folder.folder import read_folder
        from ..training.feedback import known_defects
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
    if console.quiet:  # one of several processes; another one writes the model
        return
    judging = read_folder(made)[1]
    if judging.calibration is not None:
        say(f"It rejects from a score of {judging.threshold:.4f} on. {promise(None, judging.calibration)}")
        say_known_defects(known_defects(made), judging.threshold)
    say_next_steps(made, name)
