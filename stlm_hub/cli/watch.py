"""`stlm watch`: a folder, a camera or a video -> a row each, until it is stopped."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ..errors import DataError
from ..model_folder.zoo import check_name
from ..validate import expanded
from ..wording import number_of
from .console import UNUSABLE, VERDICTS, say
from .options import BackendOption, BitsOption, DeviceOption, ModelOption, ReviewOption, ThresholdOption

MEGABYTE = 10**6


def watch(
    source: Annotated[
        str, typer.Argument(help="Folder, video file, camera number like 0, /dev/video0, or rtsp:// URL.")
    ],
    model: ModelOption,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for verdicts.jsonl; an existing one is continued.")
    ],
    csv: Annotated[Path | None, typer.Option(help="CSV file for the same rows.")] = None,
    webhook: Annotated[str | None, typer.Option(help="http(s):// address that each row is POSTed to.")] = None,
    mqtt: Annotated[
        str | None,
        typer.Option(help="mqtt://user@host:port/topic; user and port may be left out, mqtts:// is encrypted."),
    ] = None,
    rejects: Annotated[Path | None, typer.Option(help="Folder for pictures of what is rejected.")] = None,
    rejects_limit: Annotated[
        int, typer.Option(min=1, help="MB that --rejects may hold; the oldest pictures go first.")
    ] = 1000,
    every: Annotated[float, typer.Option(min=0.0, help="Seconds between frames of a camera or video.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Judge what the folder holds now, then end.")] = False,
    threshold: ThresholdOption = None,
    review: ReviewOption = None,
    reject_share: Annotated[
        float, typer.Option(min=0.001, max=0.9, help="Warn of drift when a larger share than this is rejected.")
    ] = 0.2,
    bits: BitsOption = None,
    device: DeviceOption = None,
    backend: BackendOption = None,
) -> None:
    """Judges photographs as they arrive, one row each, until Ctrl-C. After a crash the same command goes on."""
    output = expanded(output)
    csv, rejects = (None if path is None else expanded(path) for path in (csv, rejects))
    if output.exists() and not output.is_dir():
        raise DataError(f"{output} is a file; name a folder for --output.")
    check_name(model)
    from ..detectors import load
    from ..line.drift import Drift
    from ..line.rejects import Rejects
    from ..line.row import Row
    from ..line.senders import Mqtt, Webhook
    from ..line.watch import watch as run
    from ..predict.prediction import checked_review, checked_threshold

    if threshold is not None:
        threshold = checked_threshold(threshold)
    hook = None if webhook is None else Webhook(webhook)
    network = load(model, device=device, bits=bits, backend=backend)
    checked_review(review, network.judging.threshold if threshold is None else threshold)
    senders = [sender for sender in (hook, None if mqtt is None else Mqtt(mqtt)) if sender is not None]
    stopping: list[int] = []
    before = {
        number: signal.signal(number, lambda n, _: stopping.append(n)) for number in (signal.SIGINT, signal.SIGTERM)
    }

    def show(row: Row) -> None:
        said = VERDICTS[row.verdict] if row.verdict else UNUSABLE
        rest = f"score {row.score:.4f}  {row.path}" if row.score is not None else row.error or row.path
        say(f"{said}  {escape(rest)}", markup=True)
        if row.note:
            say(f"  [yellow]note[/]  {escape(row.note)}", markup=True)
        if row.advice:
            say(f"[bold yellow]Drift:[/] {escape(row.advice)}", markup=True)

    if not once:
        say(f"Watching {source}; Ctrl-C ends it.")
    try:
        written = run(
            network,
            source,
            output,
            threshold=threshold,
            review_threshold=review,
            every=every,
            once=once,
            csv=csv,
            senders=senders,
            rejects=None if rejects is None else Rejects(rejects, rejects_limit * MEGABYTE),
            drift=Drift(network.judging, reject_share),
            on_row=show,
            say=say,
            stopped=lambda: bool(stopping),
        )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    say(f"{number_of(written, 'row is', 'rows are')} written to {output}.")
