"""The figures of a model card: beside the paper's, by seed, and in the front matter."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from card_model import (
    CONFIG,
    COSINE,
    FIGURES,
    JUDGING,
    OWN_CONFIG,
    OWN_RESULTS,
    PAPER,
    TRAINING,
    changed,
    front_matter,
    numbers,
    rendered,
    section,
    table,
    words,
)
from huggingface_hub import ModelCard

from stlm_hub.errors import ConfigError
from stlm_hub.model_folder.figures import METRICS, MapFigures, SeedFigures, TestScores
from stlm_hub.model_folder.provenance import Circumstances, Split
from stlm_hub.models.stlm.config import PatchMemoryConfig


def test_each_cell_of_the_figures_table_is_the_figure_of_its_row_and_column() -> None:
    rows = table(section(rendered(), "How good it is"))
    assert rows[""] == ["**This model**, with aggregation", "This model, without aggregation", "Paper"]
    for key, (label, _) in METRICS.items():
        columns = [getattr(part, key) for part in (FIGURES, COSINE, PAPER)]
        assert rows[label] == ["-" if value is None else f"{100 * value:.2f} %" for value in columns]
    assert "Measured on 4 good and 7 anomalous test photographs" in rendered()


def test_a_model_that_judges_without_aggregation_shows_those_figures_as_its_own() -> None:
    other = dataclasses.replace(COSINE, fnr=2 / 7)
    text = rendered(changed(maps={"aggregation": FIGURES, "cosine": other}), judging=JUDGING.replace(judge_by="cosine"))
    rows = table(section(text, "How good it is"))
    assert rows[""][:2] == ["**This model**, without aggregation", "This model, with aggregation"]
    assert rows["AUPRO"][:2] == ["82.19 %", "88.37 %"]
    assert 'it judges by "without aggregation"' in text
    assert "Its verdicts are by the map without aggregation alone." in text
    values = {result.metric_name: result.metric_value for result in front_matter(text).eval_results or []}
    assert values["AUPRO"] == other.aupro


def test_a_map_that_judges_without_figures_is_told() -> None:
    text = rendered(changed(maps={"cosine": COSINE}))
    assert "**The map that it judges by, with aggregation, was not measured on these photographs.**" in text
    assert table(section(text, "How good it is"))[""] == ["This model, without aggregation", "Paper"]
    assert "FNR: the share" not in text and front_matter(text).eval_results is None


def test_the_memory_and_the_combined_map_are_explained_where_they_are() -> None:
    config = CONFIG.replace(patch_memory=PatchMemoryConfig(entries=4096))
    combined = changed(maps={"combined": FIGURES, "memory": COSINE})
    text = words(rendered(combined, config, JUDGING.replace(judge_by="combined")))
    assert "**This model**, combined | This model, of the memory | Paper" in text
    assert "memory holds 4096 patches of good parts as EfficientNet-lite0 sees them" in text
    assert "mean of the memory's map and the streams', each in limits of good photographs: 0.5 is as high" in text
    assert "The paper has no memory." in text and "PatchCore](https" in text and "EfficientNet](https" in text
    own = words(rendered(config=CONFIG.replace(patch_memory=PatchMemoryConfig(backbone="mobile_sam"))))
    assert "as MobileSAM sees them" in own and "EfficientNet" not in own
    assert not re.search("memory|PatchCore|EfficientNet|combined", rendered().replace("memory_", ""))


def test_another_split_than_the_official_one_is_said_beside_the_figures_and_in_the_model_index() -> None:
    split = Split(official=False, reason="12 good test photographs instead of 20")
    text = rendered(changed(dataset={"split": split}))
    assert "good ones.\nThe split is not the data set's official one." in section(text, "Threshold")
    figures = section(text, "How good it is")
    assert "**The split is not the official one: 12 good test photographs instead of 20.**" in figures
    assert "The paper's split is another one." in figures
    results = front_matter(text).eval_results or []
    assert results[0].dataset_name == "MVTec AD (bottle), not an official split"
    assert "not the" not in rendered() and "The split is the official one." in rendered()
    none = rendered(changed(dataset={"split": None}))
    assert "official one" not in none and "The paper's split is another one." in none


def test_what_has_to_be_known_of_the_photographs_stands_above_the_figures() -> None:
    text = section(rendered(changed(dataset={"note": "The defects are painted."})), "How good it is")
    assert text.split("\n| ")[0].split("\n|")[0].strip() == "**About these figures.** The defects are painted."


def test_what_differs_from_the_papers_setting_is_said() -> None:
    told = "with 1024 px and teacher SAM ViT-H; this model has 384 px and teacher MobileSAM, so it is no reproduction."
    assert told in rendered()
    network = dataclasses.replace(CONFIG.network, input_size=(1024, 1024))
    training = dataclasses.replace(TRAINING, settings={"teacher": "vit_h"})
    same = words(rendered(changed(training=training), CONFIG.replace(network=network)))
    assert "no reproduction" not in same and "This model has their image size and teacher" in same


def test_other_seeds_are_shown_with_their_mean_and_range() -> None:
    seeds = tuple(
        SeedFigures(seed, Circumstances(versions={"commit": "c0de"}), {"aggregation": MapFigures(ap=ap, fnr=fnr)})
        for seed, ap, fnr in ((4, 0.6319, 0.5), (5, 0.6519, None))
    )
    text = section(rendered(changed(other_seeds=seeds)), "How good it is")
    assert "Trained 2 more times by the same recipe with another seed (map: with aggregation):" in text
    lines = text.partition("| seed |")[2].splitlines()
    assert [line.split(" | ")[4] for line in lines[2:7]] == ["67.19 %", "63.19 %", "65.19 %", "65.19 %", "4.00"]
    assert lines[2].startswith("| 3 | 96.13 %") and lines[3].endswith("| - | 50.00 % |")
    assert lines[5].endswith("| - | - |")  # no mean of what not all have
    assert "same code" not in text and "| seed |" not in rendered()
    dirty = dataclasses.replace(seeds[0], made=Circumstances(versions={"commit": "c0de-dirty"}))
    text = rendered(changed(other_seeds=(dirty,)))
    assert "Not all are known to have the same code" in text and "Trained 1 more time by" in text


def test_seeds_from_before_a_map_are_shown_by_one_that_all_have() -> None:
    old = SeedFigures(4, Circumstances(), {"aggregation": MapFigures(ap=0.5)})
    results = changed(maps={"combined": FIGURES, "aggregation": COSINE}, other_seeds=(old,))
    text = rendered(results, judging=JUDGING.replace(judge_by="combined"))
    assert "(map: with aggregation, which is not the map that judges" in text and "| **mean** | - |" in text


def test_a_model_without_a_test_set_says_so() -> None:
    text = rendered(OWN_RESULTS, OWN_CONFIG)
    figures = section(text, "How good it is")
    assert "**Not measured.**" in figures and "is unknown" in figures
    assert not numbers(figures)
    assert "AUROC" not in text and "FNR" not in text
    assert "score is **0.413279** or higher" in text
    assert "own photographs" not in text.split("\n## ")[0]
    data = front_matter(text)
    assert data.eval_results is None and "model-index" not in text
    assert "own-photographs" not in (data.tags or [])


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"maps": {"aggregation": MapFigures(fnr=0.1)}}, "fnr 0.1"),
        ({"test_scores": TestScores((), (0.0,))}, "fnr"),
    ],
)
def test_results_that_contradict_themselves_are_refused(part: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        rendered(changed(**part))


def test_the_front_matter_says_licence_origin_and_the_same_fractions_as_results_json() -> None:
    data = front_matter(rendered())
    assert data.license == "cc-by-nc-sa-4.0"
    assert data.library_name == "stlm_hub"
    assert data.pipeline_tag == "image-segmentation"
    assert data.tags is not None and {"anomaly-detection", "stlm", "mvtec-ad"} <= set(data.tags)
    assert (data.base_model, data.get("base_model_relation")) == ("dhkim2810/MobileSAM", "finetune")
    assert data.datasets is None
    assert data.model_name == "stlm-mvtec-bottle"
    results = data.eval_results or []
    assert [result.metric_value for result in results] == list(FIGURES.to_dict().values())
    assert {(result.dataset_name, result.dataset_type) for result in results} == {("MVTec AD (bottle)", "mvtec-ad")}
    again = front_matter(str(ModelCard(rendered())))
    assert again.to_dict() == data.to_dict()


def test_a_dataset_of_the_hub_is_named_in_the_front_matter() -> None:
    data = front_matter(rendered(changed(dataset={"hub_id": "org/mvtec"})))
    assert data.datasets == ["org/mvtec"]
    assert data.eval_results is not None and data.eval_results[0].dataset_type == "org/mvtec"
