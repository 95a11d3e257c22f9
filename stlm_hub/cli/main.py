"""The command `stlm`. Each command is a thin call into the library."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import Progress

from ..errors import ConfigError, DataError, STLMError
from ..model_folder.zoo import check_name
from ..validate import expanded
from .doctor import doctor
from .export import export
from .mask import mask
from .options import REFINE_HELP, BitsOption, RefineOption
from .progress import VERDICTS, RunProgress, console, exit_on_error, print_note, say_warnings
from .references import references, without_references
from .score import score as score_in_bulk
from .watch import watch
from .zero_shot import zero_shot_judge
from .zoo import space_app, weights_app, zoo_app

if TYPE_CHECKING:
    from ..models.stlm.judging import Calibration
    from ..predict.prediction import Prediction, Unusable

WORSE = 0.1
"""Share of painted defects missed besides, at which a new threshold is warned of."""

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Anomaly detection from photographs of good parts.")
app.command()(doctor)
app.command()(export)
app.command()(mask)
app.add_typer(weights_app, name="weights")
app.add_typer(zoo_app, name="zoo")
app.add_typer(space_app, name="space")
app.command()(watch)
app.command()(score_in_bulk)

RegionOption = Annotated[Path | None, typer.Option(help="Picture of where to look: white on black, as a photograph.")]
IgnoreOption = Annotated[Path | None, typer.Option(help="Picture of where not to look: white on black.")]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, ...; default: cuda where there is one.")]


@app.command()
def predict(
    photographs: Annotated[list[Path], typer.Argument(help="Photographs, or folders of photographs.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Alias, org/repo, org/repo@revision or folder.")
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option(help="Photograph of a good part, in place of a model; give one to five, each with --reference."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for heatmap panels.")] = None,
    threshold: Annotated[float | None, typer.Option(help="In [0, 1]; default: the calibrated one.")] = None,
    review: Annotated[
        float | None, typer.Option(help="Score from which a photograph below the threshold is worth a second look.")
    ] = None,
    refine: Annotated[
        bool | None,
        typer.Option(
            "--refine/--no-refine",
            help="Outline with Segment Anything: some seconds for each defect. Default: as the model chose.",
        ),
    ] = None,
    bits: BitsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line instead of a table.")] = False,
    device: DeviceOption = None,
    zero_shot: Annotated[
        bool,
        typer.Option("--zero-shot", help="Instead of a model: CLIP and Segment Anything, without good photographs."),
    ] = False,
    part: Annotated[str | None, typer.Option(help='With --zero-shot: name of the part, e.g. "metal nut".')] = None,
    clip: Annotated[
        str | None, typer.Option(help="With --zero-shot: CLIP's weights, hf-hub:org/repo, folder or file.")
    ] = None,
) -> None:
    """Judges photographs: prints verdict and score of each, writes heatmap panels with --output."""
    if not zero_shot and (part or clip):
        raise ConfigError("--part and --clip belong to --zero-shot; add it, or leave them out.")
    if zero_shot and reference:
        raise ConfigError("--zero-shot needs no photographs of good parts; leave out --zero-shot or --reference.")
    if (zero_shot or reference) and bits is not None:
        raise ConfigError("--bits belongs to a model; leave it out with --zero-shot and --reference.")
    if zero_shot:
        judge = zero_shot_judge(part, clip, model, device, quiet=as_json or threshold is not None)
    elif reference:
        judge = references(reference, model, device, quiet=as_json).predict_many
    elif model is None:
        raise ConfigError(
            "Name a model with --model, or photographs of good parts with --reference. Without any, pass --zero-shot."
        )
    else:
        check_name(model)
        from ..detectors import load

        network = load(model, device=device)
        if bits is not None:
            network.judging = network.judging.replace(bits=bits)
        judge = network.predict_many
    from ..predict.images import note_left_out
    from .panels import PanelNames, check_output, photographs_of

    given = [expanded(path) for path in photographs]
    paths = photographs_of(given)
    panels = None if output is None else PanelNames(check_output(output))
    unread = [note for path in given if path.is_dir() and (note := note_left_out(path, recursive=True))]
    if not paths:
        what = "There are no photographs in these folders; pass PNG, JPEG, WEBP, BMP or TIFF files."
        raise DataError(" ".join([what, *unread]))
    for note in unread:
        print_note(note)
    if reference:
        paths = without_references(paths, reference, quiet=as_json)
    broken = 0
    verdicts = judge(paths, threshold=threshold, review_threshold=review, refine=refine)
    for path, judged in zip(paths, verdicts, strict=True):
        try:
            _print_verdict(path, judged, panels.place(path) if panels else None, as_json)
        except STLMError as error:
            broken += 1
            _print_unusable(path, error, as_json)
    if broken:
        raise DataError(f"{broken} of {len(paths)} photographs could not be used; see above.")


def _print_verdict(path: Path, judged: Prediction | Unusable, output: Path | None, as_json: bool) -> None:
    from ..predict.prediction import Unusable

    if isinstance(judged, Unusable):
        raise judged.error
    panel = judged.save(output, title=path.name) if output else None
    if as_json:
        typer.echo(json.dumps({"path": str(path), **judged.to_dict(), "panel": str(panel) if panel else None}))
        return
    where = f"  -> {escape(str(panel))}" if panel else ""
    console.print(
        f"{VERDICTS[judged.verdict]}  score {judged.score:.4f}  threshold {judged.threshold:.4f}  "
        f"{escape(str(path))}{where}",
        highlight=False,
        soft_wrap=True,
    )
    for note in judged.notes:
        console.print(f"  [yellow]note[/]     {escape(note)}", highlight=False, soft_wrap=True)


def _print_unusable(path: Path, error: STLMError, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"path": str(path), "error": str(error)}))
    else:
        console.print(f"[yellow]unusable[/]   {escape(str(error))}", highlight=False, soft_wrap=True)


@app.command()
def finetune(
    folder: Annotated[Path, typer.Argument(help="Folder of photographs of good parts, at least 8.")],
    name: Annotated[str, typer.Option(help="Name of the model.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Model folder; default: models/<name>.")] = None,
    steps: Annotated[
        int, typer.Option(min=0, help="Training steps of 4 photographs; 0: a memory alone, in half a minute.")
    ] = 400,
    size: Annotated[
        int | None,
        typer.Option(
            help="Longer side of the network's input in px, a multiple of 64. Default: of about 256 x 256 px."
        ),
    ] = None,
    tiles: Annotated[
        str, typer.Option(help="Cut large photographs into tiles: auto, none, or rows and columns like 3x4.")
    ] = "auto",
    region: RegionOption = None,
    ignore: IgnoreOption = None,
    minimum_area: Annotated[
        float, typer.Option(help="Smallest defect in px of a photograph; smaller regions do not count.")
    ] = 0.0,
    camera: Annotated[
        str, typer.Option(help="How much light, focus and noise may differ: fixed, normal or rough.")
    ] = "normal",
    careful: Annotated[
        bool, typer.Option("--careful", help="Keep the threshold above all photographs: the next batch will differ.")
    ] = False,
    rotation: Annotated[
        str,
        typer.Option(help="How parts may lie: none, slight (up to 5 degrees), quarter (by 90, 180, 270), full (both)."),
    ] = "none",
    false_alarm_rate: Annotated[float, typer.Option(help="Share of good parts that may be judged anomalous.")] = 0.01,
    seed: Annotated[int, typer.Option(help="Decides everything random.")] = 0,
    memory_entries: Annotated[
        int | None,
        typer.Option(help="Normal patches to remember beside the streams, 0 for none. Default: 4096, at most all."),
    ] = None,
    backbone: Annotated[
        str, typer.Option(help="Network whose features these are: efficientnet_lite0 or mobile_sam.")
    ] = "efficientnet_lite0",
    leave_out: Annotated[
        list[str] | None, typer.Option(help="Name of a photograph in the folder that is not good after all.")
    ] = None,
    bits: BitsOption = None,
    refine: RefineOption = "off",
    textures: Annotated[Path | None, typer.Option(help="Folder of textures to paste; default: built in.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Starting weights; default: fetched and kept.")] = None,
) -> None:
    """Trains a model of your part from photographs of good parts, and calibrates its threshold."""
    try:
        from ..training.finetune import finetune as run
    except ImportError as error:
        raise DataError(f'Fine-tuning needs {error.name}: pip install "stlm_hub[train]"') from None

    with RunProgress(name) as observer:
        made = run(
            folder,
            name,
            output=output,
            steps=steps,
            size=size,
            tiles=tiles,
            region=region,
            ignore=ignore,
            minimum_area=minimum_area,
            rotation=rotation,
            camera=camera,
            careful=careful,
            false_alarm_rate=false_alarm_rate,
            seed=seed,
            memory_entries=memory_entries,
            backbone=backbone,
            textures=textures,
            starting_from=weights,
            leave_out=leave_out or (),
            bits=bits,
            refine=refine,
            observer=observer,
        )
    console.print(f"Try it: stlm predict PHOTO --model {made} --output panels", highlight=False, soft_wrap=True)
    console.print(f"Publish it: stlm publish {made} --repo ORG/{name}", highlight=False, soft_wrap=True)


@app.command()
def calibrate(
    folder: Annotated[Path, typer.Argument(help="Folder of photographs of good parts, at least 4, not trained on.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Alias, org/repo, org/repo@revision or folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model folder to write.")],
    false_alarm_rate: Annotated[
        float | None, typer.Option(help="Share of good parts that may be judged anomalous; default: the model's.")
    ] = None,
    careful: Annotated[
        bool | None,
        typer.Option("--careful/--no-careful", help="Keep the threshold above all photographs; default: the model's."),
    ] = None,
    anomaly_map: Annotated[
        str | None,
        typer.Option("--map", help="Map to judge by: aggregation, cosine, memory, combined; default: the model's."),
    ] = None,
    draw: Annotated[str | None, typer.Option(help="Map to show and outline; default: the model's.")] = None,
    region: RegionOption = None,
    ignore: IgnoreOption = None,
    minimum_area: Annotated[
        float | None, typer.Option(help="Smallest defect in px of a photograph; default: the model's.")
    ] = None,
    refine: Annotated[str | None, typer.Option(help=f"{REFINE_HELP} Default: as the model does.")] = None,
    bits: BitsOption = None,
    device: DeviceOption = None,
) -> None:
    """Finds a model's threshold, and its combined map's scales, anew: for your light, or for another of its maps."""
    check_name(model)
    from ..calibration.outlines import asked, told
    from ..calibration.threshold import MIN_HELD_OUT
    from ..model_folder import hub
    from ..model_folder.folder import read_folder
    from ..models.stlm.anomaly_maps import MAP_LABELS
    from ..predict.photographs import check_photographs
    from ..predict.region_mask import looked_at
    from ..stlm import STLM
    from ..training.recalibrate import recalibrate

    output = expanded(output)
    found = check_photographs(folder, at_least=MIN_HELD_OUT, work="calibration", near_copies=False, bits=bits)
    local = hub.resolve(model)
    known = read_folder(local.folder)[1].bits
    if bits is None and found.bits is not None and known is not None and known != found.bits:
        # The model's network and memory were made of photographs that were read so.
        found = check_photographs(folder, at_least=MIN_HELD_OUT, work="calibration", near_copies=False, bits=known)
    for duplicate, original in found.duplicates:
        console.print(f"{duplicate.name} is the same frame as {original.name} and is left out.", markup=False)
    for note in found.notes:
        console.print(note, markup=False)
    if output.resolve() == local.folder.resolve():
        raise ConfigError(f"{output} is the folder of the model itself; name another --output.")
    network = STLM.from_pretrained(model, device=device, backend="torch")
    results, name = hub.results_of(local), output.resolve().name
    if refine == "auto":
        console.print(asked(len(found.paths)), highlight=False, soft_wrap=True)
    with Progress(console=console, transient=True) as bars:
        task = bars.add_task("scoring", total=len(found.paths))
        made = recalibrate(
            network,
            found.paths,
            output,
            repo_id=f"your-name/{name}",
            results=results,
            false_alarm_rate=false_alarm_rate,
            careful=careful,
            anomaly_map=anomaly_map,
            draw_by=draw,
            looked_at=looked_at(region, ignore, found.shape),
            named=[option for option, given in (("region", region), ("ignore", ignore)) if given],
            minimum_area=minimum_area,
            bits=found.bits,
            refine=refine,
            on_image=lambda done, total: bars.update(task, completed=done, total=total),
        )
    before, now = network.judging, made.judging
    if refine in ("auto", "on"):
        console.print(told(now), highlight=False, soft_wrap=True)
    other = ", of another map," if now.judge_by != before.judge_by else ""
    if not other and now.judge_by == "combined":
        other = ", on other scales,"
    console.print(
        f"The threshold of the map {MAP_LABELS[now.judge_by]} is {now.threshold:.4f}, from {len(found.paths)} "
        f"photographs; before{other} it was "
        f"{f'{before.threshold:.4f}' if before.calibration else 'not calibrated'}.",
        highlight=False,
        soft_wrap=True,
    )
    if now.calibration is not None:
        console.print(_cost(before.calibration, now.calibration), highlight=False, soft_wrap=True)
    console.print(f"Try it: stlm predict PHOTO --model {output} --output panels", highlight=False, soft_wrap=True)
    console.print(f"Publish it: stlm publish {output} --repo ORG/{name}", highlight=False, soft_wrap=True)


def _cost(before: Calibration | None, now: Calibration) -> str:
    """What a new threshold promises and misses, and a warning where it misses much more than the one before."""
    words = f"At most {now.highest_rate:.0%} of good parts are rejected (95 % sure)."
    if now.miss_rate is None:
        return words
    words += f" Of faint defects painted on these photographs it misses {now.miss_rate:.0%}"
    if before is None or before.miss_rate is None:
        return f"{words}."
    words += f", before {before.miss_rate:.0%} on those of the training."
    if now.miss_rate > before.miss_rate + WORSE:
        words += " That is much more: give it more photographs, or train a model on them with: stlm finetune"
    return words


@app.command()
def report(
    model: Annotated[str, typer.Argument(help="Alias, org/repo, org/repo@revision or folder.")],
    data: Annotated[Path, typer.Option(help="Folder of one category: test/good, test/KIND, ground_truth/KIND.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write; default: report/<name of the model>.")
    ] = None,
    log: Annotated[
        Path | None, typer.Option(help="log.jsonl of the training; default: that of the model's run.")
    ] = None,
    device: DeviceOption = None,
) -> None:
    """Measures a model on test photographs: figures, plots, and panels of the worst, median and best photographs."""
    check_name(model)
    from ..model_folder import hub
    from ..stlm import STLM

    try:
        from ..evaluation.report import write_report
    except ImportError as error:
        raise DataError(f'A report needs {error.name}: pip install "stlm_hub[train]"') from None

    local = hub.resolve(model)
    folder = local.folder.resolve()
    name = folder.name if local.revision is None else model.partition("@")[0].rpartition("/")[2]
    command = ["stlm", "report", model, "--data", str(data)]
    for option, value in (("--output", output), ("--log", log), ("--device", device)):
        command += [option, str(value)] if value else []
    run_log = folder.with_name(f"{folder.name}.run") / "log.jsonl"  # where `finetune` leaves it
    network = STLM.from_pretrained(model, device=device, backend="torch")
    results = hub.results_of(local)
    with Progress(console=console, transient=True) as bars:
        task = bars.add_task("evaluating", total=None)
        made = write_report(
            network,
            name,
            data,
            output or Path("report") / name,
            results=results,
            log=log or (run_log if run_log.is_file() else None),
            losses=hub.companion_file(local, "losses.png"),
            command=command,
            on_image=lambda done, total: bars.update(task, completed=done, total=total),
            say=print_note,
        )
    console.print(f"{made} is written, with pictures beside it.", highlight=False, soft_wrap=True)


@app.command()
def samples(
    folder: Annotated[Path, typer.Argument(help="Where to write brick/, grass/, gravel/ in MVTec AD's layout.")],
    part: Annotated[list[str] | None, typer.Option(help="brick, grass, gravel; default: all three.")] = None,
    size: Annotated[int, typer.Option(help="Side of the photographs in px.")] = 256,
    seed: Annotated[int, typer.Option(help="Decides crops, light and defects.")] = 0,
) -> None:
    """Makes sample photographs that anyone may use: CC0 textures with painted defects and their masks."""
    from ..samples.parts import PARTS, write_samples

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
    from ..model_folder.publish import publish as run

    made = run(folder, repo, token=token, private=private, tag=tag)
    console.print(f"{made.url} is published at revision {made.revision}.", highlight=False, soft_wrap=True)


@app.command()
def accept(
    photographs: Annotated[list[Path], typer.Argument(help="Photographs of parts that were good.")],
    model: Annotated[Path, typer.Option("--model", "-m", help="Folder of your model.")],
    unfamiliar: Annotated[
        bool, typer.Option("--unfamiliar", help="They show the part although they look like something else.")
    ] = False,
) -> None:
    """Tells a model that these were good: in seconds its memory knows them and its threshold counts them."""
    with Progress(console=console, transient=True) as bars:
        task = bars.add_task("looking", total=len(photographs))
        made = _feedback().accept(
            model,
            photographs,
            lambda done, total: bars.update(task, completed=done, total=total),
            unfamiliar=unfamiliar,
        )
    for sentence in made.left_out:
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    for path, score in zip(made.taken, made.scores, strict=True):
        console.print(f"{escape(path.name)} scored {score:.4f} and is known as good now.", highlight=False)
    console.print(f"The threshold is {made.after:.4f}; before it was {made.before:.4f}.", highlight=False)
    _print_known_defects(made.known_defects, made.after)
    console.print(f"Take it back: stlm undo --model {model}", highlight=False, soft_wrap=True)


@app.command()
def reject(
    photographs: Annotated[list[Path], typer.Argument(help="Photographs with a defect.")],
    model: Annotated[Path, typer.Option("--model", "-m", help="Folder of your model.")],
) -> None:
    """Keeps photographs as known defects: never trained on, shown with their scores at every new threshold."""
    from ..stlm import STLM

    known = _feedback().reject(model, photographs)
    _print_known_defects(known, STLM.from_pretrained(model).judging.threshold)


@app.command()
def undo(model: Annotated[Path, typer.Option("--model", "-m", help="Folder of your model.")]) -> None:
    """Takes the last `stlm accept` back."""
    threshold, known = _feedback().undo(model)
    console.print(f"The model is as it was before. Its threshold is {threshold:.4f}.", highlight=False)
    _print_known_defects(known, threshold)


def _feedback() -> ModuleType:
    try:
        from ..training import feedback
    except ImportError as error:
        raise DataError(f'This needs {error.name}: pip install "stlm_hub[torch]"') from None
    return feedback


def _print_known_defects(known: list[tuple[str, float]], threshold: float) -> None:
    for name, score in known:
        verdict = "is found" if score >= threshold else "[bold red]passes[/]"
        console.print(f"Known defect {escape(name)}: score {score:.4f}, {verdict}.", highlight=False)


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
