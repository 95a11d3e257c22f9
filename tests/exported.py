"""An export of the toy model with a memory, made once for each module. Tests that change one copy it."""

from __future__ import annotations

from pathlib import Path

import pytest

from stlm_hub.export.export import export

pytest.importorskip("onnxscript", reason='pip install "stlm_hub[export]"')


@pytest.fixture(scope="module")
def exported(toy_streams: None, saved_memory_toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for ONNX Runtime in fp32."""
    folder = tmp_path_factory.mktemp("exports") / "onnx"
    export(saved_memory_toy, folder)
    return folder
