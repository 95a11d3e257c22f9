"""The Protocol that everything which judges photographs satisfies."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from drawn import texture

from stlm_hub.models.stlm.judging import Calibration
from stlm_hub.predict.detector import Detector
from stlm_hub.predict.prediction import Prediction
from stlm_hub.stlm import STLM

ROOT = Path(__file__).parents[2]
MEMBERS = [name for name in vars(Detector) if not name.startswith("_")]


def test_a_model_is_used_as_a_detector(tiny_model: STLM, tiny_memory_model: STLM) -> None:
    for model, name, threshold in ((tiny_model, "test-bottle", None), (tiny_memory_model, "test-screw", 0.625)):
        detector: Detector = model
        assert detector.name == name and detector.input_size == (64, 64)
        calibration = detector.calibration
        assert calibration is None if threshold is None else isinstance(calibration, Calibration)
        assert calibration is None or calibration.threshold == threshold
        one, many = detector.predict(texture(40, 50)), detector.predict([texture(40, 50)], threshold=0.25)
        assert isinstance(one, Prediction) and one.threshold == (threshold or 0.5)
        assert [type(prediction) for prediction in many] == [Prediction] and many[0].threshold == 0.25
        np.testing.assert_array_equal(one.anomaly_map, many[0].anomaly_map)


@pytest.mark.parametrize("member", MEMBERS)
def test_a_model_has_every_member_and_asks_for_nothing_more(member: str, tiny_model: STLM) -> None:
    assert hasattr(tiny_model, member)
    wanted = inspect.getattr_static(Detector, member)
    found = inspect.getattr_static(STLM, member, None)
    if isinstance(wanted, property):
        if found is not None:  # "name" is a plain attribute
            assert isinstance(found, property) and found.fget is not None and wanted.fget is not None
            assert inspect.signature(found.fget) == inspect.signature(wanted.fget)
    else:
        ours, theirs = inspect.signature(found).parameters, inspect.signature(wanted).parameters
        assert {name: ours[name] for name in theirs} == dict(theirs)
        more = [parameter for name, parameter in ours.items() if name not in theirs]
        assert all(one.kind is one.KEYWORD_ONLY and one.default is None for one in more)


def test_the_protocol_asks_for_these_members_alone() -> None:
    assert set(MEMBERS) == {"name", "input_size", "calibration", "predict", "predict_many"}


@pytest.mark.slow
def test_the_type_checker_takes_whatever_judges_for_a_detector(tmp_path: Path) -> None:
    """And a path for none: an ignored error that there is not would be an error."""
    (tmp_path / "check.py").write_text(
        "from pathlib import Path\n"
        "from stlm_hub.predict.detector import Detector\n"
        "from stlm_hub.runtime.detector import ExportedModel\n"
        "from stlm_hub.stlm import STLM\n"
        "from stlm_hub.zero_shot.detector import ZeroShot\n"
        "from stlm_hub.zero_shot.references import References\n"
        "def detectors(one: STLM, two: ExportedModel, three: ZeroShot, four: References) -> list[Detector]:\n"
        "    return [one, two, three, four]\n"
        "path: Detector = Path()  # type: ignore[assignment]\n"
    )
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", str(tmp_path / "check.py")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
