"""What a model card says of the threshold."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from card_model import (
    ANOMALOUS_SCORES,
    CALIBRATION,
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

from stlm_hub.calibration.threshold import choose_threshold, order_statistic
from stlm_hub.model_folder.card.threshold import RATES, threshold_facts
from stlm_hub.model_folder.figures import TestScores
from stlm_hub.model_folder.provenance import CalibrationFacts, Photographs
from stlm_hub.model_folder.results import Results
from stlm_hub.models.stlm.config import PatchMemoryConfig
from stlm_hub.models.stlm.judging import Judging
from stlm_hub.models.stlm.outline_gain import OutlineGain

BEFORE = CalibrationFacts(
    alias="mvtec-bottle",
    calibration=dataclasses.replace(CALIBRATION, threshold=0.05, review_threshold=0.05, date="2026-11-01"),
    trained_map="aggregation",
)
SCORES = tuple(0.01 * i for i in range(1, 32))  # of good photographs
PROBES = tuple(0.02 * i for i in range(1, 41))


def judged_by(
    scores: tuple[float, ...] = SCORES, disturbed: tuple[float, ...] = (), probes: tuple[float, ...] = ()
) -> Judging:
    """The judging that is calibrated on some scores."""
    calibration = choose_threshold(scores, 0.02, disturbed=disturbed, probes=probes)
    return Judging(calibration=calibration, normal_scores=scores, disturbed_scores=disturbed, probe_scores=probes)


def missing(n: int, scores: tuple[float, ...] = ANOMALOUS_SCORES) -> Results:
    """Results with these test scores, of which n are below the threshold."""
    figures = dataclasses.replace(FIGURES, fnr=n / len(scores))
    return changed(maps={"aggregation": figures}, test_scores={"anomalous": scores})


def test_the_thresholds_stand_first_with_counts_of_the_photographs_on_either_side() -> None:
    text = rendered()
    assert text.index("\n## Threshold\n") == text.index("\n## ")
    part = words(section(text, "Threshold"))
    assert "score is **0.413279** or higher, and is worth a second look from **0.3719**." in part
    assert "it missed 2 of 7 anomalous test photographs and rejected 1 of 4 good ones." in part
    assert "At most 9.2 % of good parts are rejected, 95 % sure, as far as 31 photographs of good parts" in part
    assert "Of faint defects painted on them, which no stream was trained on, it misses 15 %." in part
    assert "The thresholds were chosen on photographs of good parts; no defect took part." in part
    assert 'model.predict("part.png", threshold=...)' in part


def test_thresholds_that_are_one_are_told_as_one() -> None:
    calibration = dataclasses.replace(CALIBRATION, review_threshold=CALIBRATION.threshold)
    text = rendered(judging=JUDGING.replace(calibration=calibration))
    assert "score is **0.413279** or higher.\n" in text and "second look" not in text


@pytest.mark.parametrize(("n", "told"), [(31, "; 99 would carry 1 %."), (98, "; 99 would carry 1 %."), (99, ".")])
def test_how_many_photographs_would_carry_one_percent_is_said_where_there_are_fewer(n: int, told: str) -> None:
    calibration = dataclasses.replace(CALIBRATION, n=n)
    assert f"as {n} photographs of good parts can tell{told}\n" in rendered(
        judging=JUDGING.replace(calibration=calibration)
    )


def test_without_pseudo_anomalies_nothing_is_said_of_those_missed() -> None:
    calibration = dataclasses.replace(CALIBRATION, miss_rate=None)
    assert "faint defects" not in rendered(judging=JUDGING.replace(calibration=calibration))
    none = dataclasses.replace(CALIBRATION, miss_rate=0.0)
    assert "trained on, it misses 0 %." in rendered(judging=JUDGING.replace(calibration=none))


def test_a_score_equal_to_the_threshold_counts_as_anomalous() -> None:
    text = rendered(changed(test_scores={"good": (0.413279, 0.1)}))
    assert "rejected 1 of 2 good ones" in text


def test_the_bound_is_called_approximate_where_streams_were_trained_on_some_of_the_photographs() -> None:
    told = "so the bound is an approximation"
    many = judged_by(tuple(0.002 * i for i in range(1, 41)))
    assert told not in rendered() and "lifted" not in rendered()  # three scores, 31 photographs held out
    assert told in rendered(judging=many, results=changed(maps={}))
    assert told not in rendered(judging=many, results=changed(maps={}, dataset={"held_out": Photographs(40)}))
    assert told not in rendered(judging=many, results=changed(maps={}, training=None))
    assert told not in rendered(judging=many, results=changed(maps={}, recalibration=BEFORE))


def test_a_memory_leaves_out_what_it_holds_of_the_photograph_itself() -> None:
    told = "scored by the memory as it would be without it"
    assert told in rendered(config=CONFIG.replace(patch_memory=PatchMemoryConfig())) and told not in rendered()


def test_other_thresholds_are_order_statistics_and_what_each_does_is_counted() -> None:
    disturbed = tuple(score + 0.005 for score in SCORES)
    judging = judged_by(SCORES, disturbed, PROBES)
    own = judging.threshold
    missed = sum(score < own for score in ANOMALOUS_SCORES)
    part = section(rendered(missing(missed), judging=judging), "Threshold")
    assert "What each threshold rejects and misses:" in part
    rows = table(part)
    assert rows["threshold"] == [
        "good parts rejected",
        "disturbed copies rejected",
        "painted defects missed",
        "good test parts rejected",
        "test defects missed",
    ]
    ordered = np.sort([*SCORES, *disturbed])
    thresholds = sorted({own, *(order_statistic(ordered, rate) for rate in RATES)}, reverse=True)
    assert list(rows)[2:] == [f"**{t:.4f}**" if t == own else f"{t:.4f}" for t in thresholds]
    for threshold, cells in zip(thresholds, list(rows.values())[2:], strict=True):
        assert cells == [
            f"{sum(score >= threshold for score in SCORES)} of 31",
            f"{sum(score >= threshold for score in disturbed)} of 31",
            f"{sum(score < threshold for score in PROBES)} of 40",
            f"{sum(score >= threshold for score in (0.11, 0.2371, 0.4523, 0.1987))} of 4",
            f"{sum(score < threshold for score in ANOMALOUS_SCORES)} of 7",
        ]
    assert judging.calibration is not None and judging.calibration.miss_rate is not None
    share = 40 * judging.calibration.miss_rate  # the bold row and the sentence say the same
    assert rows[f"**{own:.4f}**"][2] == f"{share:.0f} of 40"


def test_only_kinds_of_photographs_that_there_are_scores_of_have_a_column() -> None:
    rows = table(section(rendered(OWN_RESULTS, OWN_CONFIG, judged_by()), "Threshold"))
    assert rows["threshold"] == ["good parts rejected"]
    assert rows["0.2900"] == ["2 of 31"]  # the 29th of 31: one in ten lies above
    again = rendered(changed(missing(1), recalibration=BEFORE), judging=judged_by())
    assert table(section(again, "Threshold"))["threshold"] == [
        "good parts rejected"
    ]  # the test's are of another setting
    assert "| threshold" not in rendered()  # three scores give no threshold


def test_a_model_that_was_not_calibrated_has_no_facts() -> None:
    assert threshold_facts(RESULTS, Judging()) is None


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
    assert "Before, the threshold was 0.05, from 31 photographs." in text
    assert "chosen on photographs of good parts of its user's own; no defect took part." in text
    assert "held out of" not in text
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
    card = rendered(results, judging=JUDGING.replace(judge_by="cosine"))
    text = words(card)
    assert "another of its maps than after its training: without aggregation instead of with aggregation." in text
    assert "Before, the threshold was 0.05, of another map, from 31 photographs." in text
    assert "**About these figures, of the model as it was trained.** Painted." in text
    assert "The map was chosen afterwards: if it was for these figures, they are on the optimistic side." in text
    assert "the FNR at the new threshold is not known" in text and "Of all figures higher is better." in text
    assert front_matter(card).eval_results is None
    combined = rendered(changed(results, maps={"combined": FIGURES}), judging=JUDGING.replace(judge_by="combined"))
    assert "The thresholds and the scales of its maps were found anew, on" in combined
    assert "and the scales that its combined map had there, not of the one" in words(combined)


def test_a_combined_map_with_new_scales_has_no_figures_in_the_model_index() -> None:
    before = dataclasses.replace(BEFORE, trained_map="combined")
    judging = JUDGING.replace(judge_by="combined")
    results = changed(maps={"combined": FIGURES})
    assert front_matter(rendered(results, judging=judging)).eval_results
    assert front_matter(rendered(changed(results, recalibration=before), judging=judging)).eval_results is None


def test_results_that_did_not_come_along_are_not_known() -> None:
    before = dataclasses.replace(BEFORE, training_results=False)
    text = rendered(Results(recalibration=before), CONFIG)
    assert "**Not known.**" in text and "Not measured" not in text and "AUROC" not in text
    assert "under the licence of the model that was calibrated again" in text and "No licence was chosen" not in text


def test_the_card_shows_who_outlines_and_the_figures_that_chose_it() -> None:
    assert "Outlines" not in rendered()
    helped = section(
        rendered(judging=JUDGING.replace(refine=True, refine_gain=OutlineGain(0.1234, 0.0411, 16))), "Threshold"
    )
    assert "Segment Anything outlines what is rejected" in helped and "`refine=False`" in helped
    assert "On 16 pseudo anomalies" in helped and "gained +12.3 points of F1 (standard error 4.1)" in helped
    left = section(
        rendered(judging=JUDGING.replace(refine=False, refine_gain=OutlineGain(-0.02, 0.03, 20))), "Threshold"
    )
    assert "the map's own" in left and "gained -2.0 points of F1 (standard error 3.0)" in left
    asked = section(rendered(judging=JUDGING.replace(refine=True)), "Threshold")
    assert "was not measured" in asked and "pseudo anomalies on" not in asked
