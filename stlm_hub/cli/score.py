"""`stlm score`: any number of photographs -> Parquet, on one machine or on a cluster."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from ..model_folder.zoo import check_name
from ..wording import number_of
from .console import console, needing, say
from .options import MODEL_HELP, BackendOption, BitsOption, DeviceOption, ThresholdOption
from .progress import progress_bars

QUIET = 30.0
"""Seconds between two lines, without a terminal."""


def score(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="Folder, glob, or a CSV or Parquet file with a column `path`; s3://, hf:// and others work, too.",
        ),
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="Folder for the rows; an unfinished one is continued.")],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help=f"{MODEL_HELP} Default when continuing: the one of the rows."),
    ] = None,
    engine: Annotated[str, typer.Option(help="local (processes of this machine) or ray (a Ray cluster).")] = "local",
    workers: Annotated[
        int | None,
        typer.Option(help="Processes, or Ray actors; default: one a core, or a graphics card. 0: this process."),
    ] = None,
    maps: Annotated[bool, typer.Option("--maps", help="Write anomaly maps, too.")] = False,
    threshold: ThresholdOption = None,
    bits: BitsOption = None,
    device: DeviceOption = None,
    backend: BackendOption = None,
) -> None:
    """Judges very many photographs, one Parquet row each. After a crash the same command goes on."""
    if model is not None:
        check_name(model)
    with needing("Scoring in bulk", "bulk"):
        from ..bulk.score import score as run

    with ScoreProgress() as progress:
        made = run(
            source,
            output,
            model,
            engine=engine,
            workers=workers,
            maps=maps,
            threshold=threshold,
            bits=bits,
            device=device,
            backend=backend,
            on_progress=progress,
        )
    have = "has a row" if made.photographs == 1 else "have a row each"
    words = f"{number_of(made.photographs, 'photograph')} {have} in {output}"
    words += f", {made.before} of them from before." if made.before else "."
    if made.errors:
        words += f" {made.errors} could not be judged; the column error says why."
    say(words)


class ScoreProgress:
    """Shows photographs that are done, and the time left: a bar in a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._bars = progress_bars()
        self._task = self._bars.add_task("photographs", total=None, visible=False)
        self._started = self._said = time.monotonic()

    def __enter__(self) -> ScoreProgress:
        if console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if console.is_terminal:
            self._bars.stop()

    def __call__(self, done: int, total: int) -> None:
        """Called with (done, total) after each photograph, or part."""
        if console.is_terminal:
            self._bars.update(self._task, completed=done, total=total, visible=True)
            return
        now = time.monotonic()
        if done == total or now - self._said >= QUIET:
            self._said = now
            pace = done / max(now - self._started, 1e-6)
            left = (total - done) / pace / 60 if pace else 0.0
            say(f"photographs {done}/{total}  {pace:.1f} a second  {left:.0f} min left")
