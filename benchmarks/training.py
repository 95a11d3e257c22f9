"""Measures what a training step costs: seconds, samples a second, memory.

    python benchmarks/training.py --output FILE

Each setting is trained for a few steps on the same 8 sample photographs, in a process of its own. What counts are the
steps of later epochs, where the teacher's features of clean photographs are kept from earlier ones, as most steps of a
recipe are. The exit code is 1 when a limit is broken.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.figures import Limit, all_held, command_line, machine  # noqa: E402
from stlm_hub.cli.console import console, exit_on_error, say  # noqa: E402
from stlm_hub.errors import ConfigError, TrainingError  # noqa: E402
from stlm_hub.models.stlm.config import NetworkConfig  # noqa: E402
from stlm_hub.models.stlm.network import STLMNetwork  # noqa: E402
from stlm_hub.pseudo_anomalies.nuisance import Nuisance  # noqa: E402
from stlm_hub.samples.parts import write_samples  # noqa: E402
from stlm_hub.starting_weights.sources import starting_weights  # noqa: E402
from stlm_hub.starting_weights.starting_weights import StartingWeights  # noqa: E402
from stlm_hub.training.config import TrainingConfig  # noqa: E402
from stlm_hub.training.loop import train  # noqa: E402

STEPS, UNCOUNTED = 12, 5
CPU_LEVELS = ["stage1", "stage2", "embedding", "decoder"]
FAMILIES = {"families": ["perlin", "perlin", "nsa", "cutpaste_union"]}
CAMERA = dataclasses.asdict(Nuisance())
CPU = {"teacher": "mobile", "frozen_stages": 1, "batch_size": 4, "synthesis": FAMILIES, "nuisance": CAMERA}
PAPER = {"teacher": "mobile", "batch_size": 2}


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is measured.

    Args:
        network, training: fields of NetworkConfig and TrainingConfig.
        memory_gb: limit.
    """

    network: dict[str, Any]
    training: dict[str, Any]
    memory_gb: float = 6


SETTINGS: dict[str, Setting] = {
    "cpu recipe, 256 px, 4 a step": Setting({"input_size": [256, 256], "feature_levels": CPU_LEVELS}, CPU),
    "cpu recipe, 512 px, 4 a step": Setting({"input_size": [512, 512], "feature_levels": CPU_LEVELS}, CPU),
    # the recipe before, of the zoo's bottle, toothbrush and pill
    "the same, plain stream kept, 512 px, 4 a step": Setting(
        {"input_size": [512, 512], "feature_levels": CPU_LEVELS}, {**CPU, "plain_stream": "frozen"}
    ),
    "paper's levels, both streams, 256 px, 4 a step": Setting({"input_size": [256, 256]}, {**PAPER, "batch_size": 4}),
    "paper's levels, both streams, 1024 px, 2 a step": Setting({"input_size": [1024, 1024]}, PAPER, memory_gb=10),
    "the same, activations recomputed": Setting(
        {"input_size": [1024, 1024]}, {**PAPER, "recompute_activations": True}, memory_gb=10
    ),
}


def measure(setting: Setting, weights: Path, photographs: Sequence[Path], steps: int) -> dict[str, Any]:
    """Trains `steps` steps from a file of starting weights, in a process of its own.

    Returns:
        "seconds" of each step and "peak_gb", the highest resident memory of the process in GB (10^9 bytes; Linux).

    Raises:
        TrainingError: it failed.
    """
    job = json.dumps(
        {
            "network": setting.network,
            "training": {**setting.training, "steps": steps, "checkpoint_every": 10**6},
            "weights": str(weights),
            "photographs": [str(path) for path in photographs],
        }
    )
    code = "import sys; from benchmarks.training import train_alone; train_alone(sys.argv[1])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, job], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise TrainingError(f"The training failed; its last words are:\n{done.stderr[-1500:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def train_alone(job: str) -> None:
    """Trains what `measure` asks for, as JSON, and prints what it came to."""
    wanted = json.loads(job)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        log = train(
            STLMNetwork(NetworkConfig.from_dict(wanted["network"])),
            [Path(path) for path in wanted["photographs"]],
            TrainingConfig.from_dict(wanted["training"]),
            StartingWeights.load(Path(wanted["weights"])),
            Path(folder),
        )
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    print(json.dumps({"seconds": [record["seconds"] for record in log], "peak_gb": peak * 1024 / 1e9}))


def main(
    output: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    only: Annotated[str, typer.Option(help="Part of the names of the settings to measure.")] = "",
    steps: Annotated[int, typer.Option(min=UNCOUNTED + 1, help="Steps of each training.")] = STEPS,
) -> None:
    """Measures training steps."""
    chosen = {name: setting for name, setting in SETTINGS.items() if only in name}
    if not chosen:
        raise ConfigError(f"No setting has {only!r} in its name; there are: {'; '.join(SETTINGS)}.")
    facts = machine()
    with tempfile.TemporaryDirectory(prefix="stlm-bench-") as folder:
        rows = _measure_all(Path(folder), chosen, steps)
    limits = [Limit(f"memory: {row['name']}", row["peak_gb"], chosen[row["name"]].memory_gb, "GB") for row in rows]
    _show(rows, limits)
    if output:
        report = {
            "command": command_line("benchmarks/training.py", sys.argv[1:]),
            "date": datetime.date.today().isoformat(),
            "machine": facts,
            "commit": _git("describe", "--always", "--dirty"),
            "settings": rows,
            "limits": [limit.to_dict() for limit in limits],
        }
        output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if not all_held(limits):
        raise typer.Exit(1)


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()


def _measure_all(folder: Path, settings: dict[str, Setting], steps: int) -> list[dict[str, Any]]:
    weights = folder / "starting.safetensors"
    starting_weights(on_message=say).save(weights)
    rows = []
    for name, setting in settings.items():
        say(name)
        samples = folder / f"samples-{setting.network['input_size'][0]}"
        if not samples.is_dir():
            size = min(512, setting.network["input_size"][0])
            write_samples(samples, part="brick", n_train=8, n_good=1, n_defect_each=1, size=size, seed=0)
        found = measure(setting, weights, sorted(samples.glob("*/train/good/*")), steps)
        seconds = median(found["seconds"][UNCOUNTED:])
        rows.append(
            {
                "name": name,
                "network": setting.network,
                "training": setting.training,
                "seconds_per_step": round(seconds, 3),
                "samples_per_second": round(setting.training["batch_size"] / seconds, 3),
                "peak_gb": round(found["peak_gb"], 2),
            }
        )
    return rows


def _show(rows: Sequence[dict[str, Any]], limits: Sequence[Limit]) -> None:
    table = Table("setting", "s a step", "samples/s", "peak GB", title="Training steps")
    for row in rows:
        figures = (f"{row['seconds_per_step']:.2f}", f"{row['samples_per_second']:.2f}", f"{row['peak_gb']:.1f}")
        table.add_row(row["name"], *figures)
    console.print(table)
    for limit in limits:
        state = "held" if limit.held else "BROKEN"
        say(f"{limit.name}: {limit.value} {limit.unit}, limit {limit.limit}: {state}")


if __name__ == "__main__":
    with exit_on_error():
        typer.run(main)
