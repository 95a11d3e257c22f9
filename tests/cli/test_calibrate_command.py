"""`stlm calibrate`: a model folder with a threshold of its own, or a sentence."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn import texture, write_photographs
from PIL import Image
from recalibrated import RESULTS

from stlm_hub.calibration import outlines
from stlm_hub.files.fingerprint import file_sha256
from stlm_hub.model_folder import results as facts
from stlm_hub.model_folder.folder import write_judging
from stlm_hub.model_folder.results import FileFacts
from stlm_hub.models.stlm.judging import Judging
from stlm_hub.models.stlm.outline_gain import OutlineGain
from stlm_hub.stlm import STLM

Stlm = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.usefixtures("toy_streams")


@pytest.fixture
def model(saved_memory_toy: Path, tmp_path: Path) -> Path:
    """A model that knows how it was trained."""
    folder = shutil.copytree(saved_memory_toy, tmp_path / "trained")
    files = {"model.safetensors": FileFacts(file_sha256(folder / "model.safetensors"), 1)}
    facts.save(dataclasses.replace(RESULTS, files=files), folder / "results.json")
    return folder


def test_it_writes_a_model_with_a_threshold_of_its_own(stlm: Stlm, model: Path, tmp_path: Path) -> None:
    folder, output = tmp_path / "good", tmp_path / "line-2"
    write_photographs(folder, 5)
    (folder / "copy.png").write_bytes((folder / "part_0.png").read_bytes())
    noise = np.random.default_rng(0).integers(0, 2, (70, 90, 3), np.uint8)
    Image.fromarray(np.asarray(Image.open(folder / "part_1.png")) // 2 * 2 + noise).save(folder / "part_1_again.png")
    code, out, _ = stlm("calibrate", folder, "-m", model, "-o", output, "--false-alarm-rate", "0.2")
    assert code == 0
    calibration = STLM.from_pretrained(output, device="cpu").calibration
    assert calibration is not None
    assert (calibration.n, calibration.false_alarm_rate) == (5, 0.2) and calibration.threshold != 0.625
    assert "part_0.png is the same frame as copy.png and is left out." in out
    assert "part_1_again.png is the same frame as part_1.png and is left out." in out  # but for its noise
    assert (
        f"The threshold of the map combined is {calibration.threshold:.4f}, from 5 photographs; before, on other "
        "scales, it was 0.6250."
    ) in " ".join(out.split())
    assert f"stlm predict PHOTOGRAPHS --model {output} " in out and f"stlm publish {output} --repo ORG/line-2" in out
    results = facts.load(output / "results.json")
    assert results.provenance.weights_license == "cc-by-nc-sa-4.0" and results.maps["aggregation"].i_auroc == 0.9
    assert results.recalibration is not None and results.recalibration.alias == "mvtec-bottle"
    assert 'from_pretrained("your-name/line-2")' in (output / "README.md").read_text()


def test_it_takes_another_map(stlm: Stlm, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "by-cosine"
    write_photographs(tmp_path / "good", 4)
    code, out, _ = stlm("calibrate", tmp_path / "good", "-m", model, "-o", output, "--map", "cosine")
    judging = STLM.from_pretrained(output, device="cpu").judging
    assert code == 0 and judging.judge_by == "cosine"
    told = f"The threshold of the map without aggregation is {judging.threshold:.4f}, from 4 photographs"
    assert f"{told}; before, of another map, it was 0.6250." in " ".join(out.split())


def test_a_model_that_was_not_calibrated_says_so(stlm: Stlm, saved_toy: Path, tmp_path: Path) -> None:
    write_photographs(tmp_path / "good", 4)
    code, out, _ = stlm("calibrate", tmp_path / "good", "-m", saved_toy, "-o", tmp_path / "new")
    assert code == 0 and "from 4 photographs; before it was not calibrated." in " ".join(out.split())


def test_photographs_of_another_part_are_refused(stlm: Stlm, model: Path, tmp_path: Path) -> None:
    write_judging(model, Judging.load(model / "calibration.json").replace(familiarity_limits=(1e-3, 1e-3)))
    write_photographs(tmp_path / "good", 4)
    code, _, err = stlm("calibrate", tmp_path / "good", "-m", model, "-o", tmp_path / "m")
    assert code == 1 and "4 of 4 photographs do not look like those that the model learned from" in err
    assert not (tmp_path / "m").exists()


def test_it_refuses_in_a_sentence(stlm: Stlm, saved_toy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "good"
    write_photographs(folder, 3)
    calibrate = ("calibrate", folder, "-m", saved_toy, "-o")
    code, _, err = stlm(*calibrate, tmp_path / "m")
    assert code == 1 and "holds 3 photographs; calibration needs at least 4 different ones" in err
    for name in ("broken.png", "empty.png"):
        (folder / name).write_bytes(b"")
    code, _, err = stlm(*calibrate, tmp_path / "m")
    assert code == 1 and "2 of 5 files" in err and "broken.png" in err and "empty.png" in err
    write_photographs(tmp_path / "more", 4)
    code, _, err = stlm("calibrate", tmp_path / "more", "-m", saved_toy, "-o", saved_toy)
    assert code == 1 and "is the folder of the model itself" in err
    for name, sentence in (("memory", "no memory of normal patches"), ("heat", "must be one of")):
        code, _, err = stlm("calibrate", tmp_path / "more", "-m", saved_toy, "-o", tmp_path / "m", "--map", name)
        assert code == 1 and sentence in err, err
    assert not (tmp_path / "m").exists()


def test_results_of_other_weights_are_refused(stlm: Stlm, model: Path, tmp_path: Path) -> None:
    facts.save(RESULTS, model / "results.json")
    write_photographs(tmp_path / "good", 4)
    code, _, err = stlm("calibrate", tmp_path / "good", "-m", model, "-o", tmp_path / "m")
    assert code == 1 and "is of another model.safetensors" in err and not (tmp_path / "m").exists()


def test_the_depth_of_the_photographs_becomes_the_models(stlm: Stlm, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "good"
    folder.mkdir()
    for i in range(5):
        cv2.imwrite(str(folder / f"{i}.png"), texture(60, 70, seed=i)[..., ::-1].astype(np.uint16) << 4)
    code, out, _ = stlm("calibrate", folder, "-m", model, "-o", tmp_path / "line-2")
    made = STLM.from_pretrained(tmp_path / "line-2", device="cpu")
    assert code == 0 and made.judging.bits == 12 and "a camera of 12 bits" in " ".join(out.split())
    assert made.predict(folder / "3.png").score == made.predict(texture(60, 70, seed=3)).score
    for i in range(5):  # of the same part, in less light: the model goes on reading 12 bits
        cv2.imwrite(str(folder / f"{i}.png"), texture(60, 70, seed=20 + i)[..., ::-1].astype(np.uint16) << 2)
    code, out, _ = stlm("calibrate", folder, "-m", tmp_path / "line-2", "-o", tmp_path / "line-3")
    assert code == 0 and Judging.load(tmp_path / "line-3" / "calibration.json").bits == 12
    code, out, _ = stlm("calibrate", folder, "-m", tmp_path / "line-2", "-o", tmp_path / "line-4", "--bits", "10")
    assert code == 0 and Judging.load(tmp_path / "line-4" / "calibration.json").bits == 10


def test_outlines_are_tried_only_when_asked_for_and_the_choice_is_told(
    stlm: Stlm, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photographs(tmp_path / "good", 4)
    calibrate = ("calibrate", tmp_path / "good", "-m", model, "-o")
    monkeypatch.setattr(outlines, "segment_anything", lambda: None)
    monkeypatch.setattr(outlines, "refined", lambda prediction, sam: prediction)
    code, out, _ = stlm(*calibrate, tmp_path / "auto", "--refine", "auto")
    told = " ".join(out.split())
    assert code == 0 and "Segment Anything are tried on 16 pseudo anomalies" in told
    assert "gain +0.0 points of F1 on 16 pseudo anomalies (standard error 0.0)" in told
    judging = Judging.load(tmp_path / "auto" / "calibration.json")
    assert judging.refine is False and judging.refine_gain == OutlineGain(0.0, 0.0, 16)
    assert facts.load(tmp_path / "auto" / "results.json").provenance.commands[-1].options["refine"] == "auto"
    assert "gained +0.0 points" in (tmp_path / "auto" / "README.md").read_text()

    monkeypatch.setattr(outlines, "measured_gain", None)  # from here on nobody measures
    code, out, _ = stlm(*calibrate, tmp_path / "on", "--refine", "on")
    assert code == 0 and "as you asked" in " ".join(out.split())
    code, out, _ = stlm("calibrate", tmp_path / "good", "-m", tmp_path / "on", "-o", tmp_path / "kept")
    assert code == 0 and Judging.load(tmp_path / "kept" / "calibration.json").refine is True
    code, out, _ = stlm(
        "calibrate", tmp_path / "good", "-m", tmp_path / "on", "-o", tmp_path / "off", "--refine", "off"
    )
    assert code == 0 and "refine" not in (tmp_path / "off" / "calibration.json").read_text()
    code, _, err = stlm(*calibrate, tmp_path / "x", "--refine", "maybe")
    assert code == 1 and "refine must be one of" in err and not (tmp_path / "x").exists()
