"""What a model card says of the threshold."""

from __future__ import annotations

import dataclasses

import pytest
from card_model import (
    ANOMALOUS_SCORES,
    CONFIG,
    FIGURES,
    JUDGING,
    OWN_CONFIG,
    OWN_RESULTS,
    RESULTS,
    changed,
    front_matter,
    rendered,
    section,
    table,
    words,
)

from stlm_hub.calibration.threshold import choose_threshold
from stlm_hub.model_folder.results import CalibrationFacts, Photographs, Results, TestScores
from stlm_hub.models.stlm.judging import Calibration, Judging

BEFORE = CalibrationFacts(
    alias="mvtec-bottle", calibration=Calibration(0.05, 0.02, 31, "conformal", "2026-11-01"), trained_map="aggregation"
)


def judged_by(scores: list[float], rate: float = 0.02) -> Judging:
    """The judging that is calibrated on some held-out scores."""
    return Judging(calibration=choose_threshold(scores, rate), held_out_scores=tuple(scores))


def missing(n: int, scores: tuple[float, ...] = ANOMALOUS_SCORES) -> Results:
    """Results with these test scores, of which n are below the threshold."""
    figures = dataclasses.replace(FIGURES, fnr=n / len(scores))
    return changed(maps={"aggregation": figures}, test_scores={"anomalous": scores})


def test_the_threshold_stands_first_with_counts_of_the_photographs_on_either_side() -> None:
    text = rendered()
    assert text.index("\n## Threshold\n") == text.index("\n## ")
    part = words(section(text, "Threshold"))
    assert "score is **0.413279** or higher" in part
    assert "it missed 2 of 7 anomalous test photographs and rejected 1 of 4 good ones." in part
    assert "for a false-alarm rate of 2 % on 31 photographs of good parts held out of the training" in part
    assert "Counting would take 49 photographs. The rate is an estimate" in part
    assert 'model.predict("part.png", threshold=...)' in part


def test_a_score_equal_to_the_threshold_counts_as_anomalous() -> None:
    text = rendered(changed(test_scores={"good": (0.413279, 0.1)}))
    assert "rejected 1 of 2 good ones" in text


def test_the_method_of_the_calibration_is_said() -> None:
    assert JUDGING.calibration is not None
    for method, said in {
        "conformal": "split conformal prediction",
        "by *hand*": 'Its method was "by \\*hand\\*"',
    }.items():
        calibration = dataclasses.replace(JUDGING.calibration, method=method)
        assert said in rendered(judging=JUDGING.replace(calibration=calibration))


def test_a_threshold_at_the_highest_held_out_score_promises_what_counting_does() -> None:
    """pill: two of 40 scores lie above the prediction bound, so the threshold is not that bound."""
    judging = judged_by([0.1 + 0.001 * i for i in range(30)] + [0.9])
    assert judging.calibration is not None
    assert judging.calibration.method == "log-odds-t" and judging.threshold == pytest.approx(0.9)
    text = words(rendered(missing(6), judging=judging))
    assert (
        "just above the highest of their scores. Counting promises 1 false alarm in 32 good parts, 3.1 %; for 2 % it"
        in text
    )
    assert "log-odds" not in text
    assert "missed 6 of 7 anomalous test photographs and rejected 0 of 4 good ones" in text
    assert "it is not fit for use as it is" in text
    below = judged_by([0.1 + 0.001 * i for i in range(31)])
    text = words(rendered(missing(0), judging=below))
    assert "log-odds" in text and "highest of their scores" not in text and "not fit for use" not in text


def test_other_thresholds_are_calibrated_like_the_models_own_and_counted() -> None:
    scores = [0.01 * i for i in range(1, 32)]
    judging = judged_by(scores)
    missed = sum(score < judging.threshold for score in ANOMALOUS_SCORES)
    rows = table(section(rendered(missing(missed), judging=judging), "Threshold"))
    assert list(rows)[2:] == ["1 %", "**2 %**", "5 %", "10 %", "20 %"]
    assert rows["**2 %**"] == [f"{judging.threshold:.4f}", "0 of 4", f"{missed} of 7"]
    tenth = choose_threshold(scores, 0.1).threshold  # the 29th of 31
    assert tenth == pytest.approx(0.29) and rows["10 %"] == ["0.2900", "1 of 4", "1 of 7"]
    alone = table(section(rendered(OWN_RESULTS, OWN_CONFIG, judging), "Threshold"))
    assert alone["10 %"] == ["0.2900"] and alone["false-alarm rate"] == ["threshold"]
    assert "| 10 %" not in rendered()  # three scores give no threshold


