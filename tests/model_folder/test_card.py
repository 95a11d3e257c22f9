from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard, ModelCardData
from PIL import Image

from stlm_hub.calibration.threshold import calibrate
from stlm_hub.errors import ConfigError, WeightsError
from stlm_hub.model_folder import hub
from stlm_hub.model_folder.card import card
from stlm_hub.model_folder.card.card import render_card, write_card
from stlm_hub.model_folder.card.figures import METRICS
from stlm_hub.models.stlm.config import Calibration, STLMConfig

REPO_ID = "some-org/stlm-mvtec-bottle"
GOOD_SCORES = [0.11, 0.2371, 0.4523, 0.1987]
ANOMALOUS_SCORES = [0.9031, 0.3127, 0.7719, 0.5573, 0.8642, 0.2718, 0.6643]  # two of seven stay below the threshold
CALIBRATION: dict[str, Any] = {
    "threshold": 0.413279,
    "false_alarm_rate": 0.02,
    "n": 31,
    "method": "log-odds-t",
    "date": "2026-11-22",
}
CONFIG = STLMConfig(
    image_size=384,
    feature_levels=("stage1", "decoder"),
    category="bottle",
    dataset="MVTec AD",
    calibration=Calibration(**CALIBRATION),
)
RESULTS: dict[str, Any] = {
    "alias": "mvtec-bottle",
    "profile": "cpu",
    "dataset": {
        "name": "MVTec AD",
        "license": "cc-by-nc-sa-4.0",
        "homepage": "https://www.mvtec.com/company/research/datasets/mvtec-ad",
        "split": "official",
        "train": {"n": 178},
        "held_out": {"n": 31},
        "test": {"n_good": 4, "n_anomalous": 7},
    },
    "weights_license": "cc-by-nc-sa-4.0",
    "metrics": {"i_auroc": 0.9613, "p_auroc": 0.97291, "aupro": 0.8837, "ap": 0.6719, "f1_max": 0.6553, "fnr": 2 / 7},
    "metrics_without_aggregation": {"i_auroc": 0.9237, "p_auroc": 0.9341, "aupro": 0.8219, "ap": 0.5471, "fnr": 0.4286},
    "paper": {
        "i_auroc": 1.0,
        "p_auroc": 0.9777,
        "image_size": 1024,
        "teacher": "SAM ViT-H",
        "source": "arXiv 2402.19145",
    },
    "calibration": CALIBRATION,
    "held_out_scores": [0.05, 0.11, 0.42],
    "test_scores": {"good": GOOD_SCORES, "anomalous": ANOMALOUS_SCORES},
    "training": {
        "batch_size": 4,
        "rotation": "quarter",
        "plain_stream": "frozen",
        "frozen_stages": 2,
        "synthesis": {"families": ["perlin", "nsa"], "probability": 0.5},
    },
    "steps": 1237,
    "seconds": 4963.0,
    "image_size": 384,
    "feature_levels": ["stage1", "decoder"],
    "seed": 3,
    "teacher": "mobile",
    "parameters": 17019689,
    "latency": {"milliseconds_per_image": 213.7, "threads": 2, "image_size": 384},
    "weights": {"sha256": "5d" * 32, "bytes": 34127944, "dtype": "float16"},
    "starting_weights": {"source": "dhkim2810/MobileSAM/mobile_sam.pt", "sha256": "6e" * 32},
    "command": "python -m train mvtec-bottle --profile cpu --data DIR",
    "hardware": "AMD EPYC 7763, 2 cores",
    "date": "2026-11-23",
    "versions": {"stlm_hub": "0.1.0", "torch": "2.14.1"},
}
OWN_CONFIG = CONFIG.replace(category="bracket", dataset="own photographs")
OWN_RESULTS: dict[str, Any] = {
    **RESULTS,
    "dataset": {
        "name": "own photographs",
        "license": "other",
        "homepage": "",
        "split": "no test set",
        "train": {"n": 40},
    },
    "weights_license": "other",
    "metrics": None,
    "metrics_without_aggregation": None,
    "test_scores": None,
    "paper": None,
}


