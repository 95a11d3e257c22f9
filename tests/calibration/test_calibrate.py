"""How a model judges, out of good photographs: scales, thresholds of each map, what is drawn and what is familiar."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import grey, judging_by, texture, write_photographs
from PIL import Image
from torch.nn import functional as F

from stlm_hub.calibration import normals
from stlm_hub.calibration.calibrate import calibrate
from stlm_hub.calibration.normals import PROBES, Normal, choose_photographs, measure
from stlm_hub.calibration.threshold import choose_threshold
from stlm_hub.errors import DataError, ImageError
from stlm_hub.models.stlm.judging import Judging
from stlm_hub.models.stlm.scales import ANOMALY_MAPS, times
from stlm_hub.predict.images import load_image
from stlm_hub.predict.predictor import infer, input_of
from stlm_hub.pseudo_anomalies import probes
from stlm_hub.pseudo_anomalies.nuisance import Nuisance, of_camera
from stlm_hub.pseudo_anomalies.probes import probe
from stlm_hub.stlm import STLM

pytestmark = pytest.mark.usefixtures("toy_streams")


def copy_of(model: STLM, **judging: object) -> STLM:
    """The same weights, which are not shared, and nothing measured."""
    other = copy.deepcopy(model)
    other.judging = Judging(**{"judge_by": model.judging.judge_by, **judging})  # type: ignore[arg-type]
    return other


def normals_of(paths: list[Path]) -> list[Normal]:
    return [Normal(path) for path in paths]


def scores_of(model: STLM, photographs: list[Path], name: str) -> list[float]:
    return [inferred.maps[name].score for inferred in infer(model, map(load_image, photographs), (name,))]


def remember(model: STLM, photographs: list[Path]) -> STLM:
    """The model, whose memory now has one patch of each of six photographs."""
    memory = model.patch_memory
    assert memory is not None
    with torch.inference_mode():
        for number, path in enumerate(photographs):
            patches = memory.patches(input_of(model, [load_image(path)]))
            memory.entries[number] = (patches[0, 4, 4] - memory.mean) @ memory.components
    memory.sources.copy_(torch.arange(6))
    return model


# ---------------------------------------------------------------- thresholds and scales


def test_each_map_gets_a_threshold_and_the_one_that_judges_is_set(toy_model: STLM, good_parts: list[Path]) -> None:
    model = copy_of(toy_model)
    told: list[tuple[int, int]] = []
    found = calibrate(model, normals_of(good_parts), 0.1, on_image=lambda *progress: told.append(progress))
    assert told == [(done, 6) for done in range(1, 7)]
    assert list(found.thresholds) == ["aggregation", "cosine", "combined"]
    judging = model.judging
    assert judging.judge_by == "aggregation" and judging.calibration == found.thresholds["aggregation"]
    assert judging.compared == ("aggregation", "cosine")
    assert len(judging.normal_scores) == len(judging.disturbed_scores) == 6 and len(judging.probe_scores) == PROBES
    assert judging.calibration == choose_threshold(
        judging.normal_scores, 0.1, disturbed=judging.disturbed_scores, probes=judging.probe_scores
    )
    assert judging.review_threshold <= judging.threshold
    assert toy_model.judging == Judging()


@pytest.mark.parametrize("name", ANOMALY_MAPS)
def test_the_scores_behind_a_threshold_are_those_that_the_model_predicts(
    name: str, toy_memory_model: STLM, good_parts: list[Path]
) -> None:
    model = copy_of(toy_memory_model, judge_by=name)
    calibrate(model, normals_of(good_parts), 0.05)
    predicted = [prediction.score for prediction in model.predict(good_parts)]
    np.testing.assert_allclose(model.judging.normal_scores, predicted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(scores_of(model, good_parts, name), predicted, rtol=0, atol=1e-6)
    assert len(set(model.judging.normal_scores)) == 6


@pytest.mark.parametrize("name", ANOMALY_MAPS[:-1])
def test_a_map_alone_reaches_one_half_on_the_highest_usual_photograph(
    name: str, toy_memory_model: STLM, good_parts: list[Path]
) -> None:
    model = copy_of(toy_memory_model, judge_by=name)
    calibrate(model, normals_of(good_parts), 0.01)
    usual = choose_threshold(model.judging.normal_scores, 0.01, disturbed=model.judging.disturbed_scores).threshold
    assert usual == pytest.approx(0.5, abs=1e-5)
    scale, raw = model.judging.scale(name), measure(model, normals_of(good_parts), Nuisance(), 0).good.values[name]
    assert scale is not None and scale.typical == pytest.approx(torch.cat(raw).mean().item(), rel=1e-4)


def test_a_map_that_is_left_out_gets_no_scale(toy_memory_model: STLM, good_parts: list[Path]) -> None:
    model = copy_of(toy_memory_model)
    found = calibrate(model, normals_of(good_parts), 0.05, left_out=("aggregation",))
    assert list(found.thresholds) == ["cosine", "memory", "combined"] and model.judging.compared == ("cosine", "memory")


def test_the_same_seed_gives_the_same_judging_and_a_nuisance_changes_the_copies(
    toy_memory_model: STLM, good_parts: list[Path]
) -> None:
    models = [copy_of(toy_memory_model) for _ in range(4)]
    for model, seed, camera in zip(models, (0, 0, 1, 0), ("normal", "normal", "normal", "rough"), strict=True):
        calibrate(model, normals_of(good_parts), 0.05, seed=seed, nuisance=of_camera(camera))
    first, again, other_seed, rough = (model.judging for model in models)
    assert first == again
    same = models[1].familiarity.state_dict()
    assert all(torch.equal(tensor, same[name]) for name, tensor in models[0].familiarity.state_dict().items())
    assert other_seed.probe_scores != first.probe_scores and other_seed.disturbed_scores != first.disturbed_scores
    assert rough.disturbed_scores != first.disturbed_scores


def test_an_unusual_photograph_is_named_and_moves_no_threshold(toy_memory_model: STLM, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(17)]
    for path in paths:
        Image.fromarray(texture(64, 64) // 2 + rng.integers(0, 9, (64, 64, 3), dtype=np.uint8)).save(path)
    Image.fromarray(grey(255)).save(paths[5])
    model = remember(copy_of(toy_memory_model, judge_by="memory"), paths[6:12])
    found = calibrate(model, normals_of(paths), 0.01)
    (path, score), judging = found.unusual[0], model.judging
    assert [path for path, _ in found.unusual] == [paths[5]] == [path]
    assert score == max(judging.normal_scores) == judging.normal_scores[5] > judging.threshold
    assert sorted(judging.normal_scores)[-2] < judging.threshold < 0.6  # the limit is that of the usual ones
    assert judging.calibration is not None and judging.calibration.n == 17
    assert calibrate(model, normals_of([*paths[:5], *paths[6:]]), 0.01).unusual == []


# ---------------------------------------------------------------- photographs that the model knows


def test_a_photograph_is_compared_with_what_the_memory_has_of_others(
    toy_memory_model: STLM, good_parts: list[Path]
) -> None:
    """As by a memory in which it never was."""
    remembering = remember(copy_of(toy_memory_model), good_parts)
    known = [Normal(path, remembered=number) for number, path in enumerate(good_parts)]
    found = measure(remembering, known, Nuisance(), 0)
    ordinary = measure(remembering, normals_of(good_parts), Nuisance(), 0)
    for number in range(6):
        without = copy.deepcopy(remembering)
        assert without.patch_memory is not None
        without.patch_memory.entries = without.patch_memory.entries[without.patch_memory.sources != number].clone()
        brute = measure(without, [Normal(good_parts[number])], Nuisance(), 0).good.values["memory"][0]
        torch.testing.assert_close(found.good.values["memory"][number], brute, rtol=1e-4, atol=1e-4)
        for group, other in ((found.good, ordinary.good), (found.disturbed, ordinary.disturbed)):
            assert (group.values["memory"][number] >= other.values["memory"][number] - 1e-4).all()
    assert not torch.equal(torch.cat(found.good.values["memory"]), torch.cat(ordinary.good.values["memory"]))
    for group, other in ((found.good, ordinary.good), (found.probes, ordinary.probes)):
        torch.testing.assert_close(torch.cat(group.values["cosine"]), torch.cat(other.values["cosine"]))


def test_scores_of_photographs_that_were_trained_on_are_lifted_to_those_of_others(
    toy_model: STLM, good_parts: list[Path]
) -> None:
    plain = copy_of(toy_model)
    calibrate(plain, normals_of(good_parts), 0.05, careful=True)  # no lift is taken off the scores then
    low = np.zeros(6, bool)
    low[np.argsort(plain.judging.normal_scores)[:3]] = True  # as if the training had made them low
    model = copy_of(toy_model)
    calibrate(
        model, [Normal(path, trained=bool(t)) for path, t in zip(good_parts, low, strict=True)], 0.05, careful=True
    )
    scores = np.array(model.judging.normal_scores)
    odds = scores / (1 - scores)
    assert np.median(odds[low]) == pytest.approx(np.median(odds[~low]), rel=1e-4)
    assert model.judging.probe_scores != plain.judging.probe_scores


def test_photographs_that_no_stream_knows_come_first_and_get_the_probes() -> None:
    known = [Normal(Path(f"{i}.png"), trained=i % 3 > 0) for i in range(300)]
    found = choose_photographs(known, seed=0)
    assert len(found) == normals.MOST_PHOTOGRAPHS == 150
    assert found[:100] == [normal for normal in known if not normal.trained]
    assert all(normal.trained for normal in found[100:]) and len(set(found)) == 150
    assert found == choose_photographs(known, seed=0) != choose_photographs(known, seed=1)
    assert normals._probe_counts(found) == [1] * 100 + [0] * 50
    assert normals._probe_counts(found[98:102]) == [30, 30, 0, 0]
    assert normals._probe_counts(found[100:107]) == [9, 9, 9, 9, 8, 8, 8]


def test_probes_are_painted_on_the_size_that_the_network_sees(
    toy_model: STLM, good_parts: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    painted: list[np.ndarray] = []

    def recorded(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        damaged, mask = probe(image, rng)
        painted.append(mask)
        return damaged, mask

    monkeypatch.setattr(probes, "probe", recorded)
    measured = measure(toy_model, normals_of(good_parts[:2]), Nuisance(), 0)
    assert len(painted) == len(measured.probes.descriptions) == PROBES
    assert all(mask.shape == (64, 64) and mask.any() for mask in painted)
    assert set(measured.good.values) == {"aggregation", "cosine"}


def test_a_lift_is_what_disturbances_did_to_the_same_photographs(toy_model: STLM, good_parts: list[Path]) -> None:
    model = copy_of(toy_model)
    calibrate(model, normals_of(good_parts), 0.1)
    measured = measure(toy_model, normals_of(good_parts), Nuisance(), 0)
    for scale in model.judging.scales:
        medians, peaks = (
            [[float(f(v)) for v in looks.values[scale.anomaly_map]] for looks in (measured.good, measured.disturbed)]
            for f in (toy_model.median, lambda v: toy_model.score(F.interpolate(v, size=(64, 64), mode="bilinear")))
        )
        slope = np.linalg.lstsq((np.array(medians[1]) - medians[0])[:, None], np.array(peaks[1]) - peaks[0], rcond=None)
        assert scale.lift == pytest.approx(max(0.0, float(slope[0][0])), rel=1e-4)
        assert scale.median == pytest.approx(np.median(medians[0]), rel=1e-5)
        assert scale.median <= scale.lifted <= max(scale.median, *medians[1])


def test_a_careful_calibration_takes_no_lift_off(toy_memory_model: STLM, good_parts: list[Path]) -> None:
    model, usual = copy_of(toy_memory_model), copy_of(toy_memory_model)
    calibrate(model, normals_of(good_parts), 0.1, careful=True)
    calibrate(usual, normals_of(good_parts), 0.1)
    assert {scale.lift for scale in model.judging.scales} == {0.0}
    assert any(scale.lift for scale in usual.judging.scales)


# ---------------------------------------------------------------- what is drawn


@pytest.mark.parametrize("name", ["memory", "combined"])
def test_the_drawn_map_reaches_the_threshold_as_often_as_the_score(
    name: str, toy_memory_model: STLM, good_parts: list[Path]
) -> None:
    model = copy_of(toy_memory_model, judge_by=name)
    calibrate(model, normals_of(good_parts), 0.3)
    judging = model.judging
    assert judging.drawn == name and judging.draw_gain > 0.95  # a mean over places is no higher than a score
    judged = np.array([*judging.normal_scores, *judging.disturbed_scores])
    measured = measure(model, normals_of(good_parts), Nuisance(), 0)
    drawn = []
    for looks in (measured.good, measured.disturbed):
        for i in range(6):
            raw = {needed: looks.values[needed][i] for needed in model.needed((name,))}
            values = times(model.scored(name, raw, (64, 64)).values.numpy(), judging.draw_gain)
            drawn.append(float(model.score(torch.from_numpy(values))))
    reached = np.mean(judged >= judging.threshold)
    assert 0 < reached < 1
    assert np.mean(np.array(drawn) >= judging.threshold) == pytest.approx(reached, abs=1.01 / 12)


# ---------------------------------------------------------------- what is familiar


def test_photographs_of_the_part_are_familiar_and_others_are_not(toy_memory_model: STLM, tmp_path: Path) -> None:
    paths = write_photographs(tmp_path / "parts", 16)
    model = copy_of(toy_memory_model)
    calibrate(model, normals_of(paths[:12]), 0.05)
    assert len(model.judging.familiarity_limits) == 2 and min(model.judging.familiarity_limits) > 0
    known = model.judging.normal_unfamiliarity
    assert len(known) == 12 and 0 < min(known) < max(known) < 1
    assert np.mean([model.predict(path).unfamiliarity for path in paths[:12]]) < np.mean(known), "not as unknown ones"
    for prediction in map(model.predict, paths):  # four of them are new
        assert prediction.unfamiliarity < 1 and prediction.verdict != "unfamiliar"
    for level in (0, 255):
        assert model.predict(grey(level, 70, 90)).verdict == "unfamiliar"


def test_a_part_that_lies_upside_down_is_unfamiliar(toy_memory_model: STLM, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [np.full((64, 64, 3), 60, np.uint8) for _ in range(12)]
    for image in images:
        image[:24] = 200
        image += rng.integers(0, 30, image.shape, dtype=np.uint8)
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    model = copy_of(toy_memory_model)
    calibrate(model, normals_of(paths), 0.05)
    assert model.predict(images[0]).unfamiliarity < 1 < model.predict(images[0][::-1].copy()).unfamiliarity


def test_a_model_that_is_calibrated_again_knows_what_it_knew(toy_memory_model: STLM, good_parts: list[Path]) -> None:
    model = copy_of(toy_memory_model)
    calibrate(model, normals_of(good_parts), 0.05)
    before, limits = copy.deepcopy(model.familiarity.state_dict()), model.judging.familiarity_limits
    calibrate(model, normals_of(good_parts[:5]), 0.05)
    for name, tensor in model.familiarity.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(now >= then for now, then in zip(model.judging.familiarity_limits, limits, strict=True))
    expected = [model.predict(path).unfamiliarity for path in good_parts[:5]]
    assert model.judging.normal_unfamiliarity == pytest.approx(expected, rel=1e-3)


def test_photographs_of_another_part_are_refused(
    toy_memory_model: STLM, good_parts: list[Path], tmp_path: Path
) -> None:
    model = copy_of(toy_memory_model)
    calibrate(model, normals_of(good_parts), 0.05)
    others = [tmp_path / f"wall_{i}.png" for i in range(4)]
    for i, path in enumerate(others):
        Image.fromarray(250 + texture(64, 64, i) // 64).save(path)
    with pytest.raises(DataError, match=r"4 of 4 photographs do not look like .*same part.*stlm finetune"):
        calibrate(model, normals_of(others), 0.05)


def test_a_memory_alone_is_calibrated_like_any_model(toy_memory_model: STLM, good_parts: list[Path]) -> None:
    model = STLM(toy_memory_model.config.replace(streams=False), Judging("memory")).eval()
    state = toy_memory_model.state_dict()
    model.load_state_dict({name: state[name] for name in model.state_dict()})
    found = calibrate(model, normals_of(good_parts), 0.05)
    assert list(found.thresholds) == ["memory", "combined"] and model.judging.compared == ("memory",)
    whole = copy_of(toy_memory_model, judge_by="memory")
    calibrate(whole, normals_of(good_parts), 0.05)
    assert model.calibration == whole.calibration


# ---------------------------------------------------------------- refusals


def test_what_cannot_be_calibrated_changes_nothing(toy_model: STLM, good_parts: list[Path], tmp_path: Path) -> None:
    model = copy_of(toy_model)
    (tmp_path / "broken.png").write_bytes(b"")
    with pytest.raises(DataError, match="got 3"):
        calibrate(model, normals_of(good_parts[:3]), 0.01)
    with pytest.raises(DataError, match="false-alarm rate"):
        calibrate(model, normals_of(good_parts), 0.7)
    with pytest.raises(ImageError, match=r"broken\.png"):
        calibrate(model, normals_of([*good_parts, tmp_path / "broken.png"]), 0.01)
    assert model.judging == toy_model.judging
    assert not model.familiarity.content.mean.any()


def test_maps_that_do_not_vary_have_no_scale(toy_model: STLM, good_parts: list[Path]) -> None:
    model = copy_of(toy_model)
    assert model.network is not None
    torch.nn.init.zeros_(model.network.aggregation.head[-1].weight)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="do not vary, so they have no scale"):
        calibrate(model, normals_of(good_parts), 0.05)
    calibrate(judging_by(model, judge_by="cosine"), normals_of(good_parts), 0.05, left_out=("aggregation",))
