"""Measures training steps of an older commit and of this checkout in turn: seconds, samples a second, memory.

    python benchmarks/training.py --output benchmarks/training.json

Both run the same settings on the same 8 sample photographs, each in a process of its own, twice in turn so that a slow
phase of the machine meets both. What counts are the steps of later epochs, where the teacher's features of clean
photographs are kept from earlier ones, as most steps of a recipe are. The exit code is 1 when a limit is broken.
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

import typer
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.figures import Limit, all_held, command_line, machine  # noqa: E402
from stlm_hub.cli.progress import console, exit_on_error  # noqa: E402
from stlm_hub.errors import ConfigError, TrainingError  # noqa: E402
from stlm_hub.samples.parts import write_samples  # noqa: E402
from stlm_hub.starting_weights.sources import starting_weights  # noqa: E402

BEFORE = "2ad0668"  # the last commit before training steps were made cheaper
STEPS, UNCOUNTED, ROUNDS = 12, 5, 2
MIN_SPEED_UP = 1.8  # the goal for the recipe `cpu`
CPU_LEVELS = ["stage1", "stage2", "embedding", "decoder"]
FAMILIES = {"families": ["perlin", "perlin", "nsa", "cutpaste_union"]}
CPU = {"teacher": "mobile", "frozen_stages": 1, "batch_size": 4, "synthesis": FAMILIES}
PAPER = {"teacher": "mobile", "batch_size": 2}


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is measured.

    Args:
        model, training: fields of STLMConfig and TrainingConfig.
        memory_gb: limit.
        compared: with the older commit.
        has_goal: the speed-up is to reach `MIN_SPEED_UP`.
    """

    model: dict[str, Any]
    training: dict[str, Any]
    memory_gb: float = 6
    compared: bool = False
    has_goal: bool = False


SETTINGS: dict[str, Setting] = {
    "cpu recipe, 256 px, 4 a step": Setting(
        {"image_size": 256, "feature_levels": CPU_LEVELS}, CPU, compared=True, has_goal=True
    ),
    "cpu recipe, 512 px, 4 a step": Setting(
        {"image_size": 512, "feature_levels": CPU_LEVELS}, CPU, compared=True, has_goal=True
    ),
    # the recipe before, of the zoo's bottle, toothbrush and pill
    "the same, plain stream kept, 512 px, 4 a step": Setting(
        {"image_size": 512, "feature_levels": CPU_LEVELS},
        {**CPU, "plain_stream": "frozen"},
        compared=True,
        has_goal=True,
    ),
    # the last steps of such a training see whole photographs, which its memory is of
    "windows of 224 px out of 512 px, 4 a step": Setting(
        {"image_size": 512, "feature_levels": CPU_LEVELS}, {**CPU, "crop": 224}
    ),
    "paper's levels, both streams, 256 px, 4 a step": Setting(
        {"image_size": 256}, {**PAPER, "batch_size": 4}, compared=True
    ),
    "paper's levels, both streams, 1024 px, 2 a step": Setting({"image_size": 1024}, PAPER, memory_gb=10),
    "the same, activations recomputed": Setting(
        {"image_size": 1024}, {**PAPER, "recompute_activations": True}, memory_gb=10
    ),
}
PROBE = """
import json, sys, tempfile
from pathlib import Path
import torch
from stlm_hub.models.stlm.config import STLMConfig
from stlm_hub.models.stlm.network import STLMNetwork
from stlm_hub.training.config import TrainingConfig
from stlm_hub.training.loop import train
from stlm_hub.starting_weights.sources import starting_weights
model, training, photographs, steps = json.loads(sys.argv[1])
torch.manual_seed(0)
network = STLMNetwork(STLMConfig.from_dict(model))
config = TrainingConfig.from_dict({**training, "steps": steps, "checkpoint_every": 10**6})
with tempfile.TemporaryDirectory() as folder:
    log = train(network, [Path(p) for p in photographs], config, starting_weights(), Path(folder))
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(json.dumps({"seconds": [record["seconds"] for record in log], "peak_gb": peak * 1024 / 1e9}))
"""