def changed(**parts: Any) -> dict[str, Any]:
    """RESULTS with parts replaced; dictionaries are merged."""
    results = copy.deepcopy(RESULTS)
    for name, value in parts.items():
        results[name] = {**results[name], **value} if isinstance(value, dict) and name in results else value
    return results


def rendered(results: dict[str, Any] = RESULTS, config: STLMConfig = CONFIG, **options: Any) -> str:
    return render_card(results, config, repo_id=REPO_ID, **options)


def front_matter(text: str) -> ModelCardData:
    data = ModelCard(text).data
    assert isinstance(data, ModelCardData)
    return data


def section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def table(text: str) -> dict[str, list[str]]:
    """The rows of the table in a piece of a card by their first cell."""
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("|")
    ]
    return {row[0]: row[1:] for row in rows}


def numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:\.\d+)?", text.replace(",", "")))


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item)]
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, (list, tuple)) else [value]


def forms(value: Any) -> set[str]:
    """The ways in which a card may write a value of results.json."""
    if isinstance(value, str):
        return numbers(value)
    if not isinstance(value, (int, float)):
        return set()
    percent = {f"{100 * value:.2f}", f"{100 * value:g}"}
    return percent | {f"{value:.6g}", str(value), f"{value / 60:.0f}", f"{value / 1e6:.1f}"}


def test_every_figure_of_the_tables_is_in_results_json() -> None:
    known = set().union(*(forms(leaf) for leaf in leaves(RESULTS))) | {"1", "256"}  # stage1, SHA-256
    text = rendered()
    for title in ("How good it is", "How it was trained"):
        rows = [line for line in section(text, title).splitlines() if line.startswith("|")]
        assert len(rows) > 5
        assert numbers("\n".join(rows)) <= known


def test_every_figure_of_the_text_is_in_results_json_or_a_known_constant() -> None:
    known = set().union(*(forms(leaf) for leaf in leaves(RESULTS)))
    known |= {"0.3", "0", "1"}  # AUPRO's limit; the range of the map
    known |= {"8", "48", "100"}  # from the configuration: grid, image_size / grid, score_top_k
    known |= {"49", "3"}  # photographs needed to calibrate by counting; held-out scores
    body = rendered().split("\n---\n", 1)[1].split("\n## Licence")[0]
    prose = re.sub(r"\]\(.*?\)|SHA-256|stage1", "", body)
    assert numbers(prose) <= known | {"4.0"}  # of the licence's name


def test_each_cell_of_the_figures_table_is_the_figure_of_its_row_and_column() -> None:
    rows = table(section(rendered(), "How good it is"))
    assert rows[""] == ["**This model**, with aggregation", "This model, without aggregation", "Paper"]
    for key, (label, _) in METRICS.items():
        columns = [RESULTS[part].get(key) for part in ("metrics", "metrics_without_aggregation", "paper")]
        assert rows[label] == ["-" if value is None else f"{100 * value:.2f} %" for value in columns]
    assert rows["Image size"] == ["384 px", "384 px", "1024 px"]
    assert rows["Teacher"] == ["MobileSAM", "MobileSAM", "SAM ViT-H"]
    assert "Measured on 4 good and 7 anomalous test photographs" in rendered()


def test_a_model_that_predicts_without_aggregation_shows_those_figures_as_its_own() -> None:
    metrics, other = RESULTS["metrics"], {**RESULTS["metrics_without_aggregation"], "fnr": 2 / 7}
    text = rendered(changed(metrics_without_aggregation=other), CONFIG.replace(anomaly_map="cosine"))
    rows = table(section(text, "How good it is"))
    assert rows[""][:2] == ["**This model**, without aggregation", "This model, with aggregation"]
    assert rows["AUPRO"][:2] == [f"{100 * other['aupro']:.2f} %", f"{100 * metrics['aupro']:.2f} %"]
    values = {result.metric_name: result.metric_value for result in front_matter(text).eval_results or []}
    assert values["AUPRO"] == other["aupro"]


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
    assert [result.metric_value for result in results] == list(RESULTS["metrics"].values())
    assert {(result.dataset_name, result.dataset_type) for result in results} == {("MVTec AD (bottle)", "mvtec-ad")}
    again = front_matter(str(ModelCard(rendered())))
    assert again.to_dict() == data.to_dict()


