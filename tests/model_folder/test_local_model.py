"""Which files a model must have, and what a folder without them is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from stlm_hub.errors import WeightsError
from stlm_hub.model_folder.hub import resolve
from stlm_hub.model_folder.local_model import needed_files
from stlm_hub.model_folder.names import DECIDING
from stlm_hub.stlm import STLM

pytestmark = pytest.mark.usefixtures("toy_streams")


def test_a_folder_without_weights_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no model\.safetensors"):
        resolve(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(WeightsError, match=r"pickle \(pytorch_model\.bin\)"):
        STLM.from_pretrained(str(tmp_path))


def test_the_files_that_decide_are_known_from_the_config(toy_model: STLM, toy_memory_model: STLM) -> None:
    files = ["config.json", "model.safetensors", "familiarity.safetensors", "calibration.json"]
    assert needed_files(toy_model.config) == files
    assert sorted(needed_files(toy_memory_model.config)) == sorted([*files, "patch_memory.safetensors"])
    alone = needed_files(toy_memory_model.config.replace(streams=False))
    assert set(alone) == set(DECIDING) - {"model.safetensors", "region.safetensors"}
    assert set(needed_files(toy_memory_model.config.replace(region=True))) == set(DECIDING)
