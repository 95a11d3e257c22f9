"""The command that results.json keeps makes the model again: it holds every option that is not its default."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from drawn import texture
from PIL import Image
from typer.core import TyperGroup

from stlm_hub.cli.main import app
from stlm_hub.model_folder.results import load
from stlm_hub.models.stlm.judging import Judging
from stlm_hub.pseudo_anomalies.nuisance import CAMERAS
from stlm_hub.training import finetune as module
from stlm_hub.training.job import Job
from stlm_hub.training.observer import Observer

Stlm = Callable[..., tuple[int, str, str]]
MASKS = ("region", "ignore")
FINETUNE: dict[str, str] = {
    "steps": "3",
    "size": "128",
    "tiles": "none",
    "region": "FILE",
    "ignore": "FILE",
    "minimum-area": "5.0",
    "camera": "rough",
    "careful": "",
    "rotation": "quarter",
    "false-alarm-rate": "0.05",
    "seed": "7",
    "memory-entries": "50",
    "backbone": "mobile_sam",
    "leave-out": "part_1.png",
    "bits": "12",
    "refine": "on",
    "textures": "DIR",
    "weights": "FILE",
}
CALIBRATE: dict[str, str] = {
    "false-alarm-rate": "0.05",
    "careful": "",
    "map": "memory",
    "draw": "aggregation",
    "region": "FILE",
    "ignore": "FILE",
    "minimum-area": "5.0",
    "bits": "12",
    "refine": "on",
}
ELSEWHERE = {"help", "name", "model", "output", "device"}
"""Options that say what is made of what, and where; these are recorded anyhow, or decide nothing."""


def options_of(command: str) -> set[str]:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    parameters = group.commands[command].params
    return {max(one.opts, key=len).removeprefix("--") for one in parameters if one.param_type_name == "option"}


@pytest.mark.parametrize(("command", "values"), [("finetune", FINETUNE), ("calibrate", CALIBRATE)])
def test_each_option_is_tried_here(command: str, values: dict[str, str]) -> None:
    assert options_of(command) - ELSEWHERE == set(values)


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """Photographs of 16 bits, a mask, and a file of weights."""
    good, mask = tmp_path / "good", tmp_path / "mask.png"
    good.mkdir()
    for number in range(10):
        pixels = texture(70, 90, number)[..., 0].astype(np.uint16) << 4
        Image.fromarray(pixels).save(good / f"part_{number}.png")
    Image.fromarray(np.repeat(np.repeat(np.uint8([[0, 255]]), 70, 0), 45, 1)).save(mask)
    return {"DIR": good, "FILE": mask}


def words(values: dict[str, str], places: dict[str, Path], without: str) -> list[str]:
    """Options as a user gives them."""
    found = []
    for option, value in values.items():
        if option != without:
            found += [f"--{option}", *([str(places.get(value, value))] if value else [])]
    return found


def check(line: str, values: dict[str, str], without: str) -> None:
    told = shlex.split(line)
    for option, value in values.items():
        assert (f"--{option}" in told) == (option != without), line
        if value and option != without:
            assert told[told.index(f"--{option}") + 1] == value, line


@pytest.mark.parametrize("without", MASKS)
def test_finetune(
    without: str,
    stlm: Stlm,
    places: dict[str, Path],
    saved_memory_toy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs: list[Job] = []

    def make(job: Job, observer: Observer) -> None:
        """Some model, for the command reads its threshold."""
        jobs.append(job)
        shutil.copytree(saved_memory_toy, job.output, dirs_exist_ok=True)

    monkeypatch.setattr(module, "run", make)
    monkeypatch.setattr(module, "starting_weights", lambda *_, **__: None)
    assert FINETUNE["camera"] in CAMERAS
    told = words(FINETUNE, places, without)
    code, _, errors = stlm("finetune", places["DIR"], "--name", "part", "-o", tmp_path / "part", *told)
    assert (code, errors) == (0, "")
    (command,) = jobs[0].provenance.commands
    check(command.line, FINETUNE, without)
    code, _, _ = stlm("finetune", places["DIR"], "--name", "part", "-o", tmp_path / "other")
    assert code == 0 and jobs[1].provenance.commands[0].line == "stlm finetune FOLDER --name part"


@pytest.mark.usefixtures("toy_streams")
@pytest.mark.parametrize("without", MASKS)
def test_calibrate(without: str, stlm: Stlm, places: dict[str, Path], saved_memory_toy: Path, tmp_path: Path) -> None:
    told = words(CALIBRATE, places, without)
    code, _, errors = stlm("calibrate", places["DIR"], "-m", saved_memory_toy, "-o", tmp_path / "new", *told)
    assert (code, errors) == (0, "")
    check(load(tmp_path / "new" / "results.json").provenance.commands[-1].line, CALIBRATE, without)
    judging = Judging.load(tmp_path / "new" / "calibration.json")
    assert judging.careful and judging.bits == 12
