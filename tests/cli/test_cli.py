"""The command line: what is printed, and how errors end. Training is tried in tests/training/test_finetune.py."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from stlm_hub.model_folder import zoo

Stlm = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.usefixtures("toy_streams")


def test_help_names_every_command(stlm: Stlm) -> None:
    code, out, _ = stlm("--help")
    assert code == 0
    for command in ("predict", "finetune", "calibrate", "accept", "reject", "undo", "report", "samples", "publish"):
        assert command in out
    assert all(group in out for group in ("weights", "zoo", "space"))


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("predict", ("--model", "--output", "--threshold", "--review", "--json", "--device")),
        ("finetune", ("--name", "--steps", "--memory-entries", "--backbone", "--rotation", "--camera", "--weights")),
        ("calibrate", ("--model", "--output", "--false-alarm-rate", "--map")),
        ("publish", ("--repo", "--private", "--tag", "--token")),
    ],
)
def test_help_names_the_options(
    command: str, options: tuple[str, ...], stlm: Stlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    code, out, _ = stlm(command, "--help")
    assert code == 0 and all(option in out for option in options)


def test_help_keeps_what_stands_in_brackets_elsewhere(stlm: Stlm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert "mqtt://user@host:port/topic" in stlm("watch", "--help")[1]  # [user@] was taken for a style


def test_a_finished_model_says_what_it_rejects_and_what_to_do_next(stlm: Stlm, monkeypatch: pytest.MonkeyPatch) -> None:
    made = zoo.checkout_folder("sample-brick")
    assert made is not None
    monkeypatch.setattr("stlm_hub.training.finetune.finetune", lambda *_, **__: made)
    code, out, _ = stlm("finetune", "good", "--name", "part")
    promise, *steps = out.splitlines()
    assert code == 0 and re.match(r"It rejects from a score of 0\.\d{4} on\. At most [\d.]+ % of good parts", promise)
    assert steps[0].endswith(str(made / "README.md"))
    assert "stlm predict" in steps[1] and "stlm publish" in steps[2]


def test_zoo_list_shows_the_figures_of_zoo_json(stlm: Stlm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    code, out, _ = stlm("zoo", "list")
    assert code == 0
    for entry in zoo.list_models():
        row = next(line for line in out.splitlines() if entry.alias in line)
        assert f"{100 * entry.metrics['aupro']:.1f}" in row and entry.license in row
        assert ("MVTec AD*" in row) == (entry.alias in ("mvtec-grid", "mvtec-toothbrush"))
    assert "* Not on the data set's own split" in out


def test_zoo_verify_tells_whole_from_altered(stlm: Stlm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = stlm("zoo", "verify", "sample-brick")
    assert code == 0 and "is whole" in out and "36.8 MB" in out
    source = zoo.checkout_folder("sample-brick")
    assert source is not None
    altered = shutil.copytree(source, tmp_path / "sample-brick")
    weights = bytearray((source / "model.safetensors").read_bytes())
    weights[-1000] ^= 1
    (altered / "model.safetensors").write_bytes(weights)
    monkeypatch.setenv("STLM_ZOO_DIR", str(tmp_path))
    code, out, _ = stlm("zoo", "verify", "sample-brick")
    assert code == 1 and "model.safetensors has SHA-256" in out and "is whole" not in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("predict", "x.png", "-m", "sample-brik"), "Did you mean sample-brick"),
        (("predict", "x.png", "-m", "nowhere/at/all"), "There is no folder nowhere/at/all"),
        (("predict", ".", "-m", "MODEL"), "There are no photographs in these folders"),
        (("predict", "x.png", "-m", "MODEL", "--threshold", "2"), "threshold must be a number from 0 to 1"),
        (("predict", "x.png", "-m", "MODEL", "--device", "abacus"), '"abacus" cannot be used here'),
        (("finetune", "nowhere", "--name", "part"), "nowhere is not a folder"),
        (("finetune", "nowhere", "--name", "part", "--size", "100"), "multiple of 64"),
        (("finetune", "nowhere", "--name", "part", "--backbone", "plain"), "patch_memory backbone must be one of"),
        (("finetune", "nowhere", "--name", "part", "--memory-entries", "-1"), "patch_memory entries must be"),
        (("finetune", "nowhere", "--name", "part", "--camera", "dim"), "camera must be one of fixed, normal, rough"),
        (("finetune", "nowhere", "--name", "part", "--steps", "0", "--memory-entries", "0"), "nothing to judge by"),
        (("predict", "x.png", "-m", "MODEL", "--review", "2"), "threshold must be a number from 0 to 1"),
        (("calibrate", "nowhere", "-m", "MODEL", "-o", "out"), "nowhere is not a folder"),
        (("report", "sample-brik", "--data", "nowhere"), "Did you mean sample-brick"),
        (("report", "MODEL", "--data", "nowhere"), "nowhere/test is missing; pass --data"),
        (("publish", "nowhere", "--repo", "a/b"), "There is no folder nowhere"),
        (("weights", "import", "nowhere.pt"), "nowhere.pt"),
        (("zoo", "pull", "mvtec-botle"), 'There is no model "mvtec-botle"'),
        (("zoo", "verify", "mvtec-botle"), 'There is no model "mvtec-botle"'),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_errors_end_in_a_sentence_without_a_traceback(
    arguments: tuple[str, ...],
    sentence: str,
    stlm: Stlm,
    saved_toy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = stlm(*(str(saved_toy) if word == "MODEL" else word for word in arguments))
    assert code == 1
    assert err.startswith("Error: ") and sentence in err
    assert "Traceback" not in err + out
    assert list(tmp_path.iterdir()) == []


def test_markup_in_a_file_name_is_printed_as_it_is(stlm: Stlm) -> None:
    _, _, err = stlm("finetune", "[bold]parts[/bold]", "--name", "part")
    assert "[bold]parts[/bold] is not a folder" in err


def test_samples_refuse_to_write_over_photographs(stlm: Stlm, tmp_path: Path) -> None:
    assert stlm("samples", tmp_path, "--part", "gravel", "--size", "64")[0] == 0
    assert len(list((tmp_path / "gravel" / "train" / "good").glob("*.png"))) == 120
    code, _, err = stlm("samples", tmp_path, "--part", "gravel", "--size", "64")
    assert code == 1 and "gravel" in err
