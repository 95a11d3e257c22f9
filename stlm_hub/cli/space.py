"""`stlm space`: the web page -> a folder, or a Space of the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import say
from .options import PrivateOption, TokenOption

space_app = typer.Typer(no_args_is_help=True, help="The web page, as a folder or as a Space of the Hub.")

ModelsOption = Annotated[
    list[str] | None, typer.Option("--model", "-m", help="Alias to offer, may be repeated; default: the whole zoo.")
]


@space_app.command("build")
def space_build(
    folder: Annotated[Path, typer.Argument(help="Where to write it; must be empty.")], model: ModelsOption = None
) -> None:
    """Writes the page with all it needs into a folder: pip install -r requirements.txt and python app.py run it."""
    from ..model_folder.space import build

    say(f"{build(folder, models=model or None)} is written.")


@space_app.command("push")
def space_push(
    repo: Annotated[str, typer.Option(help="ORG/NAME of the Space; it is created where needed.")],
    private: PrivateOption = False,
    hardware: Annotated[str | None, typer.Option(help="cpu-basic, zero-a10g, t4-small, ...")] = None,
    token: TokenOption = None,
    model: ModelsOption = None,
) -> None:
    """Uploads the page as a Space; files that it held before and that are no part of it now are deleted."""
    from ..model_folder.space import push

    made = push(repo, token=token, private=private, hardware=hardware, models=model or None)
    say(f"{made.url} is pushed at revision {made.revision}.")