def test_a_dataset_of_the_hub_is_named_in_the_front_matter() -> None:
    data = front_matter(rendered(changed(dataset={"hub_id": "org/mvtec"})))
    assert data.datasets == ["org/mvtec"]
    assert data.eval_results is not None and data.eval_results[0].dataset_type == "org/mvtec"


@pytest.mark.parametrize(
    ("weights", "photographs", "expected"),
    [
        ("apache-2.0", "cc0-1.0", ("apache-2.0", None)),
        (None, "cc-by-4.0", ("cc-by-4.0", None)),
        ("other", "other", ("other", None)),
        (None, None, ("other", None)),
        ("Our terms, v2", None, ("other", "our-terms-v2")),
    ],
)
def test_the_licence_is_that_of_the_weights(
    weights: str | None, photographs: str | None, expected: tuple[str, str]
) -> None:
    text = rendered(changed(weights_license=weights, dataset={"license": photographs}))
    data = front_matter(text)
    assert (data.license, data.license_name) == expected
    assert "commercial use" not in text
    assert ("No licence was chosen" in text) == (expected == ("other", None))


def test_a_licence_against_commercial_use_is_said_at_the_top_and_among_the_limits() -> None:
    text = rendered()
    assert "**Not for commercial use.**" in text.split("\n## ")[0]
    assert "licence of the weights and the photographs forbids commercial use" in section(text, "Limits")


def test_another_split_than_the_official_one_is_said_beside_the_figures_and_in_the_model_index() -> None:
    text = rendered(changed(dataset={"split": "not the official one: 12 good test photographs instead of 20"}))
    assert "good ones. The split is not the data set's official one." in text.partition("## ")[0]
    assert "not the data set's" not in rendered()
    figures = section(text, "How good it is")
    assert "**The split: not the official one: 12 good test photographs instead of 20.**" in figures
    assert "The paper's split is another one" in figures
    results = front_matter(text).eval_results or []
    assert results[0].dataset_name == "MVTec AD (bottle), not an official split"
    assert "The paper's split" not in rendered()


def test_what_has_to_be_known_of_the_photographs_stands_above_the_figures() -> None:
    text = section(rendered(changed(dataset={"note": "The defects are painted."})), "How good it is")
    assert text.split("\n| ")[0].strip() == "**The defects are painted.**"


def test_what_differs_from_the_papers_setting_is_said() -> None:
    assert "another image size and another teacher" in rendered()
    same_size = changed(paper={"image_size": 384})
    assert "with another teacher, so this is no reproduction" in " ".join(rendered(same_size).split())
    same = changed(paper={"image_size": 1024}, image_size=1024, teacher="vit_h")
    assert "no reproduction" not in " ".join(rendered(same, CONFIG.replace(image_size=1024)).split())


def test_the_threshold_is_explained_with_counts_of_the_photographs_on_either_side() -> None:
    text = " ".join(section(rendered(), "Threshold and false alarms").split())
    assert "score is **0.413279** or higher" in text
    assert "31 photographs of good parts" in text
    assert "false-alarm rate of **2 %**" in text
    assert "need 49 held-out photographs" in text
    assert "Held-out good photographs at or above this threshold: 1 of 3." in text
    assert "(false alarms): 1 of 4." in text
    assert "(missed, the FNR): 2 of 7." in text


def test_a_score_equal_to_the_threshold_counts_as_anomalous() -> None:
    text = rendered(changed(held_out_scores=[CALIBRATION["threshold"], 0.1]))
    assert "Held-out good photographs at or above this threshold: 1 of 2." in text


