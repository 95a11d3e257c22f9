"""Measures how long a photograph takes from resized pixels to maps and score, in PyTorch and in exported graphs.

    python benchmarks/latency.py --graphs DIR --photographs DIR --output FILE

The floor is what the multiply-adds of the graph would take in a plain matrix product of the same type on this machine;
each time is given as a ratio to PyTorch's and as a fraction of that floor. `--work` prints multiply-adds and bytes of
each type of node, and how long one thread takes for either at the rates of a matrix product and of a copy. `--device
cuda` measures PyTorch in batches on a graphics card, with the 50th and 95th percentile and the peak of memory. Other
methods need their own environment: `make peers`.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.figures import command_line, machine  # noqa: E402
from benchmarks.latency_job import COPIED, SIDE, Job  # noqa: E402
from benchmarks.latency_work import work_of  # noqa: E402
from stlm_hub.cli.console import console, exit_on_error, say  # noqa: E402
from stlm_hub.errors import ConfigError  # noqa: E402
from stlm_hub.export.graph import JudgingGraph, write_onnx  # noqa: E402
from stlm_hub.export.openvino_graph import write_openvino  # noqa: E402
from stlm_hub.export.parity import at_network_size  # noqa: E402
from stlm_hub.export.quantise import quantise  # noqa: E402
from stlm_hub.models.stlm.image_encoder import ImageEncoder  # noqa: E402
from stlm_hub.predict.images import list_images, load_image  # noqa: E402
from stlm_hub.runtime.sessions import has_bfloat16, is_installed  # noqa: E402
from stlm_hub.stlm import STLM  # noqa: E402

ENCODERS = 2  # a MobileSAM encoder for each stream: what the network itself is made of
ENCODER = "MobileSAM encoder, ONNX Runtime fp32"
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"
"""Computes until the benchmark ends, even by a signal."""
CUDA_BATCHES = (1, 8, 32)
PEERS = {
    "patchcore": "PatchCore",
    "padim": "PaDiM",
    "efficient_ad": "EfficientAD-S",
    "supersimplenet": "SuperSimpleNet",
}
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"


def at_size(name: str, size: int) -> STLM:
    """A model whose network takes another size; its weights and its judging stay."""
    model = STLM.from_pretrained(name, device="cpu", backend="torch")
    network = {**model.config.network.to_dict(), "input_size": [size, size]}
    config = type(model.config).from_dict({**model.config.to_dict(), "network": network})
    other = STLM(config, model.judging, model.name)
    other.load_state_dict(model.state_dict())
    return other.eval()


def multiply_adds(model: STLM) -> int:
    """Of one photograph in the form that is exported: convolutions and matrix products."""
    pixels = torch.zeros(1, *model.frame_size, 3, dtype=torch.uint8)
    graph = JudgingGraph(model).requires_grad_(False)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        graph(pixels)
    return int(counter.get_total_flops() // 2)


def make_graphs(
    folder: Path, name: str, size: int, photographs: Path | None = None, *, encoder: bool = False
) -> dict[str, Path]:
    """The graphs of one size, made where they are not there yet.

    "fp32", with photographs "int8", "encoder" where it is asked for, and OpenVINO's "bf16" where the processor has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kinds = ("fp32", *(["int8"] if photographs else []), *(["encoder"] if encoder else []))
    graphs = {kind: folder / f"{name}-{size}-{kind}.onnx" for kind in kinds}
    model = at_size(name, size)
    if not graphs["fp32"].is_file():
        say(f"exporting {graphs['fp32'].name}")
        write_onnx(model, graphs["fp32"])
    if photographs and not graphs["int8"].is_file():
        images = [load_image(path) for path in list_images(photographs)[:8]]
        quantise(graphs["fp32"], graphs["int8"], at_network_size(images, model.frame_size))
    if encoder and not graphs["encoder"].is_file():
        _write_encoder(graphs["encoder"], size)
    if is_installed("openvino") and has_bfloat16():
        graphs["bf16"] = folder / f"{name}-{size}-bf16.xml"
        if not graphs["bf16"].is_file():
            write_openvino(graphs["fp32"], graphs["bf16"], "bf16")
    return graphs


