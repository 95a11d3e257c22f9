"""`stlm publish`: a model folder -> a repository of the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import say
from .options import PrivateOption, TokenOption


def publish(
    folder: Annotated[Path, typer.Argument(help="A finished model folder.")],
    repo: Annotated[str, typer.Option(help="ORG/NAME on the Hub; it is created where needed.")],
    private: PrivateOption = False,
    tag: Annotated[str | None, typer.Option(help="Name of the tag; default: the library's version.")] = None,
    token: TokenOption = None,
) -> None:
    """Publishes a model folder on the Hugging Face Hub: repository, card, tag."""
    from ..model_folder.publish import publish as run

    made = run(folder, repo, token=token, private=private, tag=tag)
    say(f"{made.url} is published at revision {made.revision}.")
