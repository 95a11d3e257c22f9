"""The command `stlm`. Each command is a thin call into the library, in a file of its own."""

from __future__ import annotations

import io
import sys

import typer

from .calibrate import calibrate
from .console import exit_on_error, say_warnings
from .doctor import doctor
from .export import export
from .feedback import accept, reject, undo
from .finetune import finetune
from .mask import mask
from .predict import predict
from .publish import publish
from .report import report
from .samples import samples
from .score import score
from .space import space_app
from .watch import watch
from .weights import weights_app
from .zoo import zoo_app

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Anomaly detection from photographs of good parts.")

# In the order of `stlm --help`: judge, make a model, know and correct it, put it on the line, share it.
app.command()(predict)
app.command()(finetune)
app.command()(mask)
app.command()(report)
app.command()(calibrate)
app.command()(accept)
app.command()(reject)
app.command()(undo)
app.command()(export)
app.command()(watch)
app.command()(score)
app.command()(publish)
app.command()(samples)
app.command()(doctor)
app.add_typer(zoo_app, name="zoo")
app.add_typer(space_app, name="space")
app.add_typer(weights_app, name="weights")


def main() -> None:
    """Entry point of the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a narrow console, or a name that is no UTF-8, ends no work
    say_warnings()
    with exit_on_error():
        app()


if __name__ == "__main__":
    main()
