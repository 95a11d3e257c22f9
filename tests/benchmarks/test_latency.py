"""Latency: what a job measures, and the floor that it is compared with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.latency import at_size, jobs_of, measure, multiply_adds
from benchmarks.latency_job import Job, run
from stlm_hub.errors import ConfigError
from stlm_hub.stlm import STLM


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_matrix_product_is_the_floor(precision: str) -> None:
    found = run(Job(f"matmul {precision}", threads=1, runs=2, precision=precision))["seconds"]
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
