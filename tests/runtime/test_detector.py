"""Exported models as detectors: loading, bad folders, and what stands beside a model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn import texture, write_photographs

import stlm_hub
from stlm_hub import detectors
from stlm_hub.errors import ConfigError, HubError
from stlm_hub.model_folder import hub
from stlm_hub.model_folder.folder import write_judging
from stlm_hub.model_folder.local_model import LocalModel
from stlm_hub.predict.detector import Detector
from stlm_hub.predict.prediction import Unusable
from stlm_hub.runtime import beside, sessions
from stlm_hub.runtime.detector import ExportedModel
from stlm_hub.runtime.facts import load_facts
from stlm_hub.stlm import STLM

pytestmark = pytest.mark.usefixtures("toy_streams")


def faster(export: Path) -> None:
    """Says that it was much faster than PyTorch, whatever the clock said of a toy."""
    data = json.loads((export / "results.json").read_text())
    data["parity"] |= {"seconds": 0.1, "torch_seconds": 1.0}
    (export / "results.json").write_text(json.dumps(data))


@pytest.fixture
def model_with_export(exported: Path, saved_memory_toy: Path, tmp_path: Path) -> Path:
    folder = shutil.copytree(saved_memory_toy, tmp_path / "test-screw")
    shutil.copytree(exported, folder / "onnx")
    faster(folder / "onnx")
    return folder


def test_an_export_is_a_detector(exported: Path) -> None:
    detector: Detector = stlm_hub.load(exported)
    assert isinstance(detector, ExportedModel)
    prediction = detector.predict(texture(40, 50), threshold=0.25)
    assert prediction.threshold == 0.25 and prediction.anomaly_map.shape == (40, 50)
    assert json.loads(str(prediction))["backend"] == "onnxruntime fp32"
    with pytest.raises(ConfigError, match="threshold"):
        detector.predict(texture(40, 50), threshold=2)


def test_many_photographs_have_one_answer_each(exported: Path, tmp_path: Path) -> None:
    paths = [*write_photographs(tmp_path / "photos", 3), tmp_path / "missing.png"]
    model = ExportedModel.from_folder(exported)
    answers = list(model.predict_many(paths))
    assert isinstance(answers[3], Unusable)
    for path, answer in zip(paths[:3], answers[:3], strict=True):
        np.testing.assert_allclose(answer.anomaly_map, model.predict(path).anomaly_map, atol=1e-5)


def test_from_pretrained_takes_an_export_too(exported: Path) -> None:
    assert STLM.from_pretrained(exported).predict(texture(40, 50)).backend == "onnxruntime fp32"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"device": "cuda"}, ConfigError, "is an export for processors and does not run on .cuda."),
        ({"backend": "torch"}, ConfigError, "one backend of its own, not .torch.; leave it out"),
        ({"revision": "main"}, HubError, "is a folder and has no revision .main."),
    ],
)
def test_what_an_export_cannot_do_is_refused_however_it_is_loaded(
    options: dict[str, Any], error: type[Exception], message: str, exported: Path
) -> None:
    with pytest.raises(error, match=message):
        STLM.from_pretrained(exported, **options)
    if "device" in options:
        with pytest.raises(error, match=message):
            stlm_hub.load(exported, **options)
    assert STLM.from_pretrained(exported, device="cpu").predict(texture(40, 50)).backend == "onnxruntime fp32"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "calibration.json").write_text("{}"), "was changed since it was exported"),
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
        (lambda folder: (folder / "results.json").unlink(), "results.json"),
        (lambda folder: (folder / "results.json").write_text("{"), "not valid JSON"),
        (lambda folder: (folder / "results.json").write_text('{"format_version": 1}'), "lacks the field"),
        (lambda folder: (folder / "model.onnx").unlink(), "is not an exported model"),
    ],
)
def test_a_broken_export_is_a_sentence(
    change: Callable[[Path], object], message: str, exported: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(exported, tmp_path / "broken")
    change(folder)
    with pytest.raises(ConfigError, match=message):
        ExportedModel.from_folder(folder)


def test_a_graph_that_no_runtime_reads_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ConfigError, match=r"onnxruntime cannot read .*export the model again"):
        sessions.open_session("onnx", tmp_path / "model.onnx")


def test_a_runtime_that_is_missing_is_named(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'needs onnxruntime.*pip install "stlm_hub\[runtime\]"'):
        ExportedModel.from_folder(exported)


def test_a_model_with_an_export_in_its_folder_judges_with_it(
    model_with_export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = STLM.from_pretrained(model_with_export, device="cpu")
    plain = STLM.from_pretrained(model_with_export, device="cpu", backend="torch")
    image = texture(70, 90)
    ours, theirs = model.predict(image), plain.predict(image)
    assert (ours.backend, theirs.backend) == ("onnxruntime fp32", "torch")
    assert ours.score == pytest.approx(theirs.score, abs=1e-4)
    (many,) = model.predict_many([image])
    assert many.backend == "onnxruntime fp32"
    assert stlm_hub.load(model_with_export).predict(image).backend == "onnxruntime fp32"
    # Exports judge on processors, which is what "cpu" asks for; another device is PyTorch's.
    assert isinstance(stlm_hub.load(model_with_export, device="cpu"), ExportedModel)
    monkeypatch.setattr(STLM, "from_pretrained", lambda name, device, backend: ("in PyTorch", device))
    assert stlm_hub.load(model_with_export, device="cuda") == ("in PyTorch", "cuda")


def test_a_model_that_is_loaded_without_gradients_judges_with_its_export(model_with_export: Path) -> None:
    with torch.inference_mode():
        model = STLM.from_pretrained(model_with_export, device="cpu")
        assert model.predict(texture(70, 90)).backend == "onnxruntime fp32"


def test_another_depth_of_files_changes_nothing_that_is_computed(model_with_export: Path) -> None:
    model = STLM.from_pretrained(model_with_export, device="cpu")
    model.judging = model.judging.replace(bits=12)
    assert model.predict(texture(70, 90)).backend == "onnxruntime fp32"


def test_on_a_machine_with_a_graphics_card_pytorch_judges_unless_the_processor_is_asked_for(
    model_with_export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detectors, "which", lambda name: "/usr/bin/nvidia-smi")
    assert isinstance(stlm_hub.load(model_with_export), ExportedModel), "a driver is no card that can be used"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert isinstance(stlm_hub.load(model_with_export, device="cpu"), ExportedModel)
    monkeypatch.setattr(STLM, "from_pretrained", lambda name, device, backend: ("in PyTorch", device))
    assert stlm_hub.load(model_with_export) == ("in PyTorch", None)
    assert detectors.judges_on_graphics_card(model_with_export, None)
    assert not detectors.judges_on_graphics_card(model_with_export / "onnx", None), "an export keeps to processors"


def test_a_backend_of_pytorch_is_taken_instead_of_an_export(model_with_export: Path) -> None:
    for backend in ("torch", "torch bf16"):
        assert stlm_hub.load(model_with_export, backend=backend).predict(texture(70, 90)).backend == backend
    with pytest.raises(ConfigError, match="There is no backend 'cuda'; choose one of"):
        stlm_hub.load(model_with_export, backend="cuda")
    with pytest.raises(ConfigError, match="is an export, which has one backend of its own"):
        stlm_hub.load(model_with_export / "onnx", backend="torch")


def test_an_export_of_a_downloaded_model_computes_with_as_many_threads_as_are_asked_for(
    model_with_export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "resolve", lambda name: LocalModel(model_with_export, "org/part", None, {}))
    opened: list[tuple[Path, int | None]] = []
    monkeypatch.setattr(ExportedModel, "from_folder", lambda folder, threads: opened.append((folder, threads)))
    monkeypatch.setattr(STLM, "from_pretrained", lambda name, device, backend: "in PyTorch")
    stlm_hub.load("org/part", threads=3)
    assert opened == [(model_with_export / "onnx", 3)]
    assert detectors.judging_folder("org/part") == model_with_export / "onnx"


def test_a_model_that_was_changed_in_memory_judges_with_torch(model_with_export: Path) -> None:
    image = texture(70, 90)
    model = STLM.from_pretrained(model_with_export, device="cpu")
    model.judging = model.judging.replace(judge_by="memory")
    assert model.predict(image).backend == "torch"
    model = STLM.from_pretrained(model_with_export, device="cpu")
    assert model.patch_memory is not None
    model.patch_memory.entries.mul_(1.5)
    assert model.predict(image).backend == "torch"


def test_an_export_of_a_model_that_was_changed_since_is_refused(model_with_export: Path) -> None:
    judging = load_judging(model_with_export)
    write_judging(model_with_export, judging.replace(score_top_k=7))
    with pytest.raises(ConfigError, match="the model was changed since"):
        ExportedModel.from_folder(model_with_export / "onnx")
    assert beside.fastest(model_with_export) is None
    assert STLM.from_pretrained(model_with_export, device="cpu").predict(texture(70, 90)).backend == "torch"


def load_judging(folder: Path) -> stlm_hub.models.stlm.judging.Judging:
    from stlm_hub.models.stlm.judging import Judging

    return Judging.load(folder / "calibration.json")


def test_an_export_that_was_slower_than_torch_is_not_preferred(model_with_export: Path) -> None:
    data = json.loads((model_with_export / "onnx" / "results.json").read_text())
    data["parity"] |= {"seconds": 2.0}
    (model_with_export / "onnx" / "results.json").write_text(json.dumps(data))
    assert load_facts(model_with_export / "onnx").speedup == 0.5
    assert beside.exports_of(model_with_export) == []


def test_loading_and_judging_import_no_torch(exported: Path) -> None:
    script = (
        "import sys\n"
        "for name in ('torch', 'torchvision', 'timm', 'scipy', 'safetensors', 'huggingface_hub', 'pydantic'):\n"
        "    sys.modules[name] = None\n"
        "import numpy, stlm_hub\n"
        f"model = stlm_hub.load({str(exported)!r})\n"
        "prediction = model.predict(numpy.zeros((40, 50, 3), 'uint8'))\n"
        "assert prediction.panel().ndim == 3\n"
        "print(prediction.backend)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "onnxruntime fp32"


def test_a_line_is_watched_without_torch(exported: Path, tmp_path: Path) -> None:
    write_photographs(tmp_path / "photos", 2)
    command = ["watch", str(tmp_path / "photos"), "-m", str(exported), "-o", str(tmp_path / "rows"), "--once"]
    command += ["--rejects", str(tmp_path / "rejects"), "--threshold", "0"]
    script = (
        "import sys\n"
        "for name in ('torch', 'torchvision', 'timm', 'scipy', 'safetensors', 'huggingface_hub'):\n"
        "    sys.modules[name] = None\n"
        f"sys.argv = ['stlm', *{command!r}]\n"
        "from stlm_hub.cli.main import main\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0 and "2 rows are written" in done.stdout, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "rows" / "verdicts.jsonl").read_text().splitlines()]
    assert [row["error"] for row in rows] == [None, None] and all(Path(row["picture"]).is_file() for row in rows)


def test_an_alias_with_a_typing_error_is_refused_before_torch_is_imported() -> None:
    script = (
        "import sys\nsys.modules['torch'] = None\nimport stlm_hub\n"
        "try:\n    stlm_hub.load('mvtec-botle')\nexcept stlm_hub.STLMError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "Did you mean mvtec-bottle" in done.stdout, done.stderr
    with pytest.raises(HubError, match="Did you mean mvtec-bottle"):
        stlm_hub.load("mvtec-botle")


def test_without_pytorch_a_folder_that_is_not_there_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectors, "find_spec", lambda name: None)
    with pytest.raises(stlm_hub.STLMError, match=r"There is no folder exported/botle here.*needs PyTorch: pip install"):
        stlm_hub.load("exported/botle")


def test_what_is_no_model_is_the_loaders_to_say(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(stlm_hub.STLMError, match=r"no model\.safetensors"):
        stlm_hub.load(tmp_path / "empty")
