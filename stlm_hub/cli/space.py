"""`stlm space`: the web page -> a folder, or a Space of the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import say
from .options import PrivateOption, TokenOption

space_app = typer.Typer(no_args_is_help=True, help="The web page, as a folder or as a Space of the Hub.")

ModelsOption = Annotated[
    list[str] | None, typer.Option("--model", "-m", help="Zoo model to offer; may be repeated. Default: all of them.")
]


@space_app.command("build")
def space_build(
    folder: Annotated[Path, typer.Argument(help="Where to write it; must be empty.")], model: ModelsOption = None
) -> None:
    """Writes the page and all it needs into a folder. To run it: pip install -r requirements.txt, python app.py."""
    from ..model_folder.space import build

    say(f"{build(folder, models=model or None)} is written.")


@space_app.command("push")
def space_push(
    repo: Annotated[str, typer.Option(help="ORG/NAME of the Space; it is created where needed.")],
    private: PrivateOption = False,
    hardware: Annotated[
        str | None, typer.Option(help="cpu-basic, zero-a10g, t4-small, ...; default: the Hub's.")
    ] = None,
    token: TokenOption = None,
    model: ModelsOption = None,
) -> None:
    """Uploads the page as a Space. Files of the Space that are not part of the page are deleted."""
    from ..model_folder.space import push

    made = push(repo, token=token, private=private, hardware=hardware, models=model or None)
    say(f"{made.url} is pushed at revision {made.revision}.")
