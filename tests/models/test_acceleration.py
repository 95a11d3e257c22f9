"""What changes the speed of PyTorch changes no verdict; on a processor the same code runs as on a graphics card."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from drawn import pixels, texture

from stlm_hub.errors import ConfigError
from stlm_hub.models import acceleration
from stlm_hub.models.acceleration import CUDA_GRAPHS, Acceleration, loaded, look, placed
from stlm_hub.stlm import STLM


def test_bf16_moves_maps_a_little_and_says_so(tiny_memory_model: STLM) -> None:
    model = copy.deepcopy(tiny_memory_model)
    expected = model.predict(texture(64, 64))
    model.acceleration = Acceleration(bf16=True)
    found = model.predict(texture(64, 64))
    assert (expected.backend, found.backend) == ("torch", "torch bf16")
    assert 0 < np.abs(found.anomaly_map - expected.anomaly_map).max() < 0.05
    assert found.score == pytest.approx(expected.score, abs=0.02)
    assert found.unfamiliarity == pytest.approx(expected.unfamiliarity, rel=0.05)


def test_distances_to_the_memory_stay_in_float32(tiny_memory_model: STLM) -> None:
    memory = tiny_memory_model.patch_memory
    assert memory is not None
    with torch.inference_mode():
        patches = memory.patches(pixels())
        expected = memory.distances(patches)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(memory.distances(patches), expected)


def test_channels_last_gives_the_same(tiny_memory_model: STLM) -> None:
    model = copy.deepcopy(tiny_memory_model)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    (first, second) = (look(one, pixels(n=2), ("combined",)) for one in (model, last))
    torch.testing.assert_close(second.maps["combined"].values, first.maps["combined"].values, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(second.distances, first.distances, atol=1e-4, rtol=1e-4)
    assert placed(model, torch.device("cpu")) is model


def test_pixels_arrive_as_float32() -> None:
    found = loaded(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8), torch.device("cpu"))
    assert found.dtype == torch.float32 and float(found.max()) == 255


def test_a_compiled_model_is_compiled_once(toy_memory_model: STLM, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def compile_(forward: Any, **options: Any) -> Any:
        asked.append(options)
        return forward

    monkeypatch.setattr(acceleration.torch, "compile", compile_)
    model = copy.deepcopy(toy_memory_model)
    expected = model.predict(texture(64, 64)).score
    model.acceleration = Acceleration(compiled=CUDA_GRAPHS)
    found = [model.predict(texture(64, 64)) for _ in range(2)]
    assert [prediction.score for prediction in found] == [expected] * 2 and found[0].backend == "torch compiled"
    assert asked == [{"mode": CUDA_GRAPHS, "dynamic": False}]
    dead = weakref.ref(model)
    del model, found
    gc.collect()
    assert dead() is None, "what was compiled keeps the model"


def test_a_backend_is_known_by_its_name() -> None:
    assert Acceleration.of("torch bf16 compiled") == Acceleration(True, CUDA_GRAPHS)
    with pytest.raises(ConfigError, match="There is no backend 'cuda'; choose one of"):
        Acceleration.of("cuda")
