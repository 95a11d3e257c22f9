"""How a model came about, in words: commands, splits, trainings."""

from __future__ import annotations

import dataclasses

import pytest
from card_model import RESULTS

from stlm_hub.model_folder.provenance import Circumstances, Command, Split, TrainingFacts


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (Command("stlm"), "stlm"),
        (Command("stlm finetune", ("FOLDER",), {"name": "part"}), "stlm finetune FOLDER --name part"),
        (Command("python -m train", ("x",), {"seed": 1, "data": "DIR"}), "python -m train x --seed 1 --data DIR"),
        (Command("x", (), {"force": True, "quiet": False, "rate": 0.05}), "x --force --rate 0.05"),
        (Command("x", ("my photos", "it's"), {"name": "a b"}), "x 'my photos' 'it'\"'\"'s' --name 'a b'"),
        (Command("x", ("$(rm -rf ~)", "a;b", "`id`"), {"o": "&& id"}), "x '$(rm -rf ~)' 'a;b' '`id`' --o '&& id'"),
        (Command("x", ("two\nlines",), {"o": "a\tb"}), "x 'two lines' --o 'a b'"),
        (Command("x", ("two  spaces",)), "x 'two  spaces'"),
        (Command("x", ("",)), "x ''"),
    ],
)
def test_a_command_is_one_line_of_a_shell(command: Command, line: str) -> None:
    assert command.line == line


def test_words_for_a_split() -> None:
    assert Split(True).words == "official" and Split(False).words == "unofficial"
    assert Split(False, "48 train instead of 60").words == "not the official one: 48 train instead of 60"


def test_seed_teacher_and_commit_are_read_or_nothing() -> None:
    training = RESULTS.training
    assert training is not None and (training.seed, training.teacher) == (3, "mobile")
    bare: TrainingFacts = dataclasses.replace(training, settings={"seed": "x"})
    assert (bare.seed, bare.teacher) == (0, "")
    assert Circumstances(versions={"commit": "c0de"}).commit == "c0de" and Circumstances().commit == ""
