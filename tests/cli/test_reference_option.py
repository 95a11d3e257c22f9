"""`stlm predict --reference`: good photographs in the place of a model."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from drawn import write_photographs

from stlm_hub.zero_shot import reference_memory
from stlm_hub.zero_shot import references as module

Stlm = Callable[..., tuple[int, str, str]]


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Seven photographs; references are looked at by a backbone with random weights, and outlined by nobody."""
    monkeypatch.setattr(reference_memory, "SIDE", 128)
    monkeypatch.setattr(
        module,
        "References",
        functools.partial(module.References, backbones=("efficientnet_lite0",), load=False),
    )
    monkeypatch.setattr(module, "refined", lambda prediction, sam: prediction)
    return write_photographs(tmp_path / "photos", 7)


def test_references_judge_what_is_not_a_reference(stlm: Stlm, photographs: list[Path]) -> None:
    first, second = photographs[:2]
    code, out, err = stlm("predict", first.parent, "--reference", first, "--reference", second, "--device", "cpu")
    assert code == 0 and not err and out.count("score ") == 5
    assert "Not calibrated. The limit is as far as any of the 2 references" in out
    assert f"{first} is a reference and is not judged." in out
    code, out, _ = stlm("predict", photographs[2], "--reference", first, "--json", "--device", "cpu")
    told = json.loads(out)
    assert code == 0 and told["path"] == str(photographs[2]) and told["calibrated"] is False


def test_what_cannot_be_is_told(stlm: Stlm, photographs: list[Path]) -> None:
    first, last = photographs[0], photographs[6]
    for options, sentence in (
        ((), "Name a model with --model, or photographs of good parts with --reference."),
        (("--reference", first, "-m", "mvtec-bottle"), "takes the place of a model"),
        (("--reference", last), "All of these photographs are references"),
        ([word for path in photographs[:6] for word in ("--reference", path)], "There are 6 reference photographs"),
        (("--reference", first.parent / "none.png"), "none.png"),
    ):
        code, out, err = stlm("predict", last, *options)
        assert code == 1 and sentence in err and "Traceback" not in err + out
