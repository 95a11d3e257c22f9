"""`stlm report`: a model and test photographs -> figures and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..model_folder.zoo import check_name
from .console import needing, print_note, say
from .options import DeviceOption, ModelArgument
from .progress import counted


def report(
    model: ModelArgument,
    data: Annotated[Path, typer.Option(help="Folder of one category: test/good, test/KIND, ground_truth/KIND.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write; default: report/<name of the model>.")
    ] = None,
    log: Annotated[
        Path | None, typer.Option(help="log.jsonl of the training; default: that of the model's run.")
    ] = None,
    device: DeviceOption = None,
) -> None:
    """Measures a model on test photographs: figures, plots, and panels of the worst, median and best photographs."""
    check_name(model)
    from ..model_folder import hub
    from ..stlm import STLM

    with needing("A report", "train"):
        from ..evaluation.report import write_report

    local = hub.resolve(model)
    folder = local.folder.resolve()
    # In the Hub's cache a folder is called by its commit.
    name = folder.name if local.revision is None else model.partition("@")[0].rpartition("/")[2]
    command = ["stlm", "report", model, "--data", str(data)]
    for option, value in (("--output", output), ("--log", log), ("--device", device)):
        command += [option, str(value)] if value else []
    run_log = folder.with_name(f"{folder.name}.run") / "log.jsonl"  # where `finetune` leaves it
    network = STLM.from_pretrained(model, device=device, backend="torch")
    results = hub.results_of(local)
    with counted("evaluating") as on_image:
        made = write_report(
            network,
            name,
            data,
            output or Path("report") / name,
            results=results,
            log=log or (run_log if run_log.is_file() else None),
            losses=hub.companion_file(local, "losses.png"),
            command=command,
            on_image=on_image,
            say=print_note,
        )
    say(f"{made} is written, with pictures beside it.")
