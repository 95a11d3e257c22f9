"""Whether Segment Anything outlines what a model rejects: who decides it, on what, and what comes of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from drawn import write_photographs

from stlm_hub.calibration import outlines
from stlm_hub.calibration.normals import Normal
from stlm_hub.calibration.outlines import (
    FEWEST,
    MOST,
    check_refine,
    choice_text,
    chosen_outlines,
    cost_text,
    judge_without,
    measured_gain,
)
from stlm_hub.errors import ConfigError, WeightsError
from stlm_hub.models.stlm.judging import Judging
from stlm_hub.models.stlm.outline_gain import OutlineGain
from stlm_hub.predict.images import load_image
from stlm_hub.predict.prediction import Prediction
from stlm_hub.pseudo_anomalies import probes
from stlm_hub.stlm import STLM

pytestmark = pytest.mark.usefixtures("toy_streams")


class World:
    """Damage of known shape, a model that outlines a box, and Segment Anything that outlines as it is told."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.numbers: list[int] = []
        self.truth: list[np.ndarray] = []
        self.is_right = True
        patch.setattr(outlines, "judge_without", self.judge_without)
        patch.setattr(outlines, "refined", self.refined)
        patch.setattr(probes, "probe", self.probe)
        patch.setattr(outlines, "segment_anything", lambda: None)

    def judge_without(self, model: object, image: np.ndarray, number: int) -> Prediction:
        self.numbers.append(number)
        anomaly_map = np.zeros(image.shape[:2], np.float32)
        anomaly_map[20:50, 20:50] = 0.9
        return Prediction(image, anomaly_map, 0.9, 0.5)

    def refined(self, prediction: Prediction, sam: object) -> Prediction:
        if not self.is_right:
            return prediction
        return dataclasses.replace(prediction, mask=self.truth[-1])

    def probe(self, image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        mask = np.zeros(image.shape[:2], np.uint8)
        mask[int(random.integers(10, 30)) :, 30:60] = 1
        self.truth.append(mask > 0)
        return image, mask


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


@pytest.fixture
def normals(tmp_path: Path) -> list[Normal]:
    paths = write_photographs(tmp_path / "good", 6)
    return [Normal(path, remembered=k, trained=k < 2) for k, path in enumerate(paths)]


def test_a_gain_counts_when_it_is_sure() -> None:
    gain = OutlineGain.of([0.1, 0.3, 0.2, 0.2])
    assert (gain.mean, gain.n) == (pytest.approx(0.2), 4) and gain.helps
    assert gain.standard_error == pytest.approx(np.std([0.1, 0.3, 0.2, 0.2], ddof=1) / 2)
    assert not OutlineGain.of([0.9, -0.5, 0.1]).helps and not OutlineGain.of([0.0, 0.0]).helps
    for odd in ({"mean": 1.5}, {"mean": float("nan")}, {"standard_error": -0.1}, {"n": 1}, {"n": True}):
        with pytest.raises(ConfigError, match="refine_gain"):
            OutlineGain(**{"mean": 0.1, "standard_error": 0.1, "n": 16, **odd})


def test_photographs_that_no_stream_was_trained_on_decide(
    world: World, normals: list[Normal], toy_memory_model: STLM
) -> None:
    done: list[tuple[int, int]] = []
    gain = measured_gain(toy_memory_model, normals, 0, on_image=lambda *now: done.append(now))
    assert gain is not None and gain.helps and gain.n == FEWEST and done[-1] == (FEWEST, FEWEST)
    assert set(world.numbers) == {2, 3, 4, 5} and len(world.numbers) == FEWEST
    world.numbers.clear()
    everything = [dataclasses.replace(normal, trained=True) for normal in normals]
    assert measured_gain(toy_memory_model, everything * 10, 0) is not None
    assert len(world.numbers) == MOST and set(world.numbers) == set(range(6))


def test_auto_follows_the_gain_and_the_others_ask_nobody(
    world: World, normals: list[Normal], toy_memory_model: STLM
) -> None:
    helped = chosen_outlines(toy_memory_model, normals, "auto")
    assert helped.refine is True and helped.refine_gain is not None and helped.refine_gain.mean > 0
    text = choice_text(helped)
    assert f"{100 * helped.refine_gain.mean:+.1f} points" in text and "--no-refine" in text
    world.is_right = False
    left = chosen_outlines(toy_memory_model, normals, "auto")
    assert left.refine is False and left.refine_gain == OutlineGain(0.0, 0.0, FEWEST)
    assert "--refine asks" in choice_text(left)
    world.numbers.clear()
    on = chosen_outlines(toy_memory_model, normals, "on")
    assert (on.refine, on.refine_gain) == (True, None) and "not measured" in choice_text(on)
    model = STLM(toy_memory_model.config, helped)
    assert chosen_outlines(model, normals, "off").refine is None
    kept = chosen_outlines(model, normals, None)
    assert (kept.refine, kept.refine_gain) == (True, None)  # the figures were of another threshold
    assert world.numbers == []
    assert "16 pseudo anomalies" in cost_text(5) and "up to 2 minutes" in cost_text(5) and "up to 3" in cost_text(400)


def test_damage_lies_where_the_model_looks(world: World, normals: list[Normal], toy_memory_model: STLM) -> None:
    model = STLM(toy_memory_model.config.replace(region=True), toy_memory_model.judging)
    assert model.region is not None
    model.region.inside.zero_()
    assert measured_gain(model, normals) is None
    judging = chosen_outlines(model, normals, "auto")
    assert (judging.refine, judging.refine_gain) == (False, None) and "Hardly a pseudo anomaly" in choice_text(judging)
    model.region.inside[:, 40:] = 1  # a part of the damage
    gain = measured_gain(model, normals)
    assert gain is not None and gain.n == FEWEST


def test_a_photograph_is_judged_without_its_own_patches(toy_memory_model: STLM, normals: list[Normal]) -> None:
    image = load_image(normals[0].path)
    whole = judge_without(toy_memory_model, image, -1)
    plain = toy_memory_model.predict(image, refine=False)
    assert whole.score == pytest.approx(plain.score, abs=1e-6)
    assert np.allclose(whole.anomaly_map, plain.anomaly_map, atol=1e-6)
    assert toy_memory_model.patch_memory is not None
    own = int(toy_memory_model.patch_memory.sources[0])
    assert judge_without(toy_memory_model, image, own).score >= whole.score


def test_what_cannot_be_is_refused_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="refine must be one of"):
        check_refine("maybe")

    def nowhere() -> None:
        raise WeightsError("get them with: stlm weights fetch")

    monkeypatch.setattr(outlines, "segment_anything", nowhere)
    with pytest.raises(WeightsError, match="stlm weights fetch"):
        check_refine("auto")
    check_refine("on")  # a model may go where there are weights
    check_refine(None)


def test_the_choice_is_kept_in_calibration_json_and_older_files_load() -> None:
    plain = Judging()
    assert not {"refine", "refine_gain"} & plain.to_dict().keys()
    assert Judging.from_dict(plain.to_dict()) == plain and plain.refine is None
    chosen = plain.replace(refine=False, refine_gain=OutlineGain(0.01, 0.02, 16))
    assert Judging.from_dict(chosen.to_dict()) == chosen
    for odd in (
        {"refine": "yes"},
        {"refine": 1},
        {"refine_gain": 3},
        {"refine_gain": {"mean": 0.1}},
        {"refine_gain": {**chosen.to_dict()["refine_gain"], "more": 1}},
    ):
        with pytest.raises(ConfigError, match="refine"):
            Judging.from_dict(chosen.to_dict() | odd)
