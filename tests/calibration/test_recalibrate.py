"""The same network in a new folder, its threshold from other photographs."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import judging_by, write_photographs
from recalibrated import ANOMALOUS, OLD, RESULTS, with_fnr

from stlm_hub.calibration.map_scales import measure_scales
from stlm_hub.calibration.recalibrate import recalibrate
from stlm_hub.calibration.threshold import choose_threshold
from stlm_hub.errors import ConfigError, DataError, ImageError
from stlm_hub.fingerprint import file_sha256, fingerprint
from stlm_hub.model_folder import results as facts
from stlm_hub.model_folder.names import FILES, MEMORY_NAME
from stlm_hub.model_folder.publish import check_folder
from stlm_hub.model_folder.results import FileFacts, Results
from stlm_hub.models.stlm.judging import MapScale
from stlm_hub.predict.images import load_image
from stlm_hub.stlm import STLM

pytestmark = pytest.mark.usefixtures("toy_streams")
WITHOUT_MEMORY = {*FILES} - {MEMORY_NAME}


def results_of(folder: Path) -> Results:
    return facts.load(folder / "results.json")


def test_the_threshold_is_that_of_the_new_scores_of_the_saved_weights(made: Path, good_parts: list[Path]) -> None:
    model = STLM.from_pretrained(made, device="cpu")
    scores = [prediction.score for prediction in model.predict(good_parts)]
    assert list(model.judging.normal_scores) == scores and len(set(scores)) == 6
    assert model.judging.calibration == choose_threshold(scores, 0.05) != OLD
    assert results_of(made).dataset.held_out == facts.Photographs(6, fingerprint(good_parts))


def test_the_network_is_the_same(made: Path, trained: STLM) -> None:
    state = trained.state_dict()
    for name, tensor in STLM.from_pretrained(made, device="cpu").state_dict().items():
        assert torch.equal(tensor, state[name].half().float() if tensor.is_floating_point() else state[name]), name


def test_model_and_results_of_others_are_left_alone(toy_model: STLM, trained: STLM, made: Path) -> None:
    assert trained.config == toy_model.config and trained.judging == toy_model.judging.replace(calibration=OLD)
    before = toy_model.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.state_dict().items())
    assert RESULTS.dataset.held_out == facts.Photographs(31, "bb") and RESULTS.maps["aggregation"].fnr == 0.25
    assert RESULTS.provenance.alias == "mvtec-bottle" and RESULTS.recalibration is None


def test_the_folder_is_complete_and_can_be_published(made: Path, trained: STLM) -> None:
    assert set(check_folder(made)) == WITHOUT_MEMORY == {path.name for path in made.iterdir()}
    assert [path.name for path in made.parent.iterdir()] == ["line-2"]
    results, weights = results_of(made), made / "model.safetensors"
    size = weights.stat().st_size
    assert results.files == {"model.safetensors": FileFacts(file_sha256(weights), size, "float16")}
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
    assert [prediction.score for prediction in made.predict(good_parts)] == list(made.judging.normal_scores)
    assert made.judging.scales == toy_memory_model.judging.scales  # of the combined map, which does not judge
    assert set(results_of(tmp_path / "m").files) == {"model.safetensors", "patch_memory.safetensors"}
    assert set(check_folder(tmp_path / "m")) == set(FILES)


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
    assert told == [(done, 12) for done in range(1, 13)]  # for the scales, then for the threshold
    model = STLM.from_pretrained(folder, device="cpu")
    assert [scale.anomaly_map for scale in model.judging.scales] == ["aggregation", "cosine"]
    assert model.judging.scales == measure_scales(model, map(load_image, good_parts))
    results = results_of(folder)
    assert results.test_scores is None and results.curves is None

    measured = dataclasses.replace(
        results, maps={**results.maps, "combined": facts.MapFigures(i_auroc=0.7)}, test_scores=RESULTS.test_scores
    )
    recalibrate(model, good_parts[:4], tmp_path / "again", repo_id="me/again", results=measured)
    other = STLM.from_pretrained(tmp_path / "again", device="cpu")
    assert other.judging.scales == measure_scales(other, map(load_image, good_parts[:4]))
    assert other.judging.scales != model.judging.scales
    again = results_of(tmp_path / "again")  # the figures are of other scales
    assert again.test_scores is None and again.maps["combined"] == facts.MapFigures(i_auroc=0.7)


def test_a_light_that_lifts_a_whole_map_does_not_blind_the_combined_one(
    trained: STLM, good_parts: list[Path], tmp_path: Path
) -> None:
    """On the scales of before, every good photograph scores 1.0 and every verdict is "anomalous"."""
    scales = measure_scales(trained, map(load_image, good_parts))
    heights = [scale.peak - scale.typical for scale in scales]
    lifted = tuple(
        MapScale(scale.anomaly_map, scale.typical - 60 * height, scale.peak - 60 * height)
        for scale, height in zip(scales, heights, strict=True)
    )
    blinded = judging_by(trained, anomaly_map="combined", scales=lifted)
    assert {prediction.score for prediction in blinded.predict(good_parts)} == {1.0}
    recalibrate(blinded, good_parts, tmp_path / "seeing", repo_id="me/seeing")
    seeing = STLM.from_pretrained(tmp_path / "seeing", device="cpu")
    assert not any(prediction.is_anomalous for prediction in seeing.predict(good_parts))
    assert seeing.calibration is not None and seeing.calibration.threshold < 1


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
    ("name", "sentence"), [("memory", "no memory of normal patches"), ("heat", "anomaly_map must be one of")]
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
        dataclasses.replace(RESULTS, test_scores=facts.TestScores((), (*ANOMALOUS, 0.9))),
    ):
        with pytest.raises(ConfigError, match=r"results\.json says fnr 0\.\d+, but by its test_scores"):
            recalibrate(trained, good_parts, tmp_path / "m", repo_id="me/m", results=results)
    assert list(tmp_path.iterdir()) == []


def test_a_list_is_judged_as_one_after_the_other(made: Path, good_parts: list[Path]) -> None:
    """The threshold of a list of photographs holds for each of them."""
    model = STLM.from_pretrained(made, device="cpu")
    together = [prediction.score for prediction in model.predict(good_parts)]
    np.testing.assert_allclose([model.predict(path).score for path in good_parts], together, atol=1e-6)
