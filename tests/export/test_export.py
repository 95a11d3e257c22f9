"""Exports judge as the model does, are written whole or not at all, and refuse what cannot be."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import texture, write_photographs

from stlm_hub.errors import ConfigError, DataError
from stlm_hub.export import export as module
from stlm_hub.export import parity
from stlm_hub.export.export import check_runs, export
from stlm_hub.runtime.detector import ExportedModel
from stlm_hub.runtime.facts import load_facts
from stlm_hub.stlm import STLM

pytestmark = pytest.mark.usefixtures("toy_streams")
PICTURES = [texture(64, 64, 1), texture(100, 80, 2), texture(40, 50, 3)]


def same(exported: ExportedModel, model: STLM, largest: float) -> None:
    """Whether both say the same of photographs that shrink, grow and keep their size, alone and as a batch."""
    expected = [model.predict(image) for image in PICTURES]
    for found in ([exported.predict(image) for image in PICTURES], exported.predict(PICTURES)):
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.verdict == theirs.verdict and ours.backend == exported.backend != theirs.backend == "torch"
            assert ours.score == pytest.approx(theirs.score, abs=largest)
            assert ours.unfamiliarity == pytest.approx(theirs.unfamiliarity, rel=1e-3)
            np.testing.assert_allclose(ours.anomaly_map, theirs.anomaly_map, atol=largest)
            assert (ours.threshold, ours.review_threshold) == (theirs.threshold, theirs.review_threshold)


def test_an_export_for_onnx_runtime_says_the_same(exported: Path, saved_memory_toy: Path) -> None:
    model = ExportedModel.from_folder(exported)
    assert (model.name, model.input_size, model.backend) == ("test-screw", (64, 64), "onnxruntime fp32")
    assert model.calibration is not None and model.calibration.threshold == 0.625
    same(model, STLM.from_pretrained(saved_memory_toy, device="cpu"), 1e-4)


def test_an_export_for_openvino_says_the_same(saved_memory_toy: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason='pip install "stlm_hub[openvino]"')
    export(saved_memory_toy, tmp_path / "ov", form="openvino")
    assert {path.name for path in (tmp_path / "ov").iterdir()} >= {"model.xml", "model.bin", "calibration.json"}
    same(ExportedModel.from_folder(tmp_path / "ov"), STLM.from_pretrained(saved_memory_toy, device="cpu"), 1e-4)


def test_a_model_without_memory_and_with_a_drawn_map_of_its_own(saved_toy: Path, tmp_path: Path) -> None:
    model = STLM.from_pretrained(saved_toy, device="cpu")
    model.judging = model.judging.replace(draw_by="cosine")
    model.save_pretrained(tmp_path / "model")
    export(tmp_path / "model", tmp_path / "out")
    same(ExportedModel.from_folder(tmp_path / "out"), STLM.from_pretrained(tmp_path / "model", device="cpu"), 1e-4)


@pytest.mark.parametrize("judge_by", ["combined", "memory"])
def test_a_minimum_area_bounds_scores_as_it_does_in_pytorch(
    judge_by: str, saved_memory_toy: Path, tmp_path: Path
) -> None:
    model = STLM.from_pretrained(saved_memory_toy, device="cpu")
    before = [model.predict(image).score for image in PICTURES]
    model.judging = model.judging.replace(judge_by=judge_by, minimum_area=600)
    model.save_pretrained(tmp_path / "model")
    export(tmp_path / "model", tmp_path / "out")
    model = STLM.from_pretrained(tmp_path / "model", device="cpu")
    assert [model.predict(image).score for image in PICTURES] != pytest.approx(before, abs=1e-3), "nothing is bounded"
    same(ExportedModel.from_folder(tmp_path / "out"), model, 1e-3)


def test_a_region_of_fewer_values_than_a_score_takes_is_scored_as_in_pytorch(
    toy_memory_model: STLM, tmp_path: Path
) -> None:
    judging = toy_memory_model.judging.replace(minimum_area=30, score_top_k=1000)
    model = STLM(toy_memory_model.config.replace(region=True), judging)
    model.load_state_dict(toy_memory_model.state_dict(), strict=False)
    assert model.region is not None
    model.region.inside.zero_()
    model.region.inside[20:40, 10:30] = 1
    model.eval().save_pretrained(tmp_path / "model")
    export(tmp_path / "model", tmp_path / "out")
    same(ExportedModel.from_folder(tmp_path / "out"), STLM.from_pretrained(tmp_path / "model", device="cpu"), 1e-3)


def test_results_say_what_was_compared(exported: Path) -> None:
    facts = load_facts(exported)
    found = facts.parity
    assert (found.photographs, found.drawn, found.changed_verdicts) == (12, True, 0)
    assert 0 < found.anomalies <= 12 and found.map_difference < 1e-3 and found.seconds > 0
    assert set(facts.files) == {"model.onnx", "config.json", "calibration.json"}
    assert {"config.json", "calibration.json", "model.safetensors", "patch_memory.safetensors"} <= set(facts.source)
    assert {"stlm_hub", "torch", "onnx", "onnxruntime"} == set(facts.versions)


def test_int8_is_fitted_to_photographs_and_measured(
    saved_memory_toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photographs(tmp_path / "good", 24)
    monkeypatch.setattr(parity, "LARGEST_LOSS", 0.1)  # a toy ranks by chance
    fitted: list[int] = []
    quantise = module.quantise
    monkeypatch.setattr(module, "quantise", lambda *args: (fitted.append(len(args[2])), quantise(*args)))
    made = export(saved_memory_toy, tmp_path / "int8", precision="int8", photographs=tmp_path / "good")
    assert made.backend == "onnxruntime int8" and not made.facts.parity.drawn
    assert fitted == [12] and made.facts.parity.photographs == 12, "int8 is fitted to some and compared on the others"
    assert made.facts.parity.map_difference > 0, "nothing was rounded"
    assert 0 <= made.predict(PICTURES[0]).score <= 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"form": "tflite"}, ConfigError, "format must be one of"),
        ({"precision": "fp8"}, ConfigError, "precision must be one of"),
        ({"precision": "int8"}, ConfigError, "give a folder of them with --photographs"),
        ({"precision": "bf16"}, ConfigError, "does not compute in bf16"),
    ],
)
def test_what_cannot_be_exported_is_a_sentence(
    options: dict[str, Any], error: type[Exception], message: str, saved_memory_toy: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        export(saved_memory_toy, tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_runtime_that_ends_its_process_is_a_sentence(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_runs(exported / "model.onnx", "onnx", "fp32", (64, 64))
    monkeypatch.setattr(module, "TRIAL", "import os; os.abort()")
    with pytest.raises(ConfigError, match="cannot run this model in bf16 on this processor; export in fp32 or int8"):
        check_runs(exported / "model.onnx", "onnx", "bf16", (64, 64))


def test_places_that_are_taken_are_left_alone(exported: Path, saved_memory_toy: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    for name, message in (("file", "is a file"), ("folder", "already holds something else")):
        with pytest.raises(ConfigError, match=message):
            export(saved_memory_toy, tmp_path / name)
    few = write_photographs(tmp_path / "few", 2)[0].parent
    with pytest.raises(DataError, match="holds 2 photographs"):
        export(saved_memory_toy, tmp_path / "out", photographs=few)
    shutil.copytree(exported, tmp_path / "earlier")
    (tmp_path / "earlier" / "good").mkdir()  # photographs, say
    with pytest.raises(ConfigError, match="holds good beside an export; name another folder"):
        export(saved_memory_toy, tmp_path / "earlier")
    assert (tmp_path / "earlier" / "good").is_dir()
    assert not (tmp_path / "out").exists() and (tmp_path / "folder" / "notes.txt").read_text() == "mine"


def test_an_export_that_judges_otherwise_is_refused_and_leaves_the_earlier_one(
    exported: Path, saved_memory_toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = shutil.copytree(exported, tmp_path / "out")
    write = module.write_onnx

    def other(model: STLM, path: Path) -> None:
        damaged = STLM.from_pretrained(saved_memory_toy, device="cpu")
        assert damaged.patch_memory is not None
        damaged.patch_memory.entries.mul_(1.5)
        write(damaged, path)

    monkeypatch.setattr(module, "write_onnx", other)
    before = (earlier / "results.json").read_bytes()
    with pytest.raises(ConfigError, match=r"a map differs by 0\.\d+, over 0\.001.*Nothing was written"):
        export(saved_memory_toy, earlier)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (earlier / "results.json").read_bytes() == before
    ExportedModel.from_folder(earlier).predict(PICTURES[0])


def test_a_new_export_replaces_the_earlier_one(exported: Path, saved_memory_toy: Path, tmp_path: Path) -> None:
    place = shutil.copytree(exported, tmp_path / "out")
    data = json.loads((place / "results.json").read_text())
    (place / "results.json").write_text(json.dumps(data | {"name": "older"}))
    assert ExportedModel.from_folder(place).name == "older"
    export(saved_memory_toy, place)
    assert ExportedModel.from_folder(place).name == "test-screw" and len(list(tmp_path.iterdir())) == 1


def test_distances_stay_in_fp32_where_streams_compute_in_bf16(
    saved_memory_toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = pytest.importorskip("stlm_hub.runtime.sessions")
    openvino = pytest.importorskip("openvino", reason='pip install "stlm_hub[openvino]"')
    monkeypatch.setattr(sessions, "has_bfloat16", lambda: True)  # others widen it: the graph is the same
    monkeypatch.setattr(parity, "LARGEST_LOSS", 0.1)  # a toy ranks by chance
    with pytest.raises(ConfigError, match="bf16 is less exact, so it is tried on photographs of good parts"):
        export(saved_memory_toy, tmp_path / "ov", form="openvino", precision="bf16")
    good = write_photographs(tmp_path / "good", 4)[0].parent
    made = export(saved_memory_toy, tmp_path / "ov", form="openvino", precision="bf16", photographs=good)
    assert made.backend == "openvino bf16"
    graph = tmp_path / "ov" / "model.xml"
    precise = precise_layers(graph)
    names = {layer.attrib["name"] for layer in layers(graph) if layer.attrib["type"] == "Convolution"}
    assert {"distances", "maps"} <= precise and names & precise and names - precise
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return
    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    computed = {
        facts["runtimePrecision"]
        for facts in (op.get_rt_info() for op in compiled.get_runtime_model().get_ops())
        if facts["layerType"] == "Convolution"
    }
    assert computed == {"f32", "bf16"}, "OpenVINO does not obey the mark"


def layers(graph: Path) -> list[ET.Element]:
    return ET.parse(graph).getroot().findall("layers/layer")


def precise_layers(graph: Path) -> set[str]:
    """Names of the layers of an OpenVINO graph that keep their precision."""
    return {
        layer.attrib["name"] for layer in layers(graph) if layer.find("rt_info/attribute[@name='precise']") is not None
    }
