"""`stlm calibrate`: photographs of good parts -> a model with another threshold."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError
from ..model_folder.zoo import check_name
from ..validate import expanded
from .console import say, say_next_steps
from .feedback import say_known_defects
from .options import REFINE_HELP, BitsOption, DeviceOption, IgnoreOption, ModelOption, RegionOption
from .progress import counted
from .promise import promise

if TYPE_CHECKING:
    from ..models.stlm.judging import Judging


def calibrate(
    folder: Annotated[
        Path, typer.Argument(help="Folder of photographs of good parts that the model was not trained on, at least 4.")
    ],
    model: ModelOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="Model folder to write.")],
    false_alarm_rate: Annotated[
        float | None, typer.Option(help="Share of good parts that may be judged anomalous; default: the model's.")
    ] = None,
    careful: Annotated[
        bool | None,
        typer.Option(
            "--careful/--no-careful",
            help="Keep the threshold above all photographs or not; default: as the model does.",
        ),
    ] = None,
    anomaly_map: Annotated[
        str | None,
        typer.Option("--map", help="Map to judge by: aggregation, cosine, memory, combined; default: the model's."),
    ] = None,
    draw: Annotated[
        str | None, typer.Option(help="Map to show and outline, if not the one judged by; default: the model's.")
    ] = None,
    region: RegionOption = None,
    ignore: IgnoreOption = None,
    minimum_area: Annotated[
        float | None, typer.Option(help="Smallest defect, in px of a photograph by area; default: the model's.")
    ] = None,
    refine: Annotated[str | None, typer.Option(help=f"{REFINE_HELP} Default: as the model does.")] = None,
    bits: BitsOption = None,
    device: DeviceOption = None,
) -> None:
    """Finds a new threshold for a model, from photographs of good parts: after a change of light, camera or map."""
    check_name(model)
    from ..calibration.outlines import choice_text, cost_text
    from ..calibration.threshold import MIN_HELD_OUT
    from ..model_folder import hub
    from ..model_folder.folder import read_folder
    from ..predict.photographs import check_photographs
    from ..predict.region_mask import looked_at
    from ..stlm import STLM
    from ..training.feedback import known_defects
    from ..training.recalibrate import recalibrate

    output = expanded(output)
    check = partial(check_photographs, folder, at_least=MIN_HELD_OUT, work="calibration", near_copies=False)
    found = check(bits=bits)
    local = hub.resolve(model)
    model_bits = read_folder(local.folder)[1].bits
    if bits is None and found.bits is not None and model_bits is not None and model_bits != found.bits:
        found = check(bits=model_bits)  # the model's network and memory were made of photographs that were read so
    for duplicate, original in found.duplicates:
        say(f"{duplicate.name} is the same frame as {original.name} and is left out.")
    for note in found.notes:
        say(note)
    if output.resolve() == local.folder.resolve():
        raise ConfigError(f"{output} is the folder of the model itself; name another --output.")
    network = STLM.from_pretrained(model, device=device, backend="torch")
    results, name = hub.results_of(local), output.resolve().name
    if refine == "auto":
        say(cost_text(len(found.paths)))
    with counted("scoring", total=len(found.paths)) as on_image:
        made = recalibrate(
            network,
            found.paths,
            output,
            repo_id=f"your-name/{name}",
            results=results,
            false_alarm_rate=false_alarm_rate,
            careful=careful,
            anomaly_map=anomaly_map,
            draw_by=draw,
            looked_at=looked_at(region, ignore, found.shape),
            named=[option for option, given in (("region", region), ("ignore", ignore)) if given],
            minimum_area=minimum_area,
            bits=found.bits,
            refine=refine,
            on_image=on_image,
        )
    if refine in ("auto", "on"):
        say(choice_text(made.judging))
    _say_threshold(network.judging, made.judging, len(found.paths))
    say_known_defects(known_defects(local.folder, by=output), made.judging.threshold)
    say_next_steps(output, name)


def _say_threshold(before: Judging, now: Judging, photographs: int) -> None:
    """Prints the new threshold beside the one before, and what it promises."""
    from ..models.stlm.scales import MAP_LABELS

    other = ", of another map," if now.judge_by != before.judge_by else ""
    if not other and now.judge_by == "combined":
        other = ", on other scales,"
    say(
        f"The threshold of the map {MAP_LABELS[now.judge_by]} is {now.threshold:.4f}, from {photographs} "
        f"photographs; before{other} it was "
        f"{f'{before.threshold:.4f}' if before.calibration else 'not calibrated'}."
    )
    if now.calibration is not None:
        say(promise(before.calibration, now.calibration))
