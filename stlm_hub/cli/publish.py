"""`stlm publish`: a model folder -> a repository of the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..model_folder.zoo import check_own
from ..wording import number_of
from .console import say
from .options import PrivateOption, TokenOption


def publish(
    folder: Annotated[Path, typer.Argument(help="A finished model folder.")],
    repo: Annotated[str, typer.Option(help="ORG/NAME on the Hub; it is created where needed.")],
    private: PrivateOption = False,
    tag: Annotated[str | None, typer.Option(help="Name of the tag; default: the library's version.")] = None,
    token: TokenOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check all, list what would be uploaded, and upload nothing.")
    ] = False,
) -> None:
    """Publishes a model folder on the Hugging Face Hub: repository, card, tag."""
    check_own(folder)
    from ..model_folder import publish as module

    if dry_run:
        sizes = module.dry_run(folder, repo)
        for name, size in sizes.items():
            say(f"{size:>12,}  {name}")
        total = f"{number_of(len(sizes), 'file')}, {sum(sizes.values()) / 1e6:.1f} MB,"
        say(f"{folder} can be published. {total} would be uploaded to {repo}; nothing was.")
        return
    made = module.publish(folder, repo, token=token, private=private, tag=tag)
    say(f"{made.url} is published at revision {made.revision}.")
