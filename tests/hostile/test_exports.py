"""Exported folders of strangers: checked before a runtime opens them, and what a graph says is checked, too."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from drawn import texture
from exported import exported
from hostile.mutations import sentence
from onnx import TensorProto, helper, numpy_helper

import stlm_hub
from stlm_hub.errors import STLMError
from stlm_hub.runtime import facts as export_facts
from stlm_hub.runtime.detector import ExportedModel

__all__ = ["exported"]
pytestmark = pytest.mark.usefixtures("toy_streams")

SHAPES = {"maps": (1, 1, 64, 64), "scores": (1, 1), "distances": (1, 2)}


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    return shutil.copytree(exported, tmp_path / "export")


def vouched(folder: Path, **changes: object) -> None:
    """results.json with the digests of the files as they are now: whoever makes an export can write that."""
    data = json.loads((folder / "results.json").read_text())
    data["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in data["files"]}
    (folder / "results.json").write_text(json.dumps(data | changes))


def graph(folder: Path, **outputs: np.ndarray) -> None:
    """A graph that says the same of every photograph."""
    values = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()} | outputs
    nodes = [helper.make_node("Identity", [f"own_{name}"], [name]) for name in values]
    nodes.append(helper.make_node("Identity", ["pixels"], ["seen"]))
    made = helper.make_graph(
        nodes,
        "hostile",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["b", "h", "w", "c"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in values]
        + [helper.make_tensor_value_info("seen", TensorProto.UINT8, None)],
        [numpy_helper.from_array(value, f"own_{name}") for name, value in values.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    vouched(folder)


def why(action: Callable[[], object]) -> str:
    with pytest.raises(STLMError) as error:
        action()
    return sentence(error.value)


def test_a_graph_of_the_right_form_judges(folder: Path) -> None:
    graph(folder)
    assert ExportedModel.from_folder(folder).predict(texture(64, 64)).verdict == "pass"


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ({"maps": np.zeros((1, 1, 32, 32), np.float32)}, "does not fit"),
        ({"maps": np.zeros((1, 2, 64, 64), np.float32)}, "does not fit"),
        ({"maps": np.zeros(0, np.float32)}, "does not fit"),
        ({"scores": np.zeros((1, 0), np.float32)}, "does not fit"),
        ({"scores": np.zeros((2, 1), np.float32)}, "does not fit"),
        ({"distances": np.zeros((1, 3), np.float32)}, "does not fit"),
        ({"scores": np.full((1, 1), np.nan, np.float32)}, "not finite"),
        ({"scores": np.full((1, 1), -np.inf, np.float32)}, "not finite"),
        ({"distances": np.full((1, 2), np.nan, np.float32)}, "not finite"),
    ],
)
def test_what_a_graph_says_is_checked(outputs: dict[str, np.ndarray], words: str, folder: Path) -> None:
    graph(folder, **outputs)
    model = ExportedModel.from_folder(folder)
    assert words in why(lambda: model.predict(texture(64, 64)))


def test_a_graph_with_other_inputs_is_a_sentence(folder: Path) -> None:
    made = onnx.load(folder / "model.onnx")
    made.graph.input[0].name = "others"
    onnx.save(made, folder / "model.onnx")
    vouched(folder)
    assert "onnxruntime cannot" in why(lambda: ExportedModel.from_folder(folder).predict(texture(64, 64)))


def test_tensors_of_a_graph_are_not_read_from_other_folders(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(4 * 64 * 64))
    (folder / "link").symlink_to(tmp_path / "secret")
    graph(folder)
    made = onnx.load(folder / "model.onnx")
    (maps,) = (tensor for tensor in made.graph.initializer if tensor.name == "own_maps")
    maps.ClearField("raw_data")
    maps.data_location = TensorProto.EXTERNAL
    where = maps.external_data.add(key="location")
    for where.value in ("../secret", str(tmp_path / "secret"), "link", "/dev/zero"):
        (folder / "model.onnx").write_bytes(made.SerializeToString())
        vouched(folder)
        assert "onnxruntime cannot read" in why(lambda: ExportedModel.from_folder(folder))


@pytest.mark.parametrize(
    "changes",
    [
        {"files": {}},
        {"files": {"config.json": "0" * 64}},
        {"files": {"../../etc/passwd": "0" * 64}},
        {"source": {"../../../dev/zero": "0" * 64}},
        {"source": {"model.onnx": "0" * 64}},
        {"input_size": [128, 64]},
        {"format": "openvino"},
        {"format": "../onnx"},
    ],
    ids=str,
)
def test_facts_that_vouch_for_other_files_are_refused(changes: dict[str, object], folder: Path) -> None:
    vouched(folder, **changes)
    why(lambda: ExportedModel.from_folder(folder))


def test_files_are_ordinary_ones_of_a_bounded_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "model.onnx").rename(folder / "kept")
    os.mkfifo(folder / "model.onnx")
    why(lambda: stlm_hub.load(folder))
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to("/dev/zero")
    why(lambda: stlm_hub.load(folder))
    (folder / "model.onnx").unlink()
    with (folder / "model.onnx").open("wb") as file:
        file.truncate(1 << 40)  # a sparse terabyte, which nobody hashes
    assert "larger than any export" in why(lambda: ExportedModel.from_folder(folder))
    monkeypatch.setattr(export_facts, "MAX_WEIGHT_BYTES", 10)
    (folder / "model.onnx").unlink()
    (folder / "kept").rename(folder / "model.onnx")
    assert "larger than any export" in why(lambda: ExportedModel.from_folder(folder))


def test_every_kind_of_damage_of_a_graph_is_a_sentence(folder: Path) -> None:
    data = (folder / "model.onnx").read_bytes()
    rng = np.random.default_rng(0)
    for end in (0, 1, 100, len(data) // 2, len(data) - 1):
        (folder / "model.onnx").write_bytes(data[:end])
        vouched(folder)
        why(lambda: ExportedModel.from_folder(folder))
    for _ in range(20):
        changed = bytearray(data)
        for at in rng.integers(0, len(data), 20):
            changed[at] ^= 1 << rng.integers(8)
        (folder / "model.onnx").write_bytes(changed)
        vouched(folder)
        try:
            ExportedModel.from_folder(folder).predict(texture(64, 64))
        except STLMError as error:
            sentence(error)