class _Encoder(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = ImageEncoder().eval()

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        found = self.encoder(pixels.permute(0, 3, 1, 2).float())["embedding"]
        return found, found.amax((1, 2, 3)), found.amin((1, 2, 3))


def _write_encoder(path: Path, size: int) -> None:
    """MobileSAM's encoder alone, as it is published, with the names of inputs and outputs that a session asks for."""
    pixels = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    with torch.no_grad():
        program = torch.onnx.export(
            _Encoder(),
            (pixels,),
            input_names=["pixels"],
            output_names=["maps", "scores", "distances"],
            opset_version=20,
            dynamo=True,
        )
    assert program is not None
    program.save(path, external_data=False)


def measure(job: Job, *, busy: bool = False, python: Path = Path(sys.executable)) -> dict[str, Any]:
    """Runs a job in a process of its own; `busy`: beside another one that computes all the time.

    Raises:
        ConfigError: it failed.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(job.threads)}
    other = subprocess.Popen([sys.executable, "-c", BUSY]) if busy else None
    try:
        command = [str(python), "-m", "benchmarks.latency_job", job.to_json()]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    finally:
        if other is not None:
            other.kill()
            other.wait()
    if done.returncode:
        raise ConfigError(f"A measurement failed; its last words are:\n{done.stderr[-1500:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def jobs_of(name: str, size: int, threads: int, graphs: dict[str, Path], runs: int) -> Iterator[tuple[str, Job]]:
    """What is measured at one size: PyTorch first, then each runtime and precision that is here."""
    yield "torch eager fp32", Job("torch", model=name, size=size, threads=threads, runs=runs)
    for form, label in (("onnx", "ONNX Runtime"), ("openvino", "OpenVINO")):
        if not is_installed(form):
            continue
        for precision in ("fp32", "bf16", "int8"):
            graph = graphs.get(precision)
            if graph is None or (form == "onnx" and precision == "bf16"):
                continue
            yield f"{label} {precision}", Job(form, str(graph), "", size, threads, runs, precision)
    if "encoder" in graphs:
        yield ENCODER, Job("onnx", str(graphs["encoder"]), "", size, threads, runs)


def peers_of(size: int, threads: int, folder: Path, python: Path, runs: int) -> Iterator[tuple[str, Job]]:
    """The other methods at one size, in PyTorch and, where they can be converted, in OpenVINO."""
    for method, title in PEERS.items():
        yield f"{title}, torch eager fp32", Job("peer", model=method, size=size, threads=threads, runs=runs)
        graph = folder / f"{method}-{size}.xml"
        if not graph.is_file():
            try:
                measure(Job("convert", str(graph), method, size, threads, 0), python=python)
            except ConfigError as error:
                say(f"{title} is not converted: ...{str(error)[-200:]}")
                continue
        yield f"{title}, OpenVINO fp32", Job("openvino", str(graph), "", size, threads, runs)


def rates(threads: int, clock: str) -> dict[str, float]:
    """Floating-point or integer operations per second of a plain matrix product, by precision."""
    return {
        kind: _rate(Job("matmul", threads=threads, precision=kind, clock=clock)) for kind in ("fp32", "bf16", "int8")
    }


def _rate(job: Job) -> float:
    """Operations per second of the matrix product that a job measures."""
    return 2 * SIDE**3 / _median(measure(job))


def show_work(name: str, graphs: dict[int, Path]) -> None:
    """Prints what each type of node of a model's graphs, by size, has to do.

    Beside it stands how long one thread takes for that at the machine's own rates.
    """
    products = _rate(Job("matmul"))
    moved = 2 * COPIED / _median(measure(Job("copy")))  # read once, written once
    say(f"One thread: {products / 1e9:.0f} GFLOPS in fp32, {moved / 1e9:.1f} GB/s.")
    for size, graph in graphs.items():
        rows = [
            row
            | {"ms of multiply-adds": round(2e12 * row["gmacs"] / products, 1)}
            | {"ms of bytes": round(1e9 * row["mb"] / moved, 1)}
            for row in work_of(graph)
        ]
        _show(rows, f"{name} at {size} px")


@dataclass(frozen=True)
class Plan:
    """What is measured: a model at some sizes with some numbers of threads, alone and beside a busy process."""

    name: str
    sizes: Sequence[int]
    threads: Sequence[int]
    graphs: Path
    photographs: Path | None
    runs: int
    busy: bool
    encoder: bool
    clock: str  # see `Job`; beside a busy process it is the wall's in any case
    peers: Path | None  # Python of their environment
    only: Sequence[str] = ()  # backends besides PyTorch; none: all


def measure_all(plan: Plan) -> Iterator[dict[str, Any]]:
    """A row for each size, number of threads, load and backend."""
    made = {
        size: make_graphs(plan.graphs, plan.name, size, plan.photographs, encoder=plan.encoder) for size in plan.sizes
    }
    for count in plan.threads:
        rate = rates(count, plan.clock)
        for size in plan.sizes:
            flops = 2 * multiply_adds(at_size(plan.name, size))
            own = partial(jobs_of, plan.name, size, count, made[size], plan.runs)
            groups = [(own, Path(sys.executable))]
            if plan.peers is not None:
                groups.append((partial(peers_of, size, count, plan.graphs, plan.peers, plan.runs), plan.peers))
            torch_seconds: dict[bool, float] = {}
            for (jobs, python), busy in product(groups, (False, True) if plan.busy else (False,)):
                for label, job in jobs():
                    if plan.only and job.backend != "torch" and label not in plan.only:
                        continue
                    timed = dataclasses.replace(job, clock="wall" if busy else plan.clock)
                    try:
                        found = measure(timed, busy=busy, python=python)
                    except ConfigError as error:  # a runtime may end its process
                        if job.backend == "torch":
                            raise
                        say(f"{label} is not measured: {error}")
                        continue
                    seconds = _median(found) * (ENCODERS if label == ENCODER else 1)
                    row = {
                        "backend": f"{ENCODERS} x {label}" if label == ENCODER else label,
                        "size": size,
                        "threads": count,
                        "busy": busy,
                        "clock": timed.clock,
                        "ms": round(1000 * seconds, 1),
                        "times_torch": round(torch_seconds.setdefault(busy, seconds) / seconds, 2),
                    }
                    if label != ENCODER and python != plan.peers:
                        floor = flops / rate[job.precision]
                        row |= {
                            "of_floor": round(floor / seconds, 2),
                            "gmacs": round(flops / 2e9, 2),
                            "gflops_of_matmul": round(rate[job.precision] / 1e9, 1),
                        }
                    yield row


def measure_cuda(name: str, size: int, runs: int, device: str = "cuda") -> Iterator[dict[str, Any]]:
    """PyTorch in batches, in each way that `Acceleration` knows; rows with p50 and p95 of a batch."""
    for precision in ("fp32", "bf16", "compiled", "bf16 compiled"):
        for batch in CUDA_BATCHES:
            found = measure(Job("torch", "", name, size, os.cpu_count() or 1, runs, precision, batch, device))
            p50, p95 = np.percentile(found["seconds"], [50, 95])
            yield {
                "backend": f"torch {precision}",
                "size": size,
                "batch": batch,
                "p50_ms": round(1000 * float(p50), 2),
                "p95_ms": round(1000 * float(p95), 2),
                "photographs_per_second": round(batch / float(p50), 1),
                "peak_mb": found.get("peak_mb"),
            }


def _median(found: dict[str, Any]) -> float:
    return float(np.median(found["seconds"]))


def main(
    graphs: Annotated[Path, typer.Option(help="Folder that keeps exported graphs.")] = Path("artefacts/latency"),
    model: Annotated[str, typer.Option(help="Alias or folder.")] = "mvtec-bottle",
    size: Annotated[list[int] | None, typer.Option(help="Sides in px; default: 256, 384, 512, 1024.")] = None,
    threads: Annotated[list[int] | None, typer.Option(help="Numbers of threads; default: 1 and 2.")] = None,
    photographs: Annotated[Path | None, typer.Option(help="Good ones that int8 is fitted to; none: no int8.")] = None,
    runs: Annotated[int, typer.Option(min=1, help="Counted runs.")] = 5,
    busy: Annotated[bool, typer.Option("--busy", help="Beside one process that computes all the time, too.")] = False,
    clock: Annotated[str, typer.Option(help="wall, or cpu where other work runs on the machine.")] = "wall",
    peers: Annotated[bool, typer.Option(help="Other methods, too, where `make peers` was run.")] = True,
    encoder: Annotated[bool, typer.Option("--encoder", help="MobileSAM's encoder, which is in each stream.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="A backend as it is called here; default: all.")] = None,
    work: Annotated[bool, typer.Option("--work", help="Print multiply-adds and bytes of each type of node.")] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    output: Annotated[Path | None, typer.Option(help="JSON file to write; rows of other runs in it are kept.")] = None,
) -> None:
    """Measures latency."""
    sizes, counts = size or [256, 384, 512, 1024], threads or [1, 2]
    if work:
        show_work(model, {side: make_graphs(graphs, model, side)["fp32"] for side in sizes})
        return
    if device == "cuda":
        if not torch.cuda.is_available():
            raise ConfigError("There is no graphics card here; leave --device out to measure the processor.")
        found: Iterator[dict[str, Any]] = (row for side in sizes for row in measure_cuda(model, side, runs))
    else:
        others = PEERS_PYTHON if peers and PEERS_PYTHON.is_file() else None
        plan = Plan(model, sizes, counts, graphs, photographs, runs, busy, encoder, clock, others, only or ())
        found = measure_all(plan)
    before = json.loads(output.read_text(encoding="utf-8"))["runs"] if output and output.is_file() else []
    rows: list[dict[str, Any]] = []
    command = command_line("benchmarks/latency.py", sys.argv[1:])
    report = {"command": command, "date": datetime.date.today().isoformat(), "machine": machine(), "rows": rows}
    for row in found:
        rows.append(row)
        console.print(row)
        if output:  # after each row: a measurement takes long and may be cut off
            output.write_text(json.dumps({"runs": [*before, report]}, indent=1) + "\n", encoding="utf-8")
    _show(rows, "Latency")


def _show(rows: Sequence[dict[str, Any]], title: str) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(*names, title=title)
    for row in rows:
        table.add_row(*("-" if row.get(name) is None else str(row[name]) for name in names))
    console.print(table)


if __name__ == "__main__":
    with exit_on_error():
        typer.run(main)
