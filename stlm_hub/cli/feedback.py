"""`stlm accept`, `stlm reject` and `stlm undo`: what the line learns about its parts -> the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ..model_folder.zoo import check_own
from .console import needing, say
from .progress import counted

OwnModelOption = Annotated[Path, typer.Option("--model", "-m", help="Folder of your model.")]


def accept(
    photographs: Annotated[list[Path], typer.Argument(help="Photographs of parts that were good.")],
    model: OwnModelOption,
    unfamiliar: Annotated[
        bool, typer.Option("--unfamiliar", help="Take them even if they look unlike the part.")
    ] = False,
) -> None:
    """Tells a model that parts were good: its memory learns them in seconds, and its threshold counts them."""
    check_own(model)
    with needing("This", "torch"):
        from ..training.feedback import accept as run

    with counted("looking", total=len(photographs)) as on_image:
        made = run(model, photographs, on_image, unfamiliar=unfamiliar)
    for sentence in made.left_out:
        say(sentence)
    for path, score in zip(made.taken, made.scores, strict=True):
        say(f"{path.name} scored {score:.4f} and is known as good now.")
    say(f"The threshold is {made.after:.4f}; before it was {made.before:.4f}.")
    say_known_defects(made.known_defects, made.after)
    _say_undo(model)


def reject(
    photographs: Annotated[list[Path], typer.Argument(help="Photographs with a defect.")],
    model: OwnModelOption,
) -> None:
    """Keeps photographs as known defects. Nothing learns from them; each new threshold shows whether it finds them."""
    check_own(model)
    with needing("This", "torch"):
        from ..stlm import STLM
        from ..training.feedback import reject as run

    known = run(model, photographs)
    say_known_defects(known, STLM.from_pretrained(model).judging.threshold)
    _say_undo(model)


def undo(model: OwnModelOption) -> None:
    """Takes back the last `stlm accept` or `stlm reject`, whichever came later."""
    check_own(model)
    with needing("This", "torch"):
        from ..training.feedback import undo as run

    made = run(model)
    for name in made.rejected:
        say(f"{name} is no known defect any more.")
    if not made.rejected:
        say(f"The model is as it was before. Its threshold is {made.threshold:.4f}.")
    say_known_defects(made.known_defects, made.threshold)


def _say_undo(model: Path) -> None:
    say(f"Take it back: stlm undo --model {model}")


def say_known_defects(known: list[tuple[str, float]], threshold: float) -> None:
    """Prints whether each photograph that was rejected is found at a new threshold."""
    for name, score in known:
        verdict = "is found" if score >= threshold else "[bold red]is missed[/]"
        say(f"Known defect {escape(name)} scores {score:.4f} and {verdict}.", markup=True)