@pytest.mark.parametrize(
    ("missed", "said", "unsaid"),
    [
        (5, "", "misses more than"),
        (6, "**It misses more than a quarter**", "more than half"),
        (10, "**It misses more than a quarter**", "more than half"),
        (11, "**It misses more than half: it is not fit for use as it is.**", "more than a quarter"),
    ],
)
def test_a_model_that_misses_much_says_so_first(missed: int, said: str, unsaid: str) -> None:
    text = rendered(missing(missed, (0.0,) * missed + (1.0,) * (20 - missed)))
    top = text.split("\n| ")[0].split("## Use it")[0]
    assert f"missed {missed} of 20 anomalous test photographs" in top
    assert said in top and unsaid not in top


def test_without_good_test_photographs_none_are_counted() -> None:
    text = rendered(changed(test_scores=TestScores((), ANOMALOUS_SCORES)))
    assert "it missed 2 of 7 anomalous test photographs.\n" in text


def test_a_calibration_on_other_photographs_is_said_and_what_was_before() -> None:
    results = changed(dataset={"held_out": Photographs(6)}, recalibration=BEFORE)
    text = words(rendered(results))
    assert "**Calibrated again.** The network is that of mvtec-bottle, unchanged." in text
    assert "The threshold was chosen anew, on > 6 photographs of good parts of its user's own." in text
    assert "Before, the threshold was 0.05, for a false-alarm rate of 2 %, from 31 photographs." in text
    assert "photographs of good parts of its user's own; no defect took part" in text and "held out of" not in text
    assert "it missed" not in text  # the test photographs are of the setting before
    assert "setting that the model was trained for, not of the one that it was calibrated for since" in text
    assert "the FNR is at the new threshold" in text
    assert "178 good for training, 6 good of its user's own for the threshold" in text
    assert front_matter(rendered(results)).eval_results
    never = dataclasses.replace(BEFORE, alias="", calibration=None)
    text = words(rendered(changed(recalibration=never)))
    assert "that of another model, unchanged" in text and "Before, the model had no calibrated threshold." in text
    assert "alibrated again" not in rendered() and "Before, " not in rendered()


def test_another_map_since_the_training_is_said() -> None:
    results = changed(recalibration=BEFORE, maps={**RESULTS.maps, "cosine": dataclasses.replace(FIGURES, fnr=None)})
    results = changed(results, dataset={"note": "Painted."}, test_scores=None)
    card = rendered(results, judging=JUDGING.replace(anomaly_map="cosine"))
    text = words(card)
    assert "another of its maps than after its training: without aggregation instead of with aggregation." in text
    assert "Before, the threshold was 0.05, of another map, for" in text
    assert "**About these figures, of the model as it was trained.** Painted." in text
    assert "The map was chosen afterwards: if it was for these figures, they are on the optimistic side." in text
    assert "the FNR at the new threshold is not known" in text and "Of all figures higher is better." in text
    assert front_matter(card).eval_results is None
    combined = rendered(changed(results, maps={"combined": FIGURES}), judging=JUDGING.replace(anomaly_map="combined"))
    assert "The threshold and the scales of its combined map were found anew, on" in combined
    assert "and the scales that its combined map had there, not of the one" in words(combined)


def test_a_combined_map_with_new_scales_has_no_figures_in_the_model_index() -> None:
    before = dataclasses.replace(BEFORE, trained_map="combined")
    judging = JUDGING.replace(anomaly_map="combined")
    results = changed(maps={"combined": FIGURES})
    assert front_matter(rendered(results, judging=judging)).eval_results
    assert front_matter(rendered(changed(results, recalibration=before), judging=judging)).eval_results is None


def test_results_that_did_not_come_along_are_not_known() -> None:
    before = dataclasses.replace(BEFORE, training_results=False)
    text = rendered(Results(recalibration=before), CONFIG)
    assert "**Not known.**" in text and "Not measured" not in text and "AUROC" not in text
    assert "under the licence of the model that was calibrated again" in text and "No licence was chosen" not in text