def measure(
    tree: Path, weights: Path, model: dict[str, Any], training: dict[str, Any], photographs: Sequence[Path], steps: int
) -> dict[str, Any]:
    """Trains `steps` steps with the library of a source tree from starting weights, in a process of its own.

    Returns:
        "seconds" of each step and "peak_gb", the highest resident memory of the process in GB (10^9 bytes; Linux).

    Raises:
        TrainingError: it failed.
    """
    settings = json.dumps([model, training, [str(path) for path in photographs], steps])
    environment = {**os.environ, "PYTHONPATH": str(tree), "STLM_STARTING_WEIGHTS": str(weights)}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, settings], cwd=tree, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise TrainingError(f"The training in {tree} failed; its last words are:\n{done.stderr[-1500:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main(
    before: Annotated[str, typer.Option(help="Commit to compare with.")] = BEFORE,
    output: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    only: Annotated[str, typer.Option(help="Part of the names of the settings to measure.")] = "",
    steps: Annotated[int, typer.Option(min=UNCOUNTED + 1, help="Steps of each training.")] = STEPS,
) -> None:
    """Measures training steps before and after."""
    if not any(only in name for name in SETTINGS):
        raise ConfigError(f"No setting has {only!r} in its name; there are: {'; '.join(SETTINGS)}.")
    with tempfile.TemporaryDirectory(prefix="stlm-bench-") as folder:
        older = Path(folder) / "before"
        added = subprocess.run(
            ["git", "worktree", "add", "--detach", str(older), before], cwd=ROOT, capture_output=True, text=True
        )
        if added.returncode:
            raise ConfigError(
                f"{before} cannot be checked out ({added.stderr.strip()}); pass a commit of a full clone."
            )
        facts = machine()
        try:
            rows = _measure_all(Path(folder), older, only, steps)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(older)], cwd=ROOT, check=False)
    limits = _limits(rows)
    _show(rows, limits)
    if output:
        report = {
            "command": command_line("benchmarks/training.py", sys.argv[1:]),
            "date": datetime.date.today().isoformat(),
            "machine": facts,
            "before": before,
            "after": _git("describe", "--always", "--dirty"),
            "settings": rows,
            "limits": [limit.to_dict() for limit in limits],
        }
        output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if not all_held(limits):
        raise typer.Exit(1)


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()


def _measure_all(folder: Path, older: Path, only: str, steps: int) -> list[dict[str, Any]]:
    weights = folder / "starting.safetensors"
    # the older commit knows no mask head, which no setting here needs
    dataclasses.replace(starting_weights(on_message=console.print), mask_head=None).save(weights)
    rows = []
    for name, setting in SETTINGS.items():
        if only not in name:
            continue
        model, training, compared = setting.model, setting.training, setting.compared
        samples = folder / f"samples-{model['image_size']}"
        if not samples.is_dir():
            write_samples(samples, part="brick", size=min(512, model["image_size"]), seed=0)
        photographs = sorted(samples.glob("*/train/good/*"))[:8]
        trees = {"before": older, "after": ROOT} if compared else {"after": ROOT}
        found: dict[str, list[dict[str, Any]]] = {label: [] for label in trees}
        for turn in range(ROUNDS if compared else 1):
            for label, tree in trees.items():
                console.print(f"{name}: {label}, round {turn + 1}", highlight=False)
                found[label].append(measure(tree, weights, model, training, photographs, steps))
        row: dict[str, Any] = {"name": name, "model": model, "training": training}
        for label, runs in found.items():
            seconds = median([s for run in runs for s in run["seconds"][UNCOUNTED:]])
            row[label] = {
                "seconds_per_step": round(seconds, 3),
                "samples_per_second": round(training["batch_size"] / seconds, 3),
                "peak_gb": round(max(run["peak_gb"] for run in runs), 2),
            }
        rows.append(row)
    return rows


def _limits(rows: Sequence[dict[str, Any]]) -> list[Limit]:
    limits = []
    for row in rows:
        setting = SETTINGS[row["name"]]
        limits.append(Limit(f"memory: {row['name']}", row["after"]["peak_gb"], setting.memory_gb, "GB"))
        if setting.has_goal:  # a share of the older time, so that lower is better as in every limit
            share = row["after"]["seconds_per_step"] / row["before"]["seconds_per_step"]
            limits.append(Limit(f"time: {row['name']}", round(share, 3), round(1 / MIN_SPEED_UP, 3), "of before"))
    return limits


def _show(rows: Sequence[dict[str, Any]], limits: Sequence[Limit]) -> None:
    table = Table("setting", "", "s a step", "samples/s", "peak GB", title="Training steps")
    for row in rows:
        for label in ("before", "after"):
            if label in row:
                found = row[label]
                table.add_row(
                    row["name"] if label == "before" or "before" not in row else "",
                    label,
                    f"{found['seconds_per_step']:.2f}",
                    f"{found['samples_per_second']:.2f}",
                    f"{found['peak_gb']:.1f}",
                )
    console.print(table)
    for limit in limits:
        state = "held" if limit.held else "BROKEN"
        console.print(f"{limit.name}: {limit.value} {limit.unit}, limit {limit.limit}: {state}", highlight=False)


if __name__ == "__main__":
    with exit_on_error():
        typer.run(main)
