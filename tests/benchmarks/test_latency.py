"""Latency: what a job measures, and the floor that it is compared with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import latency
from benchmarks.latency import PEERS, PEERS_PYTHON, at_size, jobs_of, main, measure, multiply_adds
from benchmarks.latency_job import Job, run
from benchmarks.latency_work import work_of
from stlm_hub.errors import ConfigError
from stlm_hub.stlm import STLM


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_a_matrix_product_is_the_floor(precision: str) -> None:
    found = run(Job("matmul", threads=1, runs=2, precision=precision))["seconds"]
    assert isinstance(found, list) and len(found) == 2 and min(found) > 0


def test_a_model_at_another_size_has_the_same_weights_and_more_to_do(saved_memory_model: Path) -> None:
    small, large = at_size(str(saved_memory_model), 64), at_size(str(saved_memory_model), 128)
    assert (small.frame_size, large.frame_size) == ((64, 64), (128, 128)) and small.judging == large.judging
    # Four times the pixels, but attention counts whole windows, which a grid of 64 px does not fill.
    assert 2 < multiply_adds(large) / multiply_adds(small) < 4.5
    assert isinstance(small, STLM) and not small.training


def test_pytorch_is_timed_in_batches_too(saved_memory_model: Path) -> None:
    job = Job("torch", model=str(saved_memory_model), size=64, runs=2, batch=2, precision="bf16")
    seconds = measure(job)["seconds"]
    assert len(seconds) == 2 and all(second > 0 for second in seconds)
    assert Job(**json.loads(job.to_json())) == job


def test_a_job_that_fails_says_why() -> None:
    with pytest.raises(ConfigError, match="A measurement failed"):
        measure(Job("onnx", "missing.onnx"))


def test_every_runtime_that_is_here_is_measured_after_pytorch() -> None:
    graphs = {kind: Path(f"{kind}.onnx") for kind in ("fp32", "int8", "encoder")}
    jobs = dict(jobs_of("mvtec-bottle", 256, 2, graphs, 3))
    assert next(iter(jobs)) == "torch eager fp32"
    assert {"ONNX Runtime fp32", "ONNX Runtime int8", "MobileSAM encoder, ONNX Runtime fp32"} <= jobs.keys()
    assert all(job.threads == 2 and job.runs == 3 and job.size == 256 for job in jobs.values())


def test_one_backend_alone_is_measured_beside_pytorch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    graphs = {kind: tmp_path / f"{kind}.onnx" for kind in ("fp32", "int8")}
    monkeypatch.setattr(latency, "make_graphs", lambda *_, **__: graphs)
    monkeypatch.setattr(latency, "rates", lambda *_: dict.fromkeys(("fp32", "int8"), 1e9))
    monkeypatch.setattr(latency, "at_size", lambda *_: None)
    monkeypatch.setattr(latency, "multiply_adds", lambda _: 1)
    monkeypatch.setattr(latency, "measure", lambda *_, **__: {"seconds": [0.5]})
    plan = latency.Plan("toy", [64], [1], tmp_path, None, 1, False, False, "wall", None, ["ONNX Runtime int8"])
    assert [row["backend"] for row in latency.measure_all(plan)] == ["torch eager fp32", "ONNX Runtime int8"]


def test_batches_on_a_graphics_card_have_percentiles(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Job] = []

    def measured(job: Job) -> dict[str, Any]:
        asked.append(job)
        return {"seconds": [0.1] * 9 + [0.3], "peak_mb": 5.0}

    monkeypatch.setattr(latency, "measure", measured)
    rows = list(latency.measure_cuda("mvtec-bottle", 256, 10))
    assert [job.batch for job in asked] == [1, 8, 32] * 4 and {job.device for job in asked} == {"cuda"}
    assert {job.precision for job in asked} == {"fp32", "bf16", "compiled", "bf16 compiled"}
    assert rows[1]["photographs_per_second"] == 80 and rows[0]["p50_ms"] == 100 and rows[0]["p95_ms"] > 150
    assert all(row["peak_mb"] == 5 for row in rows)


def test_where_there_is_no_graphics_card_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency.torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="There is no graphics card here"):
        main(device="cuda")


def test_the_work_of_a_graph_is_counted(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "kernel"], ["seen"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["seen"], ["y"]),
        ],
        "graph",
        [helper.make_tensor_value_info("x", floats, ["batch", 512, 8, 8])],
        [helper.make_tensor_value_info("y", floats, ["batch", 512, 8, 8])],
        [onnx.numpy_helper.from_array(np.zeros((512, 512, 3, 3), np.float32), "kernel")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "x.onnx")
    conv, relu = work_of(tmp_path / "x.onnx")
    assert (conv["node"], conv["nodes"], relu["node"]) == ("Conv", 1, "Relu")
    assert conv["gmacs"] == 0.151 and relu["gmacs"] == 0
    assert (conv["mb"], relu["mb"]) == (9.7, 0.3)


def test_sizes_that_are_a_multiple_of_the_batch_are_counted(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    weights = {"windows": np.array([-1, 64, 64]), "weight": np.zeros((64, 64), np.float32)}
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["x", "windows"], ["seen"]),
            helper.make_node("MatMul", ["seen", "weight"], ["y"]),
        ],
        "graph",
        [helper.make_tensor_value_info("x", floats, ["batch", 100, 64, 64])],
        [helper.make_tensor_value_info("y", floats, ["100*batch", 64, 64])],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
        value_info=[helper.make_tensor_value_info("seen", floats, ["100*batch", 64, 64])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "x.onnx")
    product, reshape = work_of(tmp_path / "x.onnx")
    assert (product["node"], product["gmacs"], product["mb"]) == ("MatMul", 0.026, 3.3)
    assert (reshape["node"], reshape["mb"]) == ("Reshape", 3.3)


@pytest.mark.skipif(not PEERS_PYTHON.exists(), reason="the peers' environment is missing; make it with: make peers")
@pytest.mark.parametrize("method", PEERS)
def test_other_methods_are_timed(method: str) -> None:
    (second,) = measure(Job("peer", model=method, size=256, runs=1), python=PEERS_PYTHON)["seconds"]
    assert second > 0
