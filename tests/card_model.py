"""A model of invented figures for the tests of its card, and ways to read a card."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from stlm_hub.model_folder.card.card import render_card
from stlm_hub.model_folder.figures import Latency, MapFigures, PaperFigures, TestScores
from stlm_hub.model_folder.provenance import (
    Circumstances,
    Command,
    DatasetFacts,
    Photographs,
    Provenance,
    Split,
    StartingPoint,
    TestPhotographs,
    TrainingFacts,
)
from stlm_hub.model_folder.results import FileFacts, Results
from stlm_hub.models.stlm.config import NetworkConfig, STLMConfig
from stlm_hub.models.stlm.judging import Calibration, Judging

REPO_ID = "some-org/stlm-mvtec-bottle"
GOOD_SCORES = (0.11, 0.2371, 0.4523, 0.1987)
ANOMALOUS_SCORES = (0.9031, 0.3127, 0.7719, 0.5573, 0.8642, 0.2718, 0.6643)  # two of seven are below the threshold
CONFIG = STLMConfig(
    network=NetworkConfig(input_size=(384, 384), feature_levels=("stage1", "decoder")),
    category="bottle",
    dataset="MVTec AD",
)
CALIBRATION = Calibration(
    threshold=0.413279,
    review_threshold=0.3719,
    false_alarm_rate=0.02,
    n=31,
    highest_rate=0.0921,
    miss_rate=0.1537,
    method="order statistic, balanced with pseudo anomalies",
    date="2026-11-22",
)
JUDGING = Judging(calibration=CALIBRATION, normal_scores=(0.05, 0.11, 0.42))  # too few for a table of thresholds
DATASET = DatasetFacts(
    name="MVTec AD",
    license="cc-by-nc-sa-4.0",
    homepage="https://www.mvtec.com/company/research/datasets/mvtec-ad",
    split=Split(official=True),
    train=Photographs(178),
    held_out=Photographs(31),
    test=TestPhotographs(4, 7),
)
FIGURES = MapFigures(i_auroc=0.9613, p_auroc=0.97291, aupro=0.8837, ap=0.6719, f1_max=0.6553, fnr=2 / 7)
COSINE = MapFigures(i_auroc=0.9237, p_auroc=0.9341, aupro=0.8219, ap=0.5471, fnr=0.4286)
PAPER = PaperFigures(i_auroc=1.0, p_auroc=0.9777, image_size=1024, teacher="SAM ViT-H", source="arXiv 2402.19145")
MADE = Circumstances("2026-11-23", "AMD EPYC 7763, 2 cores", {"stlm_hub": "0.1.0", "torch": "2.14.1", "commit": "c0de"})
TRAINING = TrainingFacts(
    settings={
        "seed": 3,
        "teacher": "mobile",
        "batch_size": 4,
        "synthesis": {"families": ["perlin", "nsa"], "probability": 0.5},
    },
    steps=1237,
    seconds=4963.0,
    final_losses={"focal": 0.0317},
    precision="bf16",
    starting_weights=StartingPoint("dhkim2810/MobileSAM/mobile_sam.pt", "6e" * 32),
)
RESULTS = Results(
    provenance=Provenance(
        alias="mvtec-bottle",
        repo_id=REPO_ID,
        weights_license="cc-by-nc-sa-4.0",
        profile="cpu",
        commands=(Command("python -m train", ("mvtec-bottle",), {"profile": "cpu", "data": "DIR"}),),
        made=MADE,
    ),
    dataset=DATASET,
    maps={"aggregation": FIGURES, "cosine": COSINE},
    paper=PAPER,
    training=TRAINING,
    files={"model.safetensors": FileFacts("5d" * 32, 34127944, "float16")},
    parameters=17019689,
    latency=Latency(213.7, 2, "cpu", 384),
    test_scores=TestScores(GOOD_SCORES, ANOMALOUS_SCORES),
)
OWN_CONFIG = CONFIG.replace(category="bracket", dataset="own photographs")
OWN_RESULTS = dataclasses.replace(
    RESULTS,
    provenance=dataclasses.replace(RESULTS.provenance, weights_license="other"),
    dataset=DatasetFacts(name="own photographs", license="other", train=Photographs(40)),
    maps={},
    paper=None,
    test_scores=None,
)


def changed(results: Results = RESULTS, **parts: Any) -> Results:
    """Results with parts replaced: fields of its parts for a dict, the part itself for anything else."""
    return dataclasses.replace(
        results,
        **{
            name: dataclasses.replace(getattr(results, name), **value)
            if isinstance(value, dict) and dataclasses.is_dataclass(getattr(results, name))
            else value
            for name, value in parts.items()
        },
    )


def rendered(
    results: Results = RESULTS, config: STLMConfig = CONFIG, judging: Judging = JUDGING, **options: Any
) -> str:
    return render_card(results, config, judging, repo_id=REPO_ID, **options)


def front_matter(text: str) -> ModelCardData:
    data = ModelCard(text).data
    assert isinstance(data, ModelCardData)
    return data


def words(text: str) -> str:
    """Without line breaks."""
    return " ".join(text.split())


def section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def table(text: str) -> dict[str, list[str]]:
    """The rows of the tables in a piece of a card by their first cell."""
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("|")
    ]
    return {row[0]: row[1:] for row in rows}


def numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:\.\d+)?", text.replace(",", "")))
