"""What a user chooses, and what follows from it."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from stlm_hub import finetune
from stlm_hub.errors import ConfigError
from stlm_hub.pseudo_anomalies.nuisance import CAMERAS, of_camera
from stlm_hub.training.options import Options


def test_the_defaults_are_those_of_finetune() -> None:
    defaults = {name: one.default for name, one in inspect.signature(finetune).parameters.items()}
    defaults["weights"] = defaults.pop("starting_from")
    for name in ("photographs", "name", "output", "minutes", "observer"):  # what is made, of what and until when
        del defaults[name]
    assert defaults == {field.name: field.default for field in dataclasses.fields(Options)}


def test_the_camera_decides_how_copies_are_disturbed() -> None:
    for camera in CAMERAS:
        options = Options(steps=3, camera=camera)
        assert options.training().nuisance == of_camera(camera)
        assert (f"--camera {camera}" in options.command("part").line) == (camera != "normal")
    with pytest.raises(ConfigError, match="camera must be one of fixed, normal, rough, not 'phone'"):
        Options(camera="phone").training()


def test_a_backbone_is_told_of_a_memory_alone() -> None:
    line = "stlm finetune FOLDER --name part"
    assert Options(backbone="mobile_sam").command("part").line == f"{line} --backbone mobile_sam"
    without = Options(backbone="mobile_sam", memory_entries=0)
    assert without.command("part").line == f"{line} --memory-entries 0"


def test_a_command_tells_no_place_of_the_users_machine() -> None:
    options = Options(textures="/home/me/wood", weights="/home/me/sam.pt", region="", leave_out=("a b.png", "c\n.png"))
    assert options.command("part").line == (
        "stlm finetune FOLDER --name part --leave-out 'a b.png' --leave-out 'c?.png' --textures DIR --weights FILE"
    )
