"""Paths with [red], [/x] or :smile: in them are printed letter by letter, by every command."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from drawn import write_photographs

from stlm_hub.cli import demo as demo_module
from stlm_hub.cli.console import print_error, print_note, say
from stlm_hub.cli.demo import PART, demo
from stlm_hub.cli.references import without_references
from stlm_hub.stlm import STLM

Stlm = Callable[..., tuple[int, str, str]]
BRICK = Path(__file__).resolve().parents[2] / "model_cards" / "sample-brick"
pytestmark = pytest.mark.usefixtures("toy_streams")


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder whose path is full of markup: [/x] spans two names of it."""
    folder = tmp_path / "[red]:smile:[" / "x]"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def photograph(odd: Path) -> Path:
    [path] = write_photographs(odd, 1)
    return path.rename(odd / "[red]part:smile:.png")


def test_sentences_are_printed_as_they_are(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say(f"{odd} 1/2")
    print_error(str(odd))
    print_note(str(odd))
    assert capsys.readouterr() == (f"{odd} 1/2\n", f"Error: {odd}\nNote: {odd}\n")
    say("[green]styled[/] :smile:", markup=True)
    assert capsys.readouterr().out == "styled :smile:\n"


def test_predict(stlm: Stlm, odd: Path, photograph: Path, saved_toy: Path) -> None:
    code, out, _ = stlm("predict", photograph, odd / "none.png", "-m", saved_toy, "-o", odd / "panels")
    judged, unusable, _ = out.splitlines()
    [panel] = (odd / "panels").iterdir()
    assert code == 1 and judged.endswith(f"{photograph}  -> {panel}") and f"{odd / 'none.png'}" in unusable
    code, _, err = stlm("predict", photograph, "-m", odd / "none")
    assert code == 1 and str(odd / "none") in err


def test_references_that_are_not_judged(odd: Path, photograph: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [other] = write_photographs(odd / "more", 1)
    assert without_references([photograph, other], [photograph], quiet=False) == [other]
    assert capsys.readouterr().out == f"{photograph} is a reference and is not judged.\n"


def test_watch(stlm: Stlm, odd: Path, photograph: Path, saved_toy: Path) -> None:
    broken = odd / "[red]broken:smile:.png"
    broken.write_bytes(b"")
    os.utime(broken, (0, 0))  # nobody waits for the rest of an old file
    code, out, _ = stlm("watch", odd, "-m", saved_toy, "-o", odd / "out", "--once")
    assert code == 0 and f"  {photograph}\n" in out and f"{broken.name} is empty" in out
    assert out.endswith(f"2 rows are written to {odd / 'out'}.\n")


def test_score(stlm: Stlm, odd: Path, photograph: Path, saved_toy: Path) -> None:
    code, out, err = stlm("score", odd, "-m", saved_toy, "-o", odd / "rows", "--workers", "0")
    assert code == 0 and f"1 photograph has a row in {odd / 'rows'}." in out, err


def test_calibrate(stlm: Stlm, odd: Path, saved_toy: Path) -> None:
    folder = odd / "good"
    paths = write_photographs(folder, 4)
    (folder / "copy[red]:smile:.png").write_bytes(paths[0].read_bytes())
    code, out, _ = stlm("calibrate", folder, "-m", saved_toy, "-o", odd / "line-2")
    assert code == 0 and "copy[red]:smile:.png" in out and f"--model {odd / 'line-2'} --output panels" in out


def test_demo(
    odd: Path, photograph: Path, toy_model: STLM, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = odd / "samples" / PART / "test" / "[red]:smile:"
    kind.mkdir(parents=True)
    photograph.rename(kind / photograph.name)
    monkeypatch.setattr(demo_module.STLM, "from_pretrained", lambda alias: toy_model)
    [panel] = demo(odd)
    out = capsys.readouterr().out
    assert f"{kind.name}/{photograph.name}  -> {panel}\n" in out and f"Look at {odd / 'panels'}.\n" in out


def test_mask(stlm: Stlm, odd: Path, photograph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(mask=np.ones((70, 90), bool), predicted_iou=0.5)
    segment = "stlm_hub.zero_shot.segment"
    monkeypatch.setattr(f"{segment}.segment_anything", lambda: SimpleNamespace(embed=lambda image: None))
    monkeypatch.setattr(f"{segment}.segment_embedded", lambda embedded, click, outside: found)
    code, out, _ = stlm("mask", photograph, "--at", "1,1", "-o", odd / "mask.png")
    assert code == 0 and out.startswith(f"{odd / 'mask.png'} covers 100 % of")


def test_doctor(stlm: Stlm, odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(odd))
    monkeypatch.setenv("STLM_STARTING_WEIGHTS", str(odd / "none.pt"))
    _, out, _ = stlm("doctor")
    assert f"free for {odd}" in out and f"HF_HOME: {odd} can be written" in out and f"{odd / 'none.pt'}  -> " in out


def _accepted(*_: object, **__: object) -> Any:
    path = Path("[red]part:smile:.png")
    return SimpleNamespace(
        left_out=["[/x] is left out."],
        taken=[path],
        scores=[0.5],
        before=0.5,
        after=0.5,
        known_defects=[(str(path), 1)],
    )


def _trained(folder: Path, name: str, *, output: Path, observer: Any, **_: object) -> Path:
    observer.on_message(f"{folder} is read.")
    for name in ("config.json", "calibration.json"):
        shutil.copy(BRICK / name, output)
    return output


def _no_longer_whole(alias: str) -> Any:
    return SimpleNamespace(problems=[f"{alias} is gone."])


@dataclasses.dataclass
class Work:
    """A command whose work takes long: what it calls, what that answers here, what is printed then.

    ODD is the path, MODEL a model.
    """

    arguments: str
    calls: str
    answers: Callable[..., Any]
    printed: tuple[str, ...]


@pytest.mark.parametrize(
    "work",
    [
        Work("finetune ODD --name part -o ODD", "training.finetune.finetune", _trained,
             ("ODD is read.\n", "--model ODD --output panels\n", "Share it: stlm publish ODD --repo")),
        Work("accept ODD --model ODD", "training.feedback.accept", _accepted,
             ("[red]part:smile:.png scored", "[/x] is left out.\n", "defect [red]part:smile:.png", "--model ODD\n")),
        Work("undo --model ODD", "training.feedback.undo", lambda model: SimpleNamespace(
            rejected=["[/x].png"], threshold=0.5, known_defects=[("[red]:smile:", 0.1)]),
             ("[/x].png is no known defect any more.\n", "Known defect [red]:smile: scores 0.1000 and is missed.\n",)),
        Work("report MODEL --data ODD -o ODD", "evaluation.report.write_report",
             lambda model, name, data, output, **_: output, ("ODD is written, with pictures beside it.\n",)),
        Work("samples ODD --part brick", "samples.parts.write_samples", lambda folder, **_: folder,
             ("ODD is written.\n",)),
        Work("weights import ODD", "starting_weights.sources.import_weights", lambda path: path, ("ODD is ready.\n",)),
        Work("weights fetch", "starting_weights.sources.fetch_weights",
             lambda force, on_message: on_message("Getting [/x] :smile:"), ("Getting [/x] :smile:\n",)),
        Work("space build ODD", "model_folder.space.build", lambda folder, models: folder, ("ODD is written.\n",)),
        Work("zoo verify ODD", "model_folder.zoo_files.verify", _no_longer_whole, ("ODD is gone.\n",)),
        Work("zoo pull part", "model_folder.zoo_files.pull",
             lambda alias, force: SimpleNamespace(folder="[/x]:smile:"), ("part: [/x]:smile:\n",)),
        Work("publish ODD --repo a/b --dry-run", "model_folder.publish.dry_run",
             lambda folder, repo: {"[/x].png": 1234567},
             ("   1,234,567  [/x].png\n", "ODD can be published. 1 file, 1.2 MB, would be uploaded to a/b;")),
        Work("publish ODD --repo a/b", "model_folder.publish.publish",
             lambda folder, repo, **_: SimpleNamespace(url=folder, revision=1), ("ODD is published at revision 1.\n",)),
    ],
    ids=lambda work: " ".join(word for word in work.arguments.split()[:2] if word.islower()),
)  # fmt: skip
def test_what_takes_long(work: Work, stlm: Stlm, odd: Path, saved_toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"stlm_hub.{work.calls}", work.answers)
    names = {"ODD": str(odd), "MODEL": str(saved_toy)}
    _, out, err = stlm(*(names.get(word, word) for word in work.arguments.split()))
    for sentence in work.printed:
        assert sentence.replace("ODD", str(odd)) in out, err


def test_export(stlm: Stlm, odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    figures = {"photographs": 1, "anomalies": 1, "changed_verdicts": 0, "map_difference": 0.0, "drawn": True}
    parity = SimpleNamespace(**figures, seconds=0.1, torch_seconds=0.1)
    made = SimpleNamespace(backend="ONNX Runtime", facts=SimpleNamespace(parity=parity))
    monkeypatch.setattr("stlm_hub.export.export.export", lambda *_, **__: made)
    code, out, _ = stlm("export", "mvtec-bottle", "-o", odd)
    assert code == 0 and f"\n{odd} judges with ONNX Runtime." in out and out.endswith(f"--model {odd}\n")
