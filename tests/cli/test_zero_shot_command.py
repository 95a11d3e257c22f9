"""`stlm predict --zero-shot`: a verdict without a model, and what to do where CLIP is missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from drawn import write_photographs
from small_clip import write_clip

from stlm_hub.zero_shot.detector import ZeroShot

Stlm = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "small")


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    return write_photographs(tmp_path / "photos", 1)[0]


def test_a_photograph_is_judged_without_a_model(stlm: Stlm, clip_folder: Path, photograph: Path) -> None:
    options = ("--zero-shot", "--part", "bottle", "--clip", clip_folder, "--device", "cpu")
    score = ZeroShot.from_pretrained(clip_folder, device="cpu").predict(photograph, part="bottle", refine=False).score
    # Above the score there is nothing to outline, so that this needs no weights of Segment Anything.
    code, out, err = stlm("predict", photograph, *options, "--threshold", "0.99")
    assert code == 0 and not err and out.startswith("Pass") and f"score {score:.4f}" in out
    assert "Not calibrated" not in out  # the threshold is the user's own
    code, out, _ = stlm("predict", photograph, *options, "--json", "--threshold", "0.99", "--review", "0")
    assert code == 0 and json.loads(out)["verdict"] == "review"


def test_the_default_threshold_promises_nothing(
    stlm: Stlm, clip_folder: Path, photograph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stlm_hub.zero_shot.detector.refined", lambda prediction, _: prediction)
    options = ("predict", photograph, "--zero-shot", "--clip", clip_folder)
    code, out, _ = stlm(*options)
    assert code == 0 and out.startswith("Not calibrated. ") and "--threshold" in out
    code, out, _ = stlm(*options, "--json")
    told = json.loads(out)
    assert code == 0 and told["threshold"] == 0.5 and told["calibrated"] is False


def test_missing_weights_and_wrong_options_are_sentences(stlm: Stlm, photograph: Path, tmp_path: Path) -> None:
    for options, told in (
        (("--zero-shot", "--clip", tmp_path / "none"), "get open_clip_model.safetensors (1.7 GB) from https://"),
        (("--zero-shot", "-m", "sample-brick"), "takes the place of a model"),
        ((), "Name a model with --model, or"),
        (("-m", "sample-brick", "--part", "brick"), "--part and --clip belong to --zero-shot"),
    ):
        code, out, err = stlm("predict", photograph, *options)
        assert code == 1 and not out and told in " ".join(err.split()) and "Traceback" not in err
