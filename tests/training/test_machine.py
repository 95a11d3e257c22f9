from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from stlm_hub.stlm import STLM
from stlm_hub.training.machine import measure_latency

WAIT = 0.05  # seconds, as if others had the processor


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_of_one_thread_only_what_it_computes_counts(
    toy_model: STLM, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photograph = tmp_path / "part.png"
    Image.new("RGB", (64, 64)).save(photograph)
    monkeypatch.setattr(toy_model, "predict", lambda image, refine: time.sleep(WAIT))
    found = measure_latency(toy_model, [photograph])
    assert found.threads == threads
    assert (found.milliseconds_per_image < 1000 * WAIT / 2) == (threads == 1)
