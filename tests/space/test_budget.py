"""How much work a model may be, and that it is known before anything is downloaded, loaded or trained."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
import torch
from hub_server import HubServer
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.page_process import Page
from stlm_hub.errors import ConfigError
from stlm_hub.model_folder import zoo
from stlm_hub.models.stlm.config import NetworkConfig, PatchMemoryConfig, STLMConfig
from stlm_hub.models.stlm.judging import Judging
from stlm_hub.stlm import STLM
from stlm_hub.training.options import LEVELS, Options
from stlm_page import budget, your_part_tab
from stlm_page.budget import check_budget, work_of
from stlm_page.models import Models

pytestmark = pytest.mark.timeout(300)

WIDE: dict[str, Any] = {
    "feature_levels": LEVELS,
    "aggregation_channels": 512,
    "aggregation_dilations": tuple(range(1, 9)),
    "aggregation_input": "concat",
}


def config_of(memory: PatchMemoryConfig | None = None, **network: Any) -> STLMConfig:
    return STLMConfig(NetworkConfig(**network), memory)


HOSTILE = [
    config_of(input_size=(2048, 2048), **WIDE),
    config_of(input_size=(2048, 2048)),
    config_of(input_size=(1024, 1024), **WIDE),
    config_of(PatchMemoryConfig(65536, 152), input_size=(2048 - 64, 2048 - 64), feature_levels=LEVELS),
]


@pytest.mark.parametrize(
    ("changes", "memory"),
    [
        ({}, None),
        ({"feature_levels": LEVELS}, None),
        ({"feature_levels": LEVELS}, PatchMemoryConfig()),
        ({"feature_levels": LEVELS}, PatchMemoryConfig(65536, 128)),
        ({"feature_levels": LEVELS}, PatchMemoryConfig(4096, 288, "mobile_sam")),
        ({"aggregation_dilations": (6, 12, 18), "aggregation_input": "subtraction", "decoders": "separate"}, None),
        (WIDE, None),
    ],
)
def test_the_work_is_about_what_pytorch_counts(changes: dict[str, Any], memory: PatchMemoryConfig | None) -> None:
    config = config_of(memory, input_size=(256, 256), **changes)
    model = STLM(config, Judging()).eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model.raw(torch.zeros(1, 3, 256, 256), ("aggregation", "memory") if memory else ("aggregation",))
    assert work_of(config) == pytest.approx(counter.get_total_flops() / 2e9, rel=0.3)


def test_the_zoo_fits_and_so_does_all_that_visitors_can_make() -> None:
    for entry in zoo.list_models():
        folder = zoo.checkout_folder(entry.alias)
        if folder is not None:
            check_budget(STLMConfig.load(folder / "config.json"))
    for size in your_part_tab.SIZES:
        check_budget(Options(size=size).model("my-part", (size, size)))
    check_budget(STLMConfig())  # the paper's
    check_budget(Options(size=1024).model("my-part", (1024, 1024)))


@pytest.mark.parametrize("config", HOSTILE)
def test_too_much_work_is_refused_in_a_sentence(config: STLMConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ConfigError, match=r"takes [\d,]+ billion multiplications .* lends at most 200\. Choose"
    ) as raised:
        check_budget(config)
    assert str(raised.value).endswith("`stlm predict`.")
    monkeypatch.setattr(budget, "MAX_WORK", 10**6)
    check_budget(config)


def test_a_folder_is_refused_before_its_weights_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "config.json").write_text(json.dumps(config_of(input_size=(2048, 2048)).to_dict()))
    (tmp_path / "big" / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setenv("STLM_ZOO_DIR", str(tmp_path))
    models = Models()
    for name in ("big", models.add_own(tmp_path / "big")):
        with pytest.raises(ConfigError, match="billion multiplications"):
            models.get(name)


@pytest.mark.parametrize("config", HOSTILE)
def test_weights_of_a_model_that_is_too_much_work_are_not_downloaded(
    page: Page, hub: HubServer, config: STLMConfig
) -> None:
    """The first took 8 GB and minutes for one photograph of 64 px."""
    name = f"someone/huge-{HOSTILE.index(config)}"
    hub.put(
        name,
        {
            "config.json": json.dumps(config.to_dict()).encode(),
            "calibration.json": json.dumps(Judging().to_dict()).encode(),
            "model.safetensors": b"x" * 100,
        },
    )
    answer = page.event("describe", [name])
    assert "billion multiplications" in answer["output"]["error"]
    asked = [request for request in hub.requests if name in request]
    assert any("config.json" in request for request in asked)
    assert not any("model.safetensors" in request for request in asked)


def test_a_training_whose_model_would_be_too_much_work_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MAX_WORK", 20)
    monkeypatch.setattr(your_part_tab, "finetune", lambda *_, **__: pytest.fail("it was trained"))
    visitor: Any = SimpleNamespace(session_hash="x")
    with pytest.raises(gr.Error, match="billion multiplications"):
        list(
            your_part_tab.train([], "my-part", 1, "Number of steps", 1, 1, 512, "any way", "everywhere", None, visitor)
        )
