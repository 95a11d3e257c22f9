"""The same network in a new folder, its threshold from other photographs."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import judging_by, texture, write_photographs
from PIL import Image
from recalibrated import ANOMALOUS, OLD, RESULTS, with_fnr

from stlm_hub.calibration.calibrate import calibrate
from stlm_hub.calibration.normals import Normal
from stlm_hub.calibration.threshold import choose_threshold
from stlm_hub.errors import ConfigError, DataError, ImageError
from stlm_hub.files.fingerprint import file_sha256, fingerprint
from stlm_hub.model_folder import results as facts
from stlm_hub.model_folder.figures import MapFigures, TestScores
from stlm_hub.model_folder.names import FAMILIARITY_NAME, FILES, MEMORY_NAME, REGION_NAME
from stlm_hub.model_folder.provenance import Photographs
from stlm_hub.model_folder.publish import check_folder
from stlm_hub.model_folder.results import FileFacts, Results
from stlm_hub.models.stlm.judging import Judging
from stlm_hub.models.stlm.scales import MapScale
from stlm_hub.predict.images import load_image
from stlm_hub.pseudo_anomalies.nuisance import of_camera
from stlm_hub.stlm import STLM
from stlm_hub.training.recalibrate import recalibrate

pytestmark = pytest.mark.usefixtures("toy_streams")
WITHOUT_MEMORY = {*FILES} - {MEMORY_NAME, REGION_NAME}


def results_of(folder: Path) -> Results:
    return facts.load(folder / "results.json")


def test_the_threshold_is_that_of_the_new_scores_of_the_saved_weights(made: Path, good_parts: list[Path]) -> None:
    model = STLM.from_pretrained(made, device="cpu")
    scores = [prediction.score for prediction in model.predict(good_parts)]
    judging = model.judging
    np.testing.assert_allclose(judging.normal_scores, scores, rtol=0, atol=1e-5)
    assert len(set(scores)) == 6
    found = choose_threshold(
        judging.normal_scores, 0.05, disturbed=judging.disturbed_scores, probes=judging.probe_scores
    )
    assert judging.calibration == found != OLD
    assert results_of(made).dataset.held_out == Photographs(6, fingerprint(good_parts))


def test_the_network_is_the_same_and_familiarity_is_found_anew(made: Path, trained: STLM) -> None:
    state, model = trained.state_dict(), STLM.from_pretrained(made, device="cpu")
    assert not trained.judging.familiarity_limits and len(model.judging.familiarity_limits) == 2
    assert model.familiarity.content.mean.any() and not trained.familiarity.content.mean.any()
    for name, tensor in model.state_dict().items():
        if name.startswith("familiarity."):
            continue
        assert torch.equal(tensor, state[name].half().float() if tensor.is_floating_point() else state[name]), name


def test_model_and_results_of_others_are_left_alone(toy_model: STLM, trained: STLM, made: Path) -> None:
    assert trained.config == toy_model.config and trained.judging == toy_model.judging.replace(calibration=OLD)
    before = toy_model.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.state_dict().items())
    assert RESULTS.dataset.held_out == Photographs(31, "bb") and RESULTS.maps["aggregation"].fnr == 0.25
    assert RESULTS.provenance.alias == "mvtec-bottle" and RESULTS.recalibration is None


def test_the_folder_is_complete_and_can_be_published(made: Path, trained: STLM) -> None:
    assert set(check_folder(made)) == WITHOUT_MEMORY == {path.name for path in made.iterdir()}
    assert [path.name for path in made.parent.iterdir()] == ["line-2"]
    results, weights, familiar = results_of(made), made / "model.safetensors", made / FAMILIARITY_NAME
    assert results.files == {
        "model.safetensors": FileFacts(file_sha256(weights), weights.stat().st_size, "float16"),
        FAMILIARITY_NAME: FileFacts(file_sha256(familiar), familiar.stat().st_size, "float32"),
    }
    assert results.parameters == sum(parameter.numel() for parameter in trained.parameters())


def test_doing_it_again_gives_the_same_folder(
    trained: STLM, good_parts: list[Path], made: Path, tmp_path: Path
) -> None:
    output = tmp_path / "line-2"
    output.mkdir()
    for name in FILES:
        (output / name).write_text("of the last time")
    told: list[tuple[int, int]] = []
    recalibrate(
        trained,
        good_parts,
        output,
        repo_id="me/line-2",
        results=RESULTS,
        false_alarm_rate=0.05,
        on_image=lambda done, total: told.append((done, total)),
    )
    assert told == [(i, 6) for i in range(1, 7)]
    assert {path.name for path in output.iterdir()} == WITHOUT_MEMORY  # the memory was that of the last time
    for name in WITHOUT_MEMORY:
        assert (output / name).read_bytes() == (made / name).read_bytes(), name


# ---------------------------------------------------------------- other maps


def test_the_memory_alone_judges_where_it_is_named(
    toy_memory_model: STLM, good_parts: list[Path], tmp_path: Path
) -> None:
    recalibrate(toy_memory_model, good_parts, tmp_path / "m", repo_id="me/m", anomaly_map="memory")
    made = STLM.from_pretrained(tmp_path / "m", device="cpu")
    assert made.judging.judge_by == "memory" and made.calibration is not None
    scores = [prediction.score for prediction in made.predict(good_parts)]
    np.testing.assert_allclose(made.judging.normal_scores, scores, rtol=0, atol=1e-5)
    assert made.judging.compared == ("aggregation", "cosine", "memory")
    assert made.judging.scales != toy_memory_model.judging.scales
    assert set(results_of(tmp_path / "m").files) == {"model.safetensors", MEMORY_NAME, FAMILIARITY_NAME}
    assert set(check_folder(tmp_path / "m")) == {*FILES} - {REGION_NAME}


def test_the_combined_map_gets_its_scales_from_the_photographs(
    trained: STLM, good_parts: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "combined"
    told: list[tuple[int, int]] = []
    recalibrate(
        trained,
        good_parts,
        folder,
        repo_id="me/combined",
        results=RESULTS,
        anomaly_map="combined",
        on_image=lambda *progress: told.append(progress),
    )
    assert told == [(done, 6) for done in range(1, 7)]  # nothing is looked at twice
    model = STLM.from_pretrained(folder, device="cpu")
    assert model.judging.compared == ("aggregation", "cosine")
    scores = [prediction.score for prediction in model.predict(good_parts)]
    np.testing.assert_allclose(model.judging.normal_scores, scores, rtol=0, atol=1e-5)
    results = results_of(folder)
    assert results.test_scores is None and results.curves is None

    measured = dataclasses.replace(results, maps={**results.maps, "combined": MapFigures(i_auroc=0.7)})
    recalibrate(model, good_parts[:4], tmp_path / "again", repo_id="me/again", results=measured)
    other = STLM.from_pretrained(tmp_path / "again", device="cpu")
    assert other.judging.compared == ("aggregation", "cosine") and other.judging.scales != model.judging.scales
    assert results_of(tmp_path / "again").maps["combined"] == MapFigures(i_auroc=0.7)


def test_a_map_that_was_left_out_of_the_training_stays_out(
    toy_memory_model: STLM, good_parts: list[Path], tmp_path: Path
) -> None:
    known = [scale for scale in toy_memory_model.judging.scales if scale.anomaly_map != "aggregation"]
    recalibrate(judging_by(toy_memory_model, scales=known), good_parts, tmp_path / "m", repo_id="me/m")
    assert STLM.from_pretrained(tmp_path / "m", device="cpu").judging.compared == ("cosine", "memory")


def test_copies_are_disturbed_as_in_the_training(trained: STLM, good_parts: list[Path], tmp_path: Path) -> None:
    judged = []
    for camera in ("fixed", "rough"):
        known = dataclasses.replace(RESULTS, nuisance=dataclasses.asdict(of_camera(camera)))
        judged.append(
            recalibrate(trained, good_parts, tmp_path / camera, repo_id=f"me/{camera}", results=known).judging
        )
    fixed, rough = judged

    def moved(judging: Judging) -> float:
        return float(np.abs(np.array(judging.normal_scores) - judging.disturbed_scores).mean())

    assert moved(rough) > moved(fixed) > 0


def test_photographs_of_another_part_are_refused_and_nothing_is_written(made: Path, tmp_path: Path) -> None:
    model = STLM.from_pretrained(made, device="cpu")
    walls = tmp_path / "walls"
    walls.mkdir()
    for i in range(5):
        Image.fromarray(250 + texture(64, 64, i) // 64).save(walls / f"{i}.png")
    with pytest.raises(DataError, match="5 of 5 photographs do not look like those that the model learned from"):
        recalibrate(model, sorted(walls.iterdir()), tmp_path / "m", repo_id="me/m", results=results_of(made))
    assert [path.name for path in tmp_path.iterdir()] == ["walls"]


def test_a_light_that_lifts_a_whole_map_does_not_blind_the_combined_one(
    trained: STLM, good_parts: list[Path], tmp_path: Path
) -> None:
    """On the scales of before, every good photograph scores 60 limits and every verdict is "anomalous"."""
    model = copy.deepcopy(trained)
    calibrate(model, [Normal(path) for path in good_parts], 0.05)
    lifted = tuple(
        MapScale(scale.anomaly_map, scale.typical - 60 * height, scale.limit - 60 * height)
        for scale in model.judging.scales
        for height in (scale.limit - scale.typical,)
    )
    blinded = judging_by(trained, judge_by="combined", scales=lifted)
    assert min(prediction.score for prediction in blinded.predict(good_parts)) > 0.98
    recalibrate(blinded, good_parts, tmp_path / "seeing", repo_id="me/seeing")
    seeing = STLM.from_pretrained(tmp_path / "seeing", device="cpu")
    assert not all(prediction.is_anomalous for prediction in seeing.predict(good_parts))
    assert seeing.calibration is not None and seeing.calibration.threshold < 0.7


# ---------------------------------------------------------------- refusals


def test_too_few_photographs_are_refused_before_any_is_looked_at(
    trained: STLM, good_parts: list[Path], tmp_path: Path
) -> None:
    looked_at: list[int] = []
    for anomaly_map in ("aggregation", "combined"):
        with pytest.raises(DataError, match="at least 4 normal photographs, got 3"):
            recalibrate(
                trained,
                good_parts[:3],
                tmp_path / "new",
                repo_id="me/new",
                anomaly_map=anomaly_map,
                on_image=lambda done, _: looked_at.append(done),
            )
    assert not looked_at and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "sentence"), [("memory", "no memory of normal patches"), ("heat", "judge_by must be one of")]
)
def test_a_map_that_the_model_lacks_is_refused(
    name: str, sentence: str, trained: STLM, good_parts: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        recalibrate(trained, good_parts, tmp_path / "new", repo_id="me/new", anomaly_map=name)
    assert not list(tmp_path.iterdir())


def test_maps_that_do_not_vary_have_no_scales(trained: STLM, tmp_path: Path) -> None:
    blank = write_photographs(tmp_path / "blank", 4, 64, 64)
    model = copy.deepcopy(trained)
    assert model.network is not None
    torch.nn.init.zeros_(model.network.aggregation.head[-1].weight)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="do not vary, so they have no scale"):
        recalibrate(model, blank, tmp_path / "new", repo_id="me/new", anomaly_map="combined")
    assert [path.name for path in tmp_path.iterdir()] == ["blank"]


def test_what_goes_wrong_leaves_nothing_behind(trained: STLM, good_parts: list[Path], tmp_path: Path) -> None:
    def stop(done: int, _: int) -> None:
        raise KeyboardInterrupt

    broken = tmp_path / "photos" / "broken.png"
    broken.parent.mkdir()
    broken.write_bytes(b"no picture")
    output = tmp_path / "models" / "m"
    with pytest.raises(KeyboardInterrupt):
        recalibrate(trained, good_parts, output, repo_id="me/m", on_image=stop)
    with pytest.raises(DataError, match="at least 4 normal photographs, got 3"):
        recalibrate(trained, good_parts[:3], output, repo_id="me/m")
    with pytest.raises(ImageError, match=r"broken\.png"):
        recalibrate(trained, [*good_parts, broken], output, repo_id="me/m")
    assert list(output.parent.iterdir()) == []
    with pytest.raises(DataError, match="false-alarm rate"):
        recalibrate(trained, good_parts, output, repo_id="me/m", false_alarm_rate=0.6)


def test_another_model_is_not_overwritten(trained: STLM, good_parts: list[Path], tmp_path: Path) -> None:
    (tmp_path / "scores.png").write_bytes(b"of a training")
    with pytest.raises(ConfigError, match=r"already holds scores\.png"):
        recalibrate(trained, good_parts, tmp_path, repo_id="me/m")
    with pytest.raises(ConfigError, match="is a file"):
        recalibrate(trained, good_parts, tmp_path / "scores.png", repo_id="me/m")
    with pytest.raises(ConfigError, match=r"cannot be written .*; name another folder"):
        recalibrate(trained, good_parts, tmp_path / "scores.png" / "model", repo_id="me/m")
    assert [path.name for path in tmp_path.iterdir()] == ["scores.png"]


def test_results_of_another_model_are_refused(trained: STLM, good_parts: list[Path], tmp_path: Path) -> None:
    for results in (
        with_fnr(0.5, "aggregation"),  # by the scores it is 0.25
        dataclasses.replace(RESULTS, test_scores=TestScores((), (*ANOMALOUS, 0.9))),
    ):
        with pytest.raises(ConfigError, match=r"results\.json says fnr 0\.\d+, but by its test_scores"):
            recalibrate(trained, good_parts, tmp_path / "m", repo_id="me/m", results=results)
    assert list(tmp_path.iterdir()) == []


def test_a_list_is_judged_as_one_after_the_other(made: Path, good_parts: list[Path]) -> None:
    """The threshold of a list of photographs holds for each of them."""
    model = STLM.from_pretrained(made, device="cpu")
    together = [prediction.score for prediction in model.predict(good_parts)]
    np.testing.assert_allclose([model.predict(path).score for path in good_parts], together, atol=1e-6)


def test_a_region_and_a_smallest_area_are_taken_up_and_what_lies_outside_does_not_count(
    toy_memory_model: STLM, good_parts: list[Path], tmp_path: Path
) -> None:
    left = np.zeros((64, 64), bool)
    left[:, :32] = True
    recalibrate(
        toy_memory_model, good_parts, tmp_path / "m", repo_id="me/m", results=RESULTS, looked_at=left, minimum_area=9
    )
    made = STLM.from_pretrained(tmp_path / "m", device="cpu")
    assert made.region is not None and made.region.inside.bool().numpy().tolist() == left.tolist()
    image = load_image(good_parts[0]).copy()
    area = round(9 * 64 * 64 / (image.shape[0] * image.shape[1]))
    assert made.judging.minimum_area == area and toy_memory_model.region is None
    clean = made.predict(image)
    image[:, 68:] = 255 - image[:, 68:]  # something beside the part
    beside = made.predict(image)
    assert beside.score == pytest.approx(clean.score, rel=0.2) and not beside.anomaly_map[:, 48:].any()
    assert "--minimum-area 9" in results_of(tmp_path / "m").provenance.commands[-1].line
    again = recalibrate(made, good_parts, tmp_path / "n", repo_id="me/n")  # a region stays
    assert again.region is not None and again.judging.minimum_area == area
