"""The command line: what is printed, and how errors end. Training and prediction are tried in test_finetune.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stlm_hub import STLM
from stlm_hub.cli.main import main
from stlm_hub.model_folder import zoo


@pytest.fixture
def stlm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs `stlm ...` in this process; gives exit code, output, errors."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["stlm", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


def test_help_names_every_command(stlm) -> None:
    code, out, _ = stlm("--help")
    assert code == 0
    for command in ("predict", "finetune", "calibrate", "report", "samples", "publish", "weights", "zoo", "space"):
        assert command in out


def test_zoo_list_shows_the_figures_of_zoo_json(stlm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    code, out, _ = stlm("zoo", "list")
    assert code == 0
    for entry in zoo.list_models():
        row = next(line for line in out.splitlines() if entry.alias in line)
        assert f"{100 * entry.metrics['aupro']:.1f}" in row and entry.license in row
        assert ("MVTec AD*" in row) == (entry.alias in ("mvtec-grid", "mvtec-toothbrush"))
    assert "* Not on the data set's own split" in out


def test_zoo_verify_tells_whole_from_altered(stlm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = stlm("zoo", "verify", "sample-brick")
    assert code == 0 and "is whole" in out
    source = zoo.checkout_folder("sample-brick")
    assert source is not None
    altered = tmp_path / "sample-brick"
    altered.mkdir()
    (altered / "config.json").write_bytes((source / "config.json").read_bytes())
    weights = bytearray((source / "model.safetensors").read_bytes())
    weights[-1000] ^= 1
    (altered / "model.safetensors").write_bytes(weights)
    monkeypatch.setenv("STLM_ZOO_DIR", str(tmp_path))
    code, out, _ = stlm("zoo", "verify", "sample-brick")
    assert code == 1 and "SHA-256" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("predict", "x.png", "-m", "sample-brik"), "Did you mean sample-brick"),
        (("predict", "x.png", "-m", "nowhere/at/all"), "There is no folder nowhere/at/all"),
        (("finetune", "nowhere", "--name", "part"), "nowhere is not a folder"),
        (("finetune", "nowhere", "--name", "part", "--size", "100"), "multiple of 64"),
        (("calibrate", "nowhere", "-m", "sample-brick", "-o", "out"), "nowhere is not a folder"),
        (("report", "sample-brik", "--data", "nowhere"), "Did you mean sample-brick"),
        (("report", "sample-brick", "--data", "nowhere"), "nowhere/test is missing; pass --data"),
        (("publish", "nowhere", "--repo", "a/b"), "There is no folder nowhere"),
        (("weights", "import", "nowhere.pt"), "nowhere.pt"),
        (("zoo", "pull", "mvtec-botle"), 'There is no model "mvtec-botle"'),
    ],
)
def test_errors_end_in_a_sentence_without_a_traceback(stlm, arguments: tuple[str, ...], sentence: str) -> None:
    code, out, err = stlm(*arguments)
    assert code == 1
    assert err.startswith("Error: ") and sentence in err
    assert "Traceback" not in err + out


def test_markup_in_a_file_name_is_printed_as_it_is(stlm) -> None:
    _, _, err = stlm("finetune", "[bold]parts[/bold]", "--name", "part")
    assert "[bold]parts[/bold] is not a folder" in err


def test_samples_refuse_to_write_over_photographs(stlm, tmp_path: Path) -> None:
    assert stlm("samples", tmp_path, "--part", "gravel", "--size", "64")[0] == 0
    assert len(list((tmp_path / "gravel" / "train" / "good").glob("*.png"))) == 120
    code, _, err = stlm("samples", tmp_path, "--part", "gravel", "--size", "64")
    assert code == 1 and "gravel" in err


def photographs(folder: Path, n: int) -> Path:
    folder.mkdir()
    for i in range(n):
        pixels = np.random.default_rng(i).integers(0, 256, (9, 9, 3), np.uint8)
        Image.fromarray(pixels).resize((120, 120), Image.Resampling.BICUBIC).save(folder / f"part_{i}.png")
    return folder


def test_calibrate_writes_a_model_with_a_threshold_of_its_own(stlm, tmp_path: Path) -> None:
    folder, output = photographs(tmp_path / "good", 5), tmp_path / "line-2"
    (folder / "copy.png").write_bytes((folder / "part_0.png").read_bytes())
    code, out, _ = stlm("calibrate", folder, "-m", "sample-brick", "-o", output, "--false-alarm-rate", "0.2")
    assert code == 0
    calibration = STLM.from_pretrained(output, device="cpu").config.calibration
    before = STLM.from_pretrained("sample-brick", device="cpu").config.calibration
    assert calibration is not None and before is not None
    assert (calibration.n, calibration.false_alarm_rate) == (5, 0.2) and calibration.threshold != before.threshold
    assert "part_0.png is the same photograph as copy.png" in out
    assert f"is {calibration.threshold:.4f}, from 5 photographs; before it was {before.threshold:.4f}." in out
    assert f"stlm predict PHOTO --model {output} " in out and f"stlm publish {output} --repo ORG/line-2" in out
    results = json.loads((output / "results.json").read_text())
    assert results["weights_license"] == "apache-2.0" and results["recalibration"]["before"]["alias"] == "sample-brick"
    assert (
        results["metrics"]["aupro"] > 0.9
        and 'from_pretrained("your-name/line-2")' in (output / "README.md").read_text()
    )


def test_calibrate_refuses_in_a_sentence(stlm, saved_model: Path, tmp_path: Path) -> None:
    folder = photographs(tmp_path / "good", 3)
    calibrate = ("calibrate", folder, "-m", saved_model, "-o")
    code, _, err = stlm(*calibrate, tmp_path / "m")
    assert code == 1 and "holds 3 photographs; calibration needs at least 4 different ones" in err
    for name in ("broken.png", "empty.png"):
        (folder / name).write_bytes(b"")
    code, _, err = stlm(*calibrate, tmp_path / "m")
    assert code == 1 and "2 of 5 files" in err and "broken.png" in err and "empty.png" in err
    code, _, err = stlm("calibrate", photographs(tmp_path / "more", 4), "-m", saved_model, "-o", saved_model)
    assert code == 1 and "is the folder of the model itself" in err
    for name, sentence in (("memory", "no memory of normal patches"), ("heat", "must be one of")):
        code, _, err = stlm("calibrate", tmp_path / "more", "-m", saved_model, "-o", tmp_path / "m", "--map", name)
        assert code == 1 and sentence in err, err
    assert not (tmp_path / "m").exists()


def test_calibrate_takes_another_map(stlm, saved_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "by-cosine"
    code, _, _ = stlm(
        "calibrate", photographs(tmp_path / "good", 4), "-m", saved_model, "-o", output, "--map", "cosine"
    )
    assert code == 0 and STLM.from_pretrained(output, device="cpu").config.anomaly_map == "cosine"
