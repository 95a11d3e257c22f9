"""The way to the network: what is asked of a graphics card, what comes back, and one at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

from stlm_hub.errors import DataError, HubError, ImageError
from stlm_hub.predict.images import load_image
from stlm_hub.predict.photographs import Photographs
from stlm_hub.stlm import STLM
from stlm_page import batch_tab, judge
from stlm_page.judge import MODELS


def photograph(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (70, 90, 3), np.uint8)


def test_seconds_that_are_asked_for_grow_and_stay_a_fraction_of_a_visitors_quota() -> None:
    asked = [judge.seconds_on_gpu("model", [photograph(0)] * n) for n in range(1, 33)]
    assert all(isinstance(seconds, int) for seconds in asked)
    assert asked == sorted(asked) and asked[-1] > asked[0]
    assert 1 <= asked[0] <= 10 and asked[-1] < 60
    assert batch_tab.PER_CALL <= 32


def test_seconds_to_recalibrate_grow_with_the_photographs() -> None:
    found = [Photographs([Path("x")] * n, [], (8, 8)) for n in (4, 200)]
    few, many = (judge.seconds_to_recalibrate("m", photographs, Path("o"), "label", 0.01) for photographs in found)
    assert isinstance(few, int) and 1 <= few < many < 120


def test_what_is_judged_is_what_the_library_predicts(own_model: str, saved_model: Path) -> None:
    photographs = [photograph(0), photograph(1)]
    expected = STLM.from_pretrained(saved_model).predict(photographs)  # type: ignore[arg-type]
    found = judge.judge(own_model, photographs)
    assert len(found) == 2 and found[0].score != found[1].score
    for one, other in zip(found, expected, strict=True):
        assert (one.score, one.threshold) == (pytest.approx(other.score, rel=1e-5), other.threshold)
        assert np.array_equal(one.image, other.image)
        assert np.allclose(one.anomaly_map, other.anomaly_map, atol=1e-5)


def test_an_error_in_the_slice_of_the_graphics_card_is_one_that_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def predict(photographs: list[np.ndarray], **_: object) -> None:
        raise ImageError("part.png is damaged; save it again.")

    monkeypatch.setattr(MODELS, "get", lambda name: SimpleNamespace(network=SimpleNamespace(predict=predict)))
    with pytest.raises(gr.Error, match=r"part\.png is damaged; save it again\."):
        judge.judge("some-model", [photograph(0)])


def test_a_bug_is_not_dressed_as_an_error_of_the_visitor(monkeypatch: pytest.MonkeyPatch) -> None:
    def predict(photographs: list[np.ndarray], **_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(MODELS, "get", lambda name: SimpleNamespace(network=SimpleNamespace(predict=predict)))
    with pytest.raises(ZeroDivisionError):
        judge.judge("some-model", [photograph(0)])


def test_a_model_that_is_not_there_is_said_before_the_graphics_card_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(judge, "_on_gpu", lambda *_: pytest.fail("the graphics card was asked for"))
    with pytest.raises(HubError, match="no model"):
        judge.judge("nowhere", [photograph(0)])


def test_one_network_runs_at_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    running, most, begun = 0, 0, 0

    def busy(*_: object) -> list[object]:
        nonlocal running, most, begun
        begun += 1
        running += 1
        most = max(most, running)
        time.sleep(0.05)
        running -= 1
        return []

    known = SimpleNamespace(network=SimpleNamespace(judging=SimpleNamespace(bits=None)))
    monkeypatch.setattr(MODELS, "get", lambda name: known)
    monkeypatch.setattr(judge, "_on_gpu", busy)
    monkeypatch.setattr(judge, "_recalibrate", busy)
    monkeypatch.setattr(judge, "check_photographs", lambda *_, **__: SimpleNamespace(paths=[], bits=None, shape=(8, 8)))
    work: list[Callable[[], object]] = [
        lambda: judge.judge("one", []),
        lambda: judge.judge("other", []),
        lambda: judge.recalibrate_on_gpu("one", tmp_path, tmp_path / "made", "label", 0.01, {}),
    ]
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert (most, begun) == (1, 3)


def test_recalibration_goes_by_the_visitors_photographs(
    own_model: str, write_photographs: Callable[..., list[Path]], tmp_path: Path
) -> None:
    paths = write_photographs(tmp_path / "good", 5)
    made = judge.recalibrate_on_gpu(own_model, tmp_path / "good", tmp_path / "made", "line-2", 0.2, {})
    judging = STLM.from_pretrained(made).judging
    assert judging.calibration is not None
    assert (judging.calibration.n, judging.calibration.false_alarm_rate) == (5, 0.2)
    scores = [p.score for p in judge.judge(MODELS.add_own(Path(made)), [load_image(path) for path in paths])]
    assert judging.normal_scores == pytest.approx(scores, abs=1e-3)
    assert len(judging.disturbed_scores) == 5 and len(judging.probe_scores) == 60
    known = sorted([*judging.normal_scores, *judging.disturbed_scores])
    assert known[0] < judging.threshold <= known[-1] + 1e-6


def test_too_few_photographs_are_said_before_the_graphics_card_is_asked_for(
    own_model: str, write_photographs: Callable[..., list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photographs(tmp_path / "good", 3)
    monkeypatch.setattr(judge, "_recalibrate", lambda *_: pytest.fail("the graphics card was asked for"))
    with pytest.raises(DataError, match="calibration needs at least 4"):
        judge.recalibrate_on_gpu(own_model, tmp_path / "good", tmp_path / "made", "line-2", 0.01, {})