def test_the_method_of_the_calibration_is_said() -> None:
    for method, words in {"conformal": "split conformal prediction", "by hand": 'by the method "by hand"'}.items():
        calibration = Calibration(**{**CALIBRATION, "method": method})
        assert words in rendered(changed(calibration={"method": method}), CONFIG.replace(calibration=calibration))


def test_a_threshold_at_the_highest_held_out_score_promises_what_counting_does() -> None:
    """pill: two of 40 scores lie above the prediction bound, so the threshold is not that bound."""
    scores = [0.1 + 0.001 * i for i in range(30)] + [0.9]
    calibration = calibrate(scores, 0.02)
    assert calibration.method == "log-odds-t" and calibration.threshold == pytest.approx(0.9)
    results = changed(held_out_scores=scores, calibration={"threshold": calibration.threshold}, metrics={"fnr": 6 / 7})
    text = " ".join(rendered(results, CONFIG.replace(calibration=calibration)).split())
    assert "just above the highest held-out score" in text and "1 false alarm in 32 good parts, 3.1 %" in text
    assert "It extrapolates" not in text
    assert "missed 6 of 7 anomalous test photographs and rejected 0 of 4 good ones" in text
    assert "it is not fit for use as it is" in text
    below = [0.1 + 0.001 * i for i in range(31)]
    calibration = calibrate(below, 0.02)
    results = changed(held_out_scores=below, calibration={"threshold": calibration.threshold}, metrics={"fnr": 0.0})
    text = rendered(results, CONFIG.replace(calibration=calibration))
    assert "It extrapolates" in text and "highest held-out score" not in text and "not fit for use" not in text


def test_other_thresholds_are_calibrated_like_the_models_own_and_counted() -> None:
    scores = [0.01 * i for i in range(1, 32)]
    calibration = calibrate(scores, 0.02)
    results = changed(held_out_scores=scores, calibration={"threshold": calibration.threshold}, metrics={"fnr": 2 / 7})
    config = CONFIG.replace(calibration=calibration)
    missed = sum(score < calibration.threshold for score in ANOMALOUS_SCORES)
    results["metrics"]["fnr"] = missed / 7
    rows = table(section(rendered(results, config), "Threshold and false alarms"))
    assert list(rows)[2:] == ["1 %", "**2 %**", "5 %", "10 %", "20 %"]
    assert rows["**2 %**"] == [f"{calibration.threshold:.4f}", "0 of 4", f"{missed} of 7"]
    tenth = calibrate(scores, 0.1).threshold  # the 29th of 31
    assert tenth == pytest.approx(0.29) and rows["10 %"] == ["0.2900", "1 of 4", "1 of 7"]
    alone = rendered(
        OWN_RESULTS | {"held_out_scores": scores, "calibration": results["calibration"]},
        OWN_CONFIG.replace(calibration=calibration),
    )
    rows = table(section(alone, "Threshold and false alarms"))
    assert rows["10 %"] == ["0.2900"]


def test_pseudo_anomalies_are_told_with_their_shares() -> None:
    synthesis = {"families": ["warp", "warp", "nsa"], "probability": 0.5, "on_part": True}
    text = rendered(changed(training={"synthesis": synthesis, "hardest_share": 0.1}))
    assert "| warp (2 of 3), nsa (1 of 3), on 50 % of the photographs, on the part alone |" in text
    assert "| Losses | denoising and focal over the worst 10 % of positions |" in text
    assert "| perlin, nsa, on 50 % of the photographs |" in rendered() and "| Losses |" not in rendered()


def test_windows_and_grey_pseudo_anomalies_are_told() -> None:
    synthesis = {"families": ["erase"], "probability": 0.5, "match_grey": True}
    text = rendered(changed(training={"synthesis": synthesis, "crop": 224, "crop_share": 0.85}))
    assert "| erase, on 50 % of the photographs, grey on grey photographs |" in text
    assert "| Windows | 224 px at the part in the first 85 % of the steps, then whole photographs |" in text
    for old in (rendered(), rendered(changed(training={"crop": 0, "crop_share": 0.85}))):
        assert "| Windows |" not in old and "grey" not in old


