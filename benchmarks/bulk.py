"""Measures how many photographs a second `stlm score` judges, and sizes a million and a billion of them from it.

    python benchmarks/bulk.py --photographs DIR --output FILE

CPU seconds are those of all processes together, so they hold on a busy machine, too; photographs a second do not.
"""

from __future__ import annotations

import datetime
import json
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pyarrow.parquet as pq
import typer
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.figures import command_line, machine  # noqa: E402
from stlm_hub.bulk.row import Row, rows_to_parquet  # noqa: E402
from stlm_hub.bulk.score import LARGEST_PART, score  # noqa: E402
from stlm_hub.cli.console import console, exit_on_error  # noqa: E402
from stlm_hub.errors import DataError  # noqa: E402
from stlm_hub.predict.images import list_images  # noqa: E402

SIZES = (10**6, 10**9)
CORES = 64  # of the machine that is counted in
FEWEST = 16


def measure(photographs: Sequence[Path], model: str, workers: int, folder: Path, maps: bool) -> dict[str, Any]:
    """Judges photographs in `folder` with so many workers.

    Returns:
        "load_seconds" until the first photograph, "photographs_per_second" from there to the last (None of a single
        one), and "cpu_seconds_total" of all processes.
    """
    (folder / "list.csv").write_text("path\n" + "\n".join(map(str, photographs)) + "\n", encoding="utf-8")
    heard: list[float] = []
    begun, before = time.perf_counter(), _cpu_seconds()
    score(
        str(folder / "list.csv"),
        str(folder / "rows"),
        model,
        workers=workers,
        maps=maps,
        on_progress=lambda done, total: heard.append(time.perf_counter()),
    )
    used = _cpu_seconds() - before
    between = heard[-1] - heard[0]
    return {
        "workers": workers,
        "photographs": len(photographs),
        "load_seconds": round(heard[0] - begun, 2),
        "photographs_per_second": round((len(heard) - 1) / between, 3) if len(heard) > 1 else None,
        "cpu_seconds_total": round(used, 2),
    }


def _cpu_seconds() -> float:
    """Of this process and those that have ended."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def bytes_a_row(rows: Path) -> float:
    """Of a whole part, filled with the rows that were measured under paths of the same length."""
    measured = pq.read_table(rows).to_pylist()
    filled = []
    for number in range(LARGEST_PART):
        row = measured[number % len(measured)]
        spread = 1 + number / (10 * LARGEST_PART)  # equal values would pack too well
        filled.append(
            Row(
                f"{row['path'][:-8]}{number:08d}",
                row["verdict"],
                row["score"] / spread,
                row["threshold"],
                row["unfamiliar"] / spread,
                row["error"],
                round(row["seconds"] * spread, 4),
            )
        )
    return len(rows_to_parquet(filled)) / len(filled)


def sized(cpu_seconds: float, row: float, anomaly_map: float) -> list[dict[str, Any]]:
    """What so many photographs take: CPU hours, days of one machine of `CORES` cores, machines for a week, Parquet."""
    found = []
    for n in SIZES:
        hours = n * cpu_seconds / 3600
        days = hours / 24 / CORES
        found.append(
            {
                "photographs": n,
                "cpu_hours": round(hours),
                "machine_days": round(days, 1),
                "machines_for_a_week": max(1, -(-days // 7)),
                "rows_gb": round(n * row / 1e9, 3),
                "maps_tb": round(n * anomaly_map / 1e12, 2),
                "parts": -(-n // LARGEST_PART),
            }
        )
    return found


def main(
    photographs: Annotated[Path, typer.Option(help="Folder of photographs as large as they come.")],
    model: Annotated[str, typer.Option(help="Alias or folder.")] = "mvtec-bottle",
    count: Annotated[int, typer.Option(min=FEWEST, help="Photographs that each run judges.")] = 32,
    workers: Annotated[list[int] | None, typer.Option(help="Numbers of workers; default: 1 and 2.")] = None,
    output: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Measures `stlm score`."""
    found = list_images(photographs, recursive=True)
    if len(found) < FEWEST:
        raise DataError(f"{photographs} holds {len(found)} photographs; give a folder of at least {FEWEST}.")
    facts, chosen, runs = machine(), (found * (count // len(found) + 1))[:count], []
    with tempfile.TemporaryDirectory(prefix="stlm-bench-") as name:
        copies = _links(chosen, Path(name) / "photographs")
        few = Path(name) / "few"
        few.mkdir()
        loading = measure(copies[:1], model, 1, few, False)["cpu_seconds_total"]
        for number in workers or [1, 2]:
            folder = Path(name) / str(number)
            folder.mkdir()
            run = measure(copies, model, number, folder, maps=False)
            # One photograph is part of what loading was measured with; it is taken off both.
            rest = (run["cpu_seconds_total"] - number * loading) / (len(copies) - number)
            runs.append(run | {"cpu_seconds": round(rest, 3)})
            console.print(runs[-1])
        row = bytes_a_row(folder / "rows")
        mapped = Path(name) / "maps"
        mapped.mkdir()
        measure(copies[:FEWEST], model, 1, mapped, maps=True)
        anomaly_map = sum(path.stat().st_size for path in (mapped / "rows" / "_maps").iterdir()) / FEWEST
    report = {
        "command": command_line("benchmarks/bulk.py", sys.argv[1:]),
        "date": datetime.date.today().isoformat(),
        "machine": facts,
        "model": model,
        "runs": runs,
        "row_bytes": round(row, 1),
        "map_bytes": round(anomaly_map),
        "cores": CORES,
        "sizes": sized(runs[0]["cpu_seconds"], row, anomaly_map),
    }
    _show(report)
    if output:
        output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _links(photographs: Sequence[Path], folder: Path) -> list[Path]:
    """Each under a name of its own, so that one may count several times."""
    folder.mkdir()
    made = [folder / f"{number:08d}{path.suffix}" for number, path in enumerate(photographs)]
    for link, path in zip(made, photographs, strict=True):
        link.symlink_to(path.resolve())
    return made


def _show(report: dict[str, Any]) -> None:
    for title, rows in (("Photographs a second", report["runs"]), ("What it takes", report["sizes"])):
        table = Table(*rows[0], title=title)
        for row in rows:
            table.add_row(*map(str, row.values()))
        console.print(table)


if __name__ == "__main__":
    with exit_on_error():
        typer.run(main)
