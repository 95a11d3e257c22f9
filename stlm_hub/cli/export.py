"""`stlm export`: a model for machines without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..model_folder.names import FORMATS, PRECISIONS
from ..model_folder.zoo import check_name
from ..validate import check_choice
from ..wording import number_of
from .console import needing, say
from .options import ModelArgument
from .progress import progress_bars


def export(
    model: ModelArgument,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder to write; default: the cache, where `stlm predict` finds it."),
    ] = None,
    form: Annotated[str, typer.Option("--format", help="onnx (ONNX Runtime) or openvino (OpenVINO).")] = "onnx",
    precision: Annotated[str, typer.Option(help="fp32, bf16 or int8.")] = "fp32",
    photographs: Annotated[
        Path | None,
        typer.Option(help="Folder of good photographs, not trained on, to compare on; needed for bf16 and int8."),
    ] = None,
) -> None:
    """Exports a model for ONNX Runtime or OpenVINO, after checking that it still judges the same."""
    check_name(model)
    check_choice("format", form, FORMATS)
    check_choice("precision", precision, PRECISIONS)
    with needing("Exporting", "export"):
        from ..export.export import export as run

    with progress_bars(transient=True) as bars:
        task = bars.add_task("exporting", total=None)
        made = run(
            model,
            output,
            form=form,
            precision=precision,
            photographs=photographs,
            on_image=lambda done, total: bars.update(task, completed=done, total=total, description="comparing"),
        )
    found = made.facts.parity
    say(
        f"{output or 'The export'} judges with {made.backend}. Another verdict for "
        f"{found.changed_verdicts} of {number_of(found.photographs, 'photograph')} and "
        f"{number_of(found.anomalies, 'pseudo anomaly', 'pseudo anomalies')}; maps differ by at most "
        f"{found.map_difference:.1g}. "
        f"A photograph takes {1000 * found.seconds:.0f} ms, in PyTorch {1000 * found.torch_seconds:.0f} ms."
    )
    if found.drawn:
        say("Compared on drawn pictures; --photographs compares on those of your part.")
    say(f"Try it: stlm predict PHOTO --model {output or model}")