def test_a_model_without_a_test_set_says_so_and_shows_its_calibration_only() -> None:
    text = rendered(OWN_RESULTS, OWN_CONFIG)
    figures = section(text, "How good it is")
    assert "**Not measured.**" in figures
    assert not numbers(figures)
    assert "AUROC" not in text and "FNR" not in text
    assert "score is **0.413279** or higher" in text
    assert "own photographs" not in text.split("\n## ")[0]
    data = front_matter(text)
    assert data.eval_results is None and "model-index" not in text
    assert "own-photographs" not in (data.tags or [])


def test_a_card_without_any_results_claims_nothing() -> None:
    text = render_card({}, STLMConfig(), repo_id="org/new")
    assert "**Not measured.**" in text
    assert "This model was not calibrated" in text
    assert "None" not in text and "Undefined" not in text
    assert set(table(section(text, "How it was trained"))) == {"", "---|---", "Feature levels", "Image size"}


def test_the_training_table_says_how_to_make_the_model_again() -> None:
    part = section(rendered(), "How it was trained")
    rows = table(part)
    assert rows["Photographs"] == ["178 good for training, 31 good held out"]
    assert rows["Steps"] == ["1237 of 4 photographs each"]
    assert rows["Kept at the starting weights"] == ["patch embedding and first 2 stages of both streams"]
    assert rows["Time"] == ["83 min on AMD EPYC 7763, 2 cores"]
    assert rows["Seed"] == ["3"]
    assert rows["Pseudo anomalies"] == ["perlin, nsa, on 50 % of the photographs"]
    assert rows["Time for one photograph"] == ["213.7 ms at 384 px with 2 threads on AMD EPYC 7763, 2 cores"]
    assert "```bash\npython -m train mvtec-bottle --profile cpu --data DIR\n```" in part


@pytest.mark.parametrize("path", ["/home/jdoe/secret/weights.pt", "C:\\Users\\jdoe\\weights.pt"])
def test_the_path_of_starting_weights_on_someones_machine_is_not_published(path: str) -> None:
    text = rendered(changed(starting_weights={"source": path}))
    assert table(section(text, "How it was trained"))["Starting weights"][0].startswith("weights.pt, SHA-256 6e6e")
    assert "jdoe" not in text


def test_the_smallest_defect_is_said_for_the_grid_of_the_finest_level() -> None:
    assert "1/48 of the photograph's side" in rendered()
    coarse = CONFIG.replace(feature_levels=("embedding", "decoder"))
    assert "1/24 of the photograph's side" in rendered(changed(feature_levels=["embedding", "decoder"]), coarse)


def test_only_pictures_that_are_there_are_shown_and_a_defect_comes_first() -> None:
    text = rendered(images=["good_000.png", "scores.png", "samples/broken large.png"])
    shown = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert shown == ["samples/broken%20large.png", "scores.png", "good_000.png"]
    assert "](samples/broken%20large.png)" in text.split("\n## ")[0]
    assert "![" not in rendered()


@pytest.mark.parametrize(
    ("dataset", "key"), [("MVTec AD", "bergmann2019mvtec"), ("VisA", "zou2022visa"), ("DAGM 2007", "wieler2007dagm")]
)
def test_the_data_set_that_was_trained_on_is_cited_and_no_other(dataset: str, key: str) -> None:
    text = rendered(changed(dataset={"name": dataset}))
    cited = set(re.findall(r"@\w+\{(\w+),", text))
    assert cited & {"bergmann2019mvtec", "zou2022visa", "wieler2007dagm"} == {key}


