"""What results.json and the card of a model say after a calibration on a user's own photographs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from recalibrated import OLD, RESULTS, SEED, words

from stlm_hub.model_folder import results as facts
from stlm_hub.model_folder.figures import MapFigures
from stlm_hub.model_folder.names import FILES, MEMORY_NAME, REGION_NAME
from stlm_hub.model_folder.provenance import CalibrationFacts, Photographs
from stlm_hub.model_folder.publish import check_folder
from stlm_hub.model_folder.results import Results
from stlm_hub.predict.images import load_image
from stlm_hub.predict.predictor import infer
from stlm_hub.stlm import STLM
from stlm_hub.training.recalibrate import recalibrate

pytestmark = pytest.mark.usefixtures("toy_streams")


def results_of(folder: Path) -> Results:
    return facts.load(folder / "results.json")


def card_of(folder: Path) -> str:
    return (folder / "README.md").read_text()


def test_figures_stay_but_the_share_of_missed_ones_is_not_known_on_other_scales(made: Path) -> None:
    assert results_of(made).maps == {"aggregation": MapFigures(i_auroc=0.9), "cosine": MapFigures(i_auroc=0.8)}


def test_results_say_what_was_before(made: Path) -> None:
    results = results_of(made)
    assert results.recalibration == CalibrationFacts(
        alias="mvtec-bottle",
        repo_id="org/stlm-mvtec-bottle",
        weights_sha256="cc",
        held_out=Photographs(31, "bb"),
        calibration=OLD,
        anomaly_map="aggregation",
        trained_map="aggregation",
        training_results=True,
    )
    source, before = results.provenance, RESULTS.provenance
    assert (source.alias, source.repo_id) == ("line-2", "me/line-2")
    again = "stlm calibrate FOLDER --model mvtec-bottle --output line-2 --false-alarm-rate 0.05"
    assert [command.line for command in source.commands] == ["python -m train mvtec-bottle --profile cpu", again]
    assert (source.weights_license, source.profile, source.made) == ("cc-by-nc-sa-4.0", "cpu", before.made)
    assert results.test_scores is None and results.curves is None  # they are of other scales
    for name in ("paper", "training", "latency", "other_seeds"):
        assert getattr(results, name) == getattr(RESULTS, name), name
    assert dataclasses.replace(results.dataset, held_out=RESULTS.dataset.held_out) == RESULTS.dataset


def test_the_card_says_so(made: Path) -> None:
    card = card_of(made)
    text = words(card)
    assert "**Calibrated again.** The network is that of mvtec-bottle, unchanged." in text
    assert "on 6 photographs of good parts of its user's own." in text
    assert "Before, the threshold was 0.05, from 31 photographs." in text
    assert "as far as 6 photographs of good parts can tell" in text
    assert "The thresholds were chosen on photographs of good parts of its user's own; no defect took part." in text
    assert "not of the one that it was calibrated for since; the FNR at the new threshold is not known" in text
    assert "178 good for training, 6 good of its user's own for the threshold" in text
    assert "held out of the training" not in text  # 31 of the official training photographs were, for the old one
    assert "stlm calibrate FOLDER --model mvtec-bottle --output line-2 --false-alarm-rate 0.05\n```" in card
    assert ModelCard(card).data["license"] == "cc-by-nc-sa-4.0" and "Not for commercial use" in card


def test_another_map_judges_where_it_is_named(trained: STLM, good_parts: list[Path], tmp_path: Path) -> None:
    folder, known = tmp_path / "cosine", dataclasses.replace(RESULTS, other_seeds=(SEED,))
    recalibrate(trained, good_parts, folder, repo_id="me/cosine", results=known, anomaly_map="cosine")
    model = STLM.from_pretrained(folder, device="cpu")
    assert trained.judging.judge_by == "aggregation" and model.judging.judge_by == "cosine"
    scores = [one.maps["cosine"].score for one in infer(model, map(load_image, good_parts), ("cosine",))]
    assert scores == [one.score for one in model.predict(good_parts)]
    assert list(model.judging.normal_scores) == pytest.approx(scores, abs=1e-5)
    results = results_of(folder)
    assert results.test_scores is None and results.curves is None
    assert {name: figures.fnr for name, figures in results.maps.items()} == {"aggregation": None, "cosine": None}
    assert results.other_seeds[0].maps["aggregation"] == MapFigures(i_auroc=0.7)  # its threshold was its own
    assert known.other_seeds[0].maps["aggregation"].fnr == 0.3
    card = card_of(folder)
    text = words(card)
    assert "It judges by another of its maps than after its training: without aggregation instead of with" in text
    assert "|  | **This model**, without aggregation | This model, with aggregation |" in card
    assert "The map was chosen afterwards: if it was for these figures, they are on the optimistic side." in text
    assert "the FNR at the new threshold is not known" in text and "Of all figures higher is better." in text
    assert "Before, the threshold was 0.05, of another map," in text
    assert "Its verdicts are by the map without aggregation alone." in text
    assert "--model mvtec-bottle --output cosine --map cosine" in text
    assert "it missed" not in text and "more time by the same recipe" not in text
    assert ModelCard(card).data.eval_results is None


def test_a_further_calibration_keeps_what_the_earlier_ones_changed(
    trained: STLM, good_parts: list[Path], tmp_path: Path
) -> None:
    results, model = RESULTS, trained
    for name, anomaly_map in (("b", "cosine"), ("c", None), ("d", "aggregation")):
        recalibrate(model, good_parts, tmp_path / name, repo_id=f"me/{name}", results=results, anomaly_map=anomaly_map)
        model, results = STLM.from_pretrained(tmp_path / name, device="cpu"), results_of(tmp_path / name)
        assert results.recalibration is not None and results.recalibration.trained_map == "aggregation"
    text = words(card_of(tmp_path / "c"))
    assert "without aggregation instead of with aggregation" in text and "Before, the threshold was" in text
    back = card_of(tmp_path / "d")
    assert "instead of" not in words(back) and results.maps["aggregation"].fnr is None and results.test_scores is None
    commands = [
        "python -m train mvtec-bottle --profile cpu",
        "stlm calibrate FOLDER --model mvtec-bottle --output b --map cosine",
        "stlm calibrate FOLDER --model b --output c",
        "stlm calibrate FOLDER --model c --output d --map aggregation",
    ]
    assert "```bash\n" + "\n".join(commands) + "\n```" in back


def test_seeds_in_the_card_have_no_spread_of_what_none_of_them_has(
    trained: STLM, good_parts: list[Path], tmp_path: Path
) -> None:
    known = dataclasses.replace(RESULTS, other_seeds=(SEED,))
    recalibrate(trained, good_parts, tmp_path / "m", repo_id="me/m", results=known)
    lines = card_of(tmp_path / "m").splitlines()
    rows = [line.split(" | ")[1:3] for line in lines if line.startswith(("| 0 |", "| 1 |", "| **mean", "| highest"))]
    rows = [[cell.removesuffix(" |") for cell in row] for row in rows]
    assert rows == [["90.00 %"], ["70.00 %"], ["80.00 %"], ["20.00"]]  # none has a share of missed ones any more


def test_without_results_the_card_claims_nothing(trained: STLM, good_parts: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "line-3"
    first = recalibrate(trained, good_parts[:4], output, repo_id="me/line-3")
    assert set(check_folder(output)) == {*FILES} - {MEMORY_NAME, REGION_NAME}
    results = results_of(output)
    assert results.maps == {} and results.training is None and results.provenance.weights_license == ""
    assert results.provenance.made.date == ""  # nobody knows when the network was made
    assert results.recalibration is not None and results.recalibration.calibration == OLD
    text = words(card_of(output))
    assert "**Not known.**" in text and "was never tried" not in text and "AUROC" not in text
    assert "under the licence of the model that was calibrated again" in text and "No licence was chosen" not in text
    assert "on 4 photographs of good parts of its user's own" in text

    model = STLM.from_pretrained(output, device="cpu")
    recalibrate(model, good_parts, tmp_path / "b", repo_id="me/b", results=results)
    again = results_of(tmp_path / "b").recalibration
    assert again is not None and again.training_results is False
    assert again.calibration == first.judging.calibration and again.alias == "line-3"
    assert "**Not known.**" in card_of(tmp_path / "b")


def test_a_model_without_calibration_and_scores_gets_one(
    toy_model: STLM, good_parts: list[Path], tmp_path: Path
) -> None:
    unscored = dataclasses.replace(RESULTS, test_scores=None)
    made = recalibrate(toy_model, good_parts, tmp_path / "new", repo_id="me/new", results=unscored)
    assert toy_model.calibration is None and made.calibration is not None
    results = results_of(tmp_path / "new")
    assert results.maps["aggregation"] == MapFigures(i_auroc=0.9)
    assert results.recalibration is not None and results.recalibration.calibration is None
    assert "Before, the model had no calibrated threshold." in words(card_of(tmp_path / "new"))
