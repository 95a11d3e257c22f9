"""`stlm predict`: photographs -> a verdict each, by a model, by references or by words."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from ..errors import ConfigError, DataError, STLMError
from ..model_folder.zoo import check_name
from ..validate import expanded
from ..wording import number_of
from .console import UNUSABLE, VERDICTS, print_note, say
from .options import MODEL_HELP, BackendOption, BitsOption, DeviceOption, ReviewOption, ThresholdOption
from .references import reference_judge, without_references
from .zero_shot import zero_shot_judge

if TYPE_CHECKING:
    from ..predict.prediction import Prediction, Unusable
    from .zero_shot import Judge


def predict(
    photographs: Annotated[list[Path], typer.Argument(help="Photographs, or folders of them with their sub-folders.")],
    model: Annotated[str | None, typer.Option("--model", "-m", help=MODEL_HELP)] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option(help="Photograph of a good part, in place of a model; may be repeated, up to five."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for a picture of each: photograph, heatmap, outline.")
    ] = None,
    threshold: ThresholdOption = None,
    review: ReviewOption = None,
    refine: Annotated[
        bool | None,
        typer.Option(
            "--refine/--no-refine",
            help="Outline with Segment Anything, some seconds for each defect. Default: the model's setting.",
        ),
    ] = None,
    bits: BitsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    device: DeviceOption = None,
    backend: BackendOption = None,
    zero_shot: Annotated[
        bool,
        typer.Option("--zero-shot", help="Judge by words instead of a model, with CLIP and Segment Anything."),
    ] = False,
    part: Annotated[str | None, typer.Option(help='With --zero-shot: name of the part, e.g. "metal nut".')] = None,
    clip: Annotated[
        str | None, typer.Option(help="With --zero-shot: CLIP's weights, hf-hub:org/repo, folder or file.")
    ] = None,
) -> None:
    """Judges photographs: prints a verdict and a score for each. With --output it draws them, too."""
    _check_options(zero_shot=zero_shot, words=bool(part or clip), reference=bool(reference), bits=bits, backend=backend)
    if zero_shot:
        judge = zero_shot_judge(part, clip, model, device, quiet=as_json or threshold is not None)
    elif reference:
        judge = reference_judge(reference, model, device, quiet=as_json)
    else:
        judge = _model_judge(model, device, bits, backend)
    from .panels import PanelNames, check_output, photographs_of

    given = [expanded(path) for path in photographs]
    paths = photographs_of(given)
    panels = None if output is None else PanelNames(check_output(output))
    _check_any(given, paths)
    if reference:
        paths = without_references(paths, reference, quiet=as_json)
    counts: Counter[str] = Counter()
    verdicts = judge(paths, threshold=threshold, review_threshold=review, refine=refine)
    for path, judged in zip(paths, verdicts, strict=True):
        try:
            counts[_print_verdict(path, judged, panels.place(path) if panels else None, as_json)] += 1
        except STLMError as error:
            counts["unusable"] += 1
            _print_unusable(path, error, as_json)
    if len(paths) > 1 and not as_json:
        of_each = ", ".join(f"{counts[kind]} {kind}" for kind in (*VERDICTS, "unusable") if counts[kind])
        say(f"{len(paths)} photographs: {of_each}.")
    if counts["unusable"]:
        raise DataError(f"{counts['unusable']} of {number_of(len(paths), 'photograph')} could not be used; see above.")


def _check_options(*, zero_shot: bool, words: bool, reference: bool, bits: int | None, backend: str | None) -> None:
    """Raises ConfigError for options that do not go together; `words`: --part or --clip."""
    if words and not zero_shot:
        raise ConfigError("--part and --clip belong to --zero-shot; add it, or leave them out.")
    if zero_shot and reference:
        raise ConfigError("--zero-shot needs no photographs of good parts; leave out --zero-shot or --reference.")
    for name, value in (("--bits", bits), ("--backend", backend)):
        if (zero_shot or reference) and value is not None:
            raise ConfigError(f"{name} belongs to a model; leave it out with --zero-shot and --reference.")


def _model_judge(model: str | None, device: str | None, bits: int | None, backend: str | None) -> Judge:
    """`predict_many` of a model or an export of one."""
    if model is None:
        raise ConfigError(
            "Name a model with --model, or photographs of good parts with --reference. Without any, pass --zero-shot."
        )
    check_name(model)
    from ..detectors import load

    return load(model, device=device, bits=bits, backend=backend).predict_many


def _check_any(given: Sequence[Path], paths: Sequence[Path]) -> None:
    """Raises DataError where what was given holds no photograph; notes what this installation cannot read."""
    from ..predict.images import note_left_out

    unread = [note for path in given if path.is_dir() and (note := note_left_out(path, recursive=True))]
    if not paths:
        what = "There are no photographs in these folders; pass PNG, JPEG, WEBP, BMP or TIFF files."
        raise DataError(" ".join([what, *unread]))
    for note in unread:
        print_note(note)


def _print_verdict(path: Path, judged: Prediction | Unusable, output: Path | None, as_json: bool) -> str:
    """Prints and returns one verdict, and writes its panel to `output`. Raises what makes the photograph unusable."""
    from ..predict.prediction import Unusable

    if isinstance(judged, Unusable):
        raise judged.error
    panel = judged.save(output, title=path.name) if output else None
    if as_json:
        typer.echo(json.dumps({"path": str(path), **judged.to_dict(), "panel": str(panel) if panel else None}))
        return judged.verdict
    where = f"  -> {escape(str(panel))}" if panel else ""
    say(
        f"{VERDICTS[judged.verdict]}  score {judged.score:.4f}  threshold {judged.threshold:.4f}  "
        f"{escape(str(path))}{where}",
        markup=True,
    )
    for note in judged.notes:
        say(f"  [yellow]note[/]      {escape(note)}", markup=True)
    return judged.verdict


def _print_unusable(path: Path, error: STLMError, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"path": str(path), "error": str(error)}))
    else:
        say(f"{UNUSABLE}  {escape(str(error))}", markup=True)
