"""The same network in a new folder, its threshold from other photographs, and results that say so."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image

from stlm_hub.calibration.map_scales import measure_scales
from stlm_hub.calibration.recalibrate import recalibrate
from stlm_hub.calibration.threshold import calibrate
from stlm_hub.errors import ConfigError, DataError, ImageError
from stlm_hub.fingerprint import file_sha256, fingerprint
from stlm_hub.model_folder.folder import FILES
from stlm_hub.model_folder.publish import check_folder
from stlm_hub.models.stlm.config import Calibration, MapScale, STLMConfig
from stlm_hub.predict.images import load_image
from stlm_hub.predict.predictor import infer
from stlm_hub.stlm import STLM

OLD = Calibration(threshold=0.05, false_alarm_rate=0.02, n=31, method="log-odds-t", date="2026-01-02")
RESULTS: dict[str, Any] = {
    "alias": "mvtec-bottle",
    "dataset": {
        "name": "MVTec AD",
        "license": "cc-by-nc-sa-4.0",
        "homepage": "https://www.mvtec.com",
        "split": "official",
        "train": {"n": 178, "sha256": "aa"},
        "held_out": {"n": 31, "sha256": "bb"},
        "test": {"n_good": 2, "n_anomalous": 4},
    },
    "weights_license": "cc-by-nc-sa-4.0",
    "repo_id": "org/stlm-mvtec-bottle",
    "metrics": {"i_auroc": 0.9, "fnr": 0.25},
    "metrics_without_aggregation": {"i_auroc": 0.8, "fnr": 0.5},
    "calibration": asdict(OLD),
    "held_out_scores": [0.01, 0.02],
    "test_scores": {"good": [0.01, 0.02], "anomalous": [0.001, 0.0501, 0.9998, 0.9999]},
    "weights": {"sha256": "cc", "bytes": 1, "dtype": "float16"},
    "command": "python -m train mvtec-bottle --profile cpu",
    "steps": 500,
    "date": "2026-01-02",
}


@pytest.fixture(scope="module")
def trained(tiny_model: STLM) -> STLM:
    """`tiny_model` with a calibration, in float32: what is in memory is not what a float16 file holds."""
    model = copy.deepcopy(tiny_model)
    model.config = model.config.replace(calibration=OLD)
    return model


@pytest.fixture(scope="module")
def good_parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("good")
    for i in range(6):
        pixels = np.random.default_rng(i).integers(0, 256, (5, 5, 3), np.uint8)
        Image.fromarray(pixels).resize((90, 70), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def made(trained: STLM, good_parts: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("models") / "line-2"
    returned = recalibrate(trained, good_parts, output, repo_id="me/line-2", results=RESULTS, false_alarm_rate=0.05)
    assert returned == json.loads((output / "results.json").read_text())
    return output


def results_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "results.json").read_text()))


def words(text: str) -> str:
    return " ".join(text.split()).replace("> ", "")


def test_the_threshold_is_that_of_the_new_scores_of_the_saved_weights(made: Path, good_parts: list[Path]) -> None:
    model = STLM.from_pretrained(made, device="cpu")
    scores = [prediction.score for prediction in model.predict(good_parts)]
    results = results_of(made)
    assert results["held_out_scores"] == scores and len(set(scores)) == 6
    assert model.config.calibration == calibrate(scores, 0.05)
    assert results["calibration"] == asdict(calibrate(scores, 0.05)) and results["calibration"] != asdict(OLD)
    assert results["dataset"]["held_out"] == {"n": 6, "sha256": fingerprint(good_parts)}


def test_the_network_is_the_same(made: Path, trained: STLM) -> None:
    state = trained.state_dict()
    for name, tensor in STLM.from_pretrained(made, device="cpu").state_dict().items():
        assert torch.equal(tensor, state[name].half().float() if tensor.is_floating_point() else state[name]), name


def test_model_and_results_of_others_are_left_alone(
    tiny_model: STLM, trained: STLM, made: Path, good_parts: list[Path]
) -> None:
    assert trained.config == tiny_model.config.replace(calibration=OLD)
    before = tiny_model.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.state_dict().items())
    assert RESULTS["dataset"]["held_out"]["n"] == 31 and RESULTS["metrics"]["fnr"] == 0.25
    assert RESULTS["alias"] == "mvtec-bottle" and "recalibration" not in RESULTS


def test_the_folder_is_complete_and_can_be_published(made: Path) -> None:
    assert set(check_folder(made)) == set(FILES) == {path.name for path in made.iterdir()}
    assert [path.name for path in made.parent.iterdir()] == ["line-2"]
    results = results_of(made)
    weights = made / "model.safetensors"
    assert results["weights"] == {
        "sha256": file_sha256(weights),
        "bytes": weights.stat().st_size,
        "dtype": "float16",
    }


def test_figures_are_those_at_the_new_threshold(made: Path) -> None:
    results = results_of(made)
    assert 0.0501 < results["calibration"]["threshold"] < 0.9998
    assert results["metrics"] == {"i_auroc": 0.9, "fnr": 0.5}  # it was 0.25: one more of the four is missed
    assert results["metrics_without_aggregation"] == {"i_auroc": 0.8, "fnr": None}  # no threshold, so no rate


def test_fnr_is_of_the_map_that_decides(trained: STLM, good_parts: list[Path], tmp_path: Path) -> None:
    model = copy.deepcopy(trained)
    model.config = model.config.replace(anomaly_map="cosine")
    known = {**RESULTS, "metrics_without_aggregation": {"i_auroc": 0.8, "fnr": 0.25}}
    results = recalibrate(model, good_parts, tmp_path / "cosine", repo_id="me/cosine", results=known)
    threshold = results["calibration"]["threshold"]
    missed = sum(score < threshold for score in RESULTS["test_scores"]["anomalous"]) / 4
    assert results["metrics"]["fnr"] is None and results["metrics_without_aggregation"]["fnr"] == missed


def test_another_map_judges_where_it_is_named(trained: STLM, good_parts: list[Path], tmp_path: Path) -> None:
    seeds = [{"seed": 1, "metrics": {"i_auroc": 0.7, "fnr": 0.3}, "metrics_without_aggregation": {"i_auroc": 0.6}}]
    results = recalibrate(
        trained,
        good_parts,
        tmp_path / "cosine",
        repo_id="me/cosine",
        results={**RESULTS, "curves": {"pixels": []}, "other_seeds": seeds},
        anomaly_map="cosine",
    )
    model = STLM.from_pretrained(tmp_path / "cosine", device="cpu")
    assert trained.config.anomaly_map == "aggregation" and model.config.anomaly_map == "cosine"
    scores = [maps["cosine"].score for maps in infer(model, map(load_image, good_parts), ("cosine",))]
    assert results["held_out_scores"] == scores == [prediction.score for prediction in model.predict(good_parts)]
    assert results["anomaly_map"] == "cosine" and results["test_scores"] is None and results["curves"] is None
    assert results["metrics"]["fnr"] is None and results["metrics_without_aggregation"]["fnr"] is None
    assert results["other_seeds"][0]["metrics"] == {"i_auroc": 0.7, "fnr": None} and seeds[0]["metrics"]["fnr"] == 0.3
    card = (tmp_path / "cosine" / "README.md").read_text()
    text = words(card)
    assert "It judges by another of its maps than after its training: without aggregation instead of with" in text
    assert "|  | **This model**, without aggregation | This model, with aggregation |" in card
    assert "The map was chosen afterwards: if it was for these figures, they are on the optimistic side." in text
    assert "the FNR at the new threshold is not known" in text and "- Of all of them higher is better." in text
    assert "Before, the threshold of the map with aggregation was 0.05," in text
    assert "Its verdicts are by the map without aggregation alone." in text
    assert "--model mvtec-bottle --output cosine --map cosine" in text
    assert "judged normal (missed" not in text and "more time by the same recipe" not in text
    assert ModelCard(card).data.eval_results is None


def test_a_further_calibration_keeps_what_the_earlier_ones_changed(
    trained: STLM, good_parts: list[Path], tmp_path: Path
) -> None:
    results: dict[str, Any] = {**RESULTS, "command": "python -m train x"}
    model = trained
    for name, anomaly_map in (("b", "cosine"), ("c", None), ("d", "aggregation")):
        results = recalibrate(
            model, good_parts, tmp_path / name, repo_id=f"me/{name}", results=results, anomaly_map=anomaly_map
        )
        model = STLM.from_pretrained(tmp_path / name, device="cpu")
    card = words((tmp_path / "c" / "README.md").read_text())
    assert "without aggregation instead of with aggregation" in card and "Before, the threshold was" in card
    back = (tmp_path / "d" / "README.md").read_text()
    assert "instead of" not in words(back) and results["metrics"]["fnr"] is None and results["test_scores"] is None
    commands = [
        "python -m train x",
        "stlm calibrate FOLDER --model mvtec-bottle --output b --map cosine",
        "stlm calibrate FOLDER --model b --output c",
        "stlm calibrate FOLDER --model c --output d --map aggregation",
    ]
    assert "```bash\n" + "\n".join(commands) + "\n```" in back


def test_seeds_in_the_card_have_no_spread_of_what_only_one_of_them_has(
    trained: STLM, good_parts: list[Path], tmp_path: Path
) -> None:
    seeds = [{"seed": 1, "metrics": {"i_auroc": 0.7, "fnr": 0.3}}]
    recalibrate(
        trained, good_parts, tmp_path / "m", repo_id="me/m", results={**RESULTS, "seed": 0, "other_seeds": seeds}
    )
    lines = (tmp_path / "m" / "README.md").read_text().splitlines()
    rows = [line.split(" | ")[1:3] for line in lines if line.startswith(("| 0 |", "| 1 |", "| **mean", "| highest"))]
    fnr = rows[0][1]
    assert fnr.endswith(" %") and rows == [["90.00 %", fnr], ["70.00 %", "-"], ["80.00 %", "-"], ["20.00", "-"]]


def test_the_memory_alone_judges_where_it_is_named(good_parts: list[Path], tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = STLMConfig(image_size=64, feature_levels=("stage1",), memory_entries=8, memory_channels=4)
    model = STLM(config).eval()
    with torch.no_grad():
        model.memory.components.normal_()
        model.memory.entries.normal_()
    results = recalibrate(model, good_parts, tmp_path / "m", repo_id="me/m", anomaly_map="memory")
    made = STLM.from_pretrained(tmp_path / "m", device="cpu")
    assert made.config.anomaly_map == "memory" and made.config.calibration is not None
    assert [prediction.score for prediction in made.predict(good_parts)] == results["held_out_scores"]
    assert "Its verdicts are by the map of the memory alone." in words((tmp_path / "m" / "README.md").read_text())


def test_the_combined_map_gets_its_scales_from_the_photographs(
    trained: STLM, good_parts: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "combined"
    told: list[tuple[int, int]] = []
    results = recalibrate(
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
    assert [scale.anomaly_map for scale in model.config.combined_maps] == ["aggregation", "cosine"]
    assert model.config.combined_maps == measure_scales(model, map(load_image, good_parts))
    card = words((folder / "README.md").read_text())
    assert "same photographs set the scales of the combined map" in card
    assert "**The map that it judges by, combined, was not measured on these photographs.**" in card
    assert "| | This model, with aggregation | This model, without aggregation |" in card
    assert "if it was for these figures" not in card

    measured = {**results, "metrics_combined": {"i_auroc": 0.7, "fnr": None}, "test_scores": RESULTS["test_scores"]}
    again = recalibrate(model, good_parts[:4], tmp_path / "again", repo_id="me/again", results=measured)
    other = STLM.from_pretrained(tmp_path / "again", device="cpu")
    assert other.config.combined_maps == measure_scales(other, map(load_image, good_parts[:4]))
    assert other.config.combined_maps != model.config.combined_maps
    assert again["test_scores"] is None and again["metrics_combined"] == {"i_auroc": 0.7, "fnr": None}
    written = (tmp_path / "again" / "README.md").read_text()
    assert ModelCard(written).data.eval_results is None  # they are of other scales
    card = words(written)
    assert "the setting that the model was trained for and the scales that its combined map had there, not of" in card
    assert "same photographs set the scales of the combined map" in card


def test_a_light_that_lifts_a_whole_map_does_not_blind_the_combined_one(
    trained: STLM, good_parts: list[Path], tmp_path: Path
) -> None:
    """On the scales of before, every good photograph scores 1.0 and every verdict is "anomalous"."""
    blinded = copy.deepcopy(trained)
    scales = measure_scales(blinded, map(load_image, good_parts))
    heights = [scale.peak - scale.typical for scale in scales]
    lifted = tuple(
        MapScale(scale.anomaly_map, scale.typical - 60 * height, scale.peak - 60 * height)
        for scale, height in zip(scales, heights, strict=True)
    )
    blinded.config = blinded.config.replace(anomaly_map="combined", combined_maps=lifted)
    assert {prediction.score for prediction in blinded.predict(good_parts)} == {1.0}
    recalibrate(blinded, good_parts, tmp_path / "seeing", repo_id="me/seeing")
    seeing = STLM.from_pretrained(tmp_path / "seeing", device="cpu")
    assert not any(prediction.is_anomalous for prediction in seeing.predict(good_parts))
    assert seeing.config.calibration is not None and seeing.config.calibration.threshold < 1


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


def test_results_say_what_was_before(made: Path) -> None:
    results = results_of(made)
    assert results["recalibration"]["before"] == {
        "alias": "mvtec-bottle",
        "repo_id": "org/stlm-mvtec-bottle",
        "weights_sha256": "cc",
        "held_out": {"n": 31, "sha256": "bb"},
        "calibration": asdict(OLD),
        "map": "with aggregation",
    }
    assert results["recalibration"]["trained_map"] == "aggregation"
    assert results["alias"] == "line-2" and results["repo_id"] == "me/line-2"
    for name in ("command", "weights_license", "steps", "date", "test_scores"):
        assert results[name] == RESULTS[name], name
    assert results["dataset"]["train"] == RESULTS["dataset"]["train"]


def test_the_card_says_so(made: Path) -> None:
    card = (made / "README.md").read_text()
    text = words(card)
    assert "**Calibrated again.** The network is that of mvtec-bottle, unchanged." in text
    assert "on 6 photographs of good parts of its user's own." in text
    assert "Before, the threshold was 0.05, for a false-alarm rate of 2 %, from 31 photographs." in text
    assert "scores of 6 photographs of good parts of its user's own, for a false-alarm rate of **5 %**" in text
    assert "say little about the one that the threshold is for" in text and "the FNR is at the new threshold" in text
    assert "the others were not calibrated again" in text and "has a threshold of its own" not in text
    assert "178 good for training, 6 good ones of its user's own for the threshold" in text
    assert "held out for the threshold" not in text  # 31 of the official training photographs were, for the old one
    again = "stlm calibrate FOLDER --model mvtec-bottle --output line-2 --false-alarm-rate 0.05"
    assert f"```bash\n{RESULTS['command']}\n{again}\n```" in card
    assert ModelCard(card).data["license"] == "cc-by-nc-sa-4.0" and "Not for commercial use" in card


def test_without_results_the_card_claims_nothing(trained: STLM, good_parts: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "line-3"
    results = recalibrate(trained, good_parts[:4], output, repo_id="me/line-3")
    assert set(check_folder(output)) == set(FILES)
    assert "metrics" not in results and "weights_license" not in results and "date" not in results
    assert results["recalibration"]["before"]["calibration"] == asdict(OLD)
    text = words((output / "README.md").read_text())
    assert "**Not known.**" in text and "was never tried" not in text and "AUROC" not in text
    assert "under the licence of the model that was calibrated again" in text and "No licence was chosen" not in text
    assert "on 4 photographs of good parts of its user's own" in text

    again = recalibrate(
        STLM.from_pretrained(output, device="cpu"), good_parts, tmp_path / "b", repo_id="me/b", results=results
    )
    assert again["recalibration"]["training_results"] is False
    assert again["recalibration"]["before"]["calibration"] == results["calibration"]
    assert "**Not known.**" in (tmp_path / "b" / "README.md").read_text()


def test_a_model_without_calibration_and_scores_gets_one(
    tiny_model: STLM, good_parts: list[Path], tmp_path: Path
) -> None:
    unscored = {**RESULTS, "calibration": None, "test_scores": None}
    results = recalibrate(tiny_model, good_parts, tmp_path / "new", repo_id="me/new", results=unscored)
    assert results["metrics"] == {"i_auroc": 0.9, "fnr": None}
    assert tiny_model.config.calibration is None and results["recalibration"]["before"]["calibration"] is None
    assert "Before, the model had no calibrated threshold." in (tmp_path / "new" / "README.md").read_text()


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
    for name in FILES:
        assert (output / name).read_bytes() == (made / name).read_bytes(), name


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


@pytest.mark.parametrize(
    ("results", "sentence"),
    [
        ({**RESULTS, "calibration": {**asdict(OLD), "threshold": 0.06}}, "different thresholds"),
        ({**RESULTS, "calibration": None}, "different thresholds"),
        ({}, "different thresholds"),
        ([RESULTS], "not what a training writes"),
        ({**RESULTS, "dataset": "MVTec AD"}, "not what a training writes"),
        ({**RESULTS, "image_size": 128, "test_scores": [0.5]}, "not what a training writes"),
        ({**RESULTS, "test_scores": {"good": [], "anomalous": 3}}, "not what a training writes"),
        ({**RESULTS, "test_scores": {"good": [], "anomalous": ["0.5"]}}, "not what a training writes"),
        ({**RESULTS, "test_scores": {"good": ["0.5"], "anomalous": []}}, "not what a training writes"),
        ({**RESULTS, "recalibration": {"command": "stlm calibrate"}}, "not what a training writes"),
        ({**RESULTS, "other_seeds": [3]}, "must be a list of objects"),
        ({**RESULTS, "other_seeds": [{"metrics": "x"}]}, "not what a training writes"),
        ({**RESULTS, "steps": "x", "seconds": "y"}, "not what a training writes"),
    ],
)
def test_results_of_another_model_are_refused(
    results: Any, sentence: str, trained: STLM, good_parts: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        recalibrate(trained, good_parts, tmp_path / "m", repo_id="me/m", results=results)
    assert list(tmp_path.iterdir()) == []


def test_it_needs_nothing_of_the_training_extra() -> None:
    program = """
import sys
for name in ("accelerate", "sklearn", "skimage", "matplotlib", "onnx", "tensorboard"):
    sys.modules[name] = None
import stlm_hub.calibration.recalibrate, stlm_hub.predict.photographs, stlm_hub.cli.main
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120, cwd=Path(__file__).parents[2])
