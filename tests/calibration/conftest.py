"""What the tests of calibrations share: a model, good photographs, the folder of a model calibrated on them."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from drawn import judging_by, write_photographs
from recalibrated import OLD, RESULTS

from stlm_hub.stlm import STLM
from stlm_hub.training.recalibrate import recalibrate


@pytest.fixture(scope="module")
def trained(toy_model: STLM) -> STLM:
    """`toy_model` with a calibration, in float32: what is in memory is not what a float16 file holds."""
    return judging_by(copy.deepcopy(toy_model), calibration=OLD)


@pytest.fixture(scope="module")
def good_parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six photographs."""
    return write_photographs(tmp_path_factory.mktemp("good") / "parts", 6)


@pytest.fixture(scope="module")
def made(trained: STLM, good_parts: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `trained`, calibrated on `good_parts`."""
    output = tmp_path_factory.mktemp("models") / "line-2"
    returned = recalibrate(trained, good_parts, output, repo_id="me/line-2", results=RESULTS, false_alarm_rate=0.05)
    assert returned.judging == STLM.from_pretrained(output, device="cpu").judging
    return output