@pytest.mark.parametrize(
    ("missed", "said", "unsaid"),
    [
        (5, "", "misses more than"),
        (6, "**It misses more than a quarter**", "more than half"),
        (10, "**It misses more than a quarter**", "more than half"),
        (11, "**It misses more than half: it is not fit for use as it is**", "more than a quarter"),
    ],
)
def test_a_model_that_misses_much_says_so_first(missed: int, said: str, unsaid: str) -> None:
    scores = {"anomalous": [0.0] * missed + [1.0] * (20 - missed)}
    card = rendered(changed(test_scores=scores, metrics={"fnr": missed / 20}))
    top = " ".join(card.split("## Use it")[0].split())
    assert f"missed {missed} of 20 anomalous test photographs" in top
    assert said in top and unsaid not in top


def test_names_cannot_break_the_card() -> None:
    name = 'a|b\n---\n# <b>"c": [x](y)'
    text = rendered(changed(dataset={"name": name}, hardware=name), CONFIG.replace(category=name))
    data = front_matter(text)
    assert data.license == "cc-by-nc-sa-4.0"
    assert data.eval_results is not None and data.eval_results[0].dataset_config == name
    assert len(table(section(text, "How it was trained"))["Data"]) == 1
    assert "<b>" not in text.split("\n---\n", 1)[1].replace("\\<b", "")
    assert len(re.findall(r"^# ", text.replace("# or the folder", ""), flags=re.MULTILINE)) == 1


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"image_size": 512}, "image_size 512"),
        ({"feature_levels": ["decoder"]}, "feature_levels"),
        ({"calibration": {"threshold": 0.2}}, "calibration.threshold 0.2"),
        ({"metrics": {"ap": 67.2}}, "metrics.ap"),
        ({"metrics": {"ap": float("nan")}}, "metrics.ap"),
        ({"metrics": {"ap": "0.6"}}, "metrics.ap"),
        ({"metrics": {"fnr": 0.1}}, "fnr 0.1"),
    ],
)
def test_results_that_contradict_the_model_or_themselves_are_refused(part: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        rendered(changed(**part))


def test_write_card_shows_the_folders_pictures_and_replaces_an_older_card(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.to_dict()))
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    (tmp_path / "README.md").write_text("the short one")
    Image.new("RGB", (8, 8)).save(tmp_path / "losses.png")
    path = write_card(tmp_path, REPO_ID)
    assert path == tmp_path / "README.md"
    assert path.read_text(encoding="utf-8") == rendered(images=["losses.png"])
    assert path.read_bytes().startswith(b"---\n") and b"\r" not in path.read_bytes()


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_write_card_refuses_missing_or_broken_results(tmp_path: Path, content: str | None) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.to_dict()))
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(ConfigError, match=r"results\.json"):
        write_card(tmp_path, REPO_ID)


def test_write_card_refuses_results_of_other_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.to_dict()))
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(WeightsError, match="other weights"):
        write_card(tmp_path, REPO_ID)


def test_the_template_of_an_installed_library_comes_before_that_of_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def library(name: str, *folders: str) -> None:
        (tmp_path / name / "stlm_hub").mkdir(parents=True)
        for folder in folders:
            (tmp_path / name / folder).mkdir(exist_ok=True)
            (tmp_path / name / folder / card.TEMPLATE).write_text(f"from {folder}")
        monkeypatch.setattr(card, "__file__", str(tmp_path / name / "stlm_hub" / "card.py"))

    library("neither")
    with pytest.raises(ConfigError, match="install stlm_hub again"):
        rendered()
    library("checkout", "model_cards")
    assert rendered() == "from model_cards\n"
    library("both", "model_cards", "stlm_hub")
    assert rendered() == "from stlm_hub\n"


def test_the_snippet_of_the_card_runs(saved_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = STLMConfig.load(saved_model / hub.CONFIG_NAME)
    block = re.search(r"```python\n(.*?)```", render_card({}, config, repo_id=REPO_ID), re.DOTALL)
    assert block is not None and block.group(1).count(f'"{REPO_ID}"') == 1
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("part.png")
    names: dict[str, Any] = {}
    exec(block.group(1).replace(f'"{REPO_ID}"', repr(str(saved_model))), names)
    assert names["prediction"].anomaly_map.shape == (48, 80)
    assert Image.open("panel.png").width > 80
