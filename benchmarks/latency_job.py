"""One measurement of `benchmarks/latency.py`, in a process of its own: a job as JSON in, seconds as JSON out."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Job:
    """What is measured.

    Args:
        backend: "torch", "onnx", "openvino"; "matmul" and "copy" for the floor; "peer" for another method in PyTorch,
            "convert" to write its graph for OpenVINO.
        graph: file of an exported graph; "": none is needed.
        model: name of the model, for torch; of the method, for "peer" and "convert".
        size: side of the input in pixels.
        threads: that compute.
        runs: that are counted, after one that is not.
        precision: of the graph, or what follows "torch" in the name of an `Acceleration`, e.g. "bf16 compiled".
        batch: photographs at once.
        device: of torch.
        clock: "wall"; "cpu" is the processor time of all threads, which other work on the machine adds little to.
    """

    backend: str
    graph: str = ""
    model: str = ""
    size: int = 512
    threads: int = 1
    runs: int = 5
    precision: str = "fp32"
    batch: int = 1
    device: str = "cpu"
    clock: str = "wall"

    def to_json(self) -> str:
        """What the process takes."""
        return json.dumps(asdict(self))


SIDE = 2048
"""Of the square matrices whose product is the floor's measure."""
COPIED = 2**28
"""Bytes that are copied to measure how fast memory moves: more than any cache holds."""


def run(job: Job) -> dict[str, float | list[float]]:
    """Seconds of each counted run; on a graphics card its peak memory in MB, too."""
    makers = {"torch": _torch, "matmul": _matmul, "copy": _copy, "peer": _peer, "convert": _convert}
    act = makers.get(job.backend, _graph)(job)
    act()
    clock = time.process_time if job.clock == "cpu" else time.perf_counter
    seconds = []
    for _ in range(job.runs):
        started = clock()
        act()
        seconds.append(clock() - started)
    found: dict[str, float | list[float]] = {"seconds": seconds}
    if job.device == "cuda":
        import torch

        found["peak_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return found


def _pixels(job: Job) -> np.ndarray:
    shape = (job.batch, job.size, job.size, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def _torch(job: Job) -> Callable[[], object]:
    import torch

    from benchmarks.latency import at_size
    from stlm_hub.models.acceleration import Acceleration, loaded, look, placed

    torch.set_num_threads(job.threads)
    device = torch.device(job.device)
    model = placed(at_size(job.model, job.size).eval(), device)
    model.acceleration = Acceleration.of(f"torch {job.precision}".removesuffix(" fp32"))
    pixels = torch.from_numpy(_pixels(job)).permute(0, 3, 1, 2).contiguous()
    return lambda: look(model, loaded(pixels, device), model.judging.shown).distances.cpu()


def _peer(job: Job) -> Callable[[], object]:
    import torch

    from benchmarks.latency_peers import build

    torch.set_num_threads(job.threads)
    model, pixels = build(job.model, job.size), torch.from_numpy(_pixels(job))

    def act() -> object:
        with torch.inference_mode():
            return model(pixels)

    return act


def _convert(job: Job) -> Callable[[], object]:
    from benchmarks.latency_peers import write_openvino

    write_openvino(job.model, job.size, job.graph)
    return lambda: None


def _graph(job: Job) -> Callable[[], object]:
    from stlm_hub.runtime.sessions import open_session

    session = open_session(job.backend, Path(job.graph), job.precision, job.threads)
    pixels = _pixels(job)
    return lambda: session(pixels)


def _matmul(job: Job) -> Callable[[], object]:
    if job.precision == "int8":
        return _matmul_int8(job)
    import torch

    torch.set_num_threads(job.threads)
    dtype = torch.bfloat16 if job.precision == "bf16" else torch.float32
    a, b = torch.randn(SIDE, SIDE, dtype=dtype), torch.randn(SIDE, SIDE, dtype=dtype)
    return lambda: a @ b


def _copy(job: Job) -> Callable[[], object]:
    a = np.ones(COPIED, np.uint8)
    b = np.empty_like(a)
    return lambda: np.copyto(b, a)


def _matmul_int8(job: Job) -> Callable[[], object]:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = numpy_helper.from_array(rng.integers(-64, 64, (SIDE, SIDE), dtype=np.int8), "b")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [SIDE, SIDE])],
        [helper.make_tensor_value_info("c", TensorProto.INT32, [SIDE, SIDE])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    values = rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    return lambda: session.run(None, {"a": values})


if __name__ == "__main__":
    print(json.dumps(run(Job(**json.loads(sys.argv[1])))))
