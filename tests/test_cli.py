"""The command line: what is printed, and how errors end. Training and prediction are tried in test_finetune.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from stlm_hub import zoo
from stlm_hub.cli import main


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
    for command in ("predict", "finetune", "samples", "publish", "weights", "zoo"):
        assert command in out


def test_zoo_list_shows_the_figures_of_zoo_json(stlm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    code, out, _ = stlm("zoo", "list")
    assert code == 0
    for entry in zoo.list_models():
        row = next(line for line in out.splitlines() if entry.alias in line)
        assert f"{100 * entry.metrics['aupro']:.1f}" in row and entry.license in row


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
