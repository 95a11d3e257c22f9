"""What the tests of a calibration on a user's own photographs share: results of a training, invented."""

from __future__ import annotations

import dataclasses

from stlm_hub.model_folder.figures import MapFigures, SeedFigures, TestScores
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
from stlm_hub.models.stlm.judging import Calibration

OLD = Calibration(
    threshold=0.05,
    review_threshold=0.03,
    false_alarm_rate=0.02,
    n=31,
    highest_rate=0.0921,
    miss_rate=0.1,
    method="order statistic, balanced with pseudo anomalies",
    date="2026-01-02",
)
MADE = Circumstances("2026-01-02", "one processor", {"stlm_hub": "0.0.9"})
ANOMALOUS = (0.001, 0.0501, 0.9998, 0.9999)  # one is missed at the old threshold
RESULTS = Results(
    provenance=Provenance(
        alias="mvtec-bottle",
        repo_id="org/stlm-mvtec-bottle",
        weights_license="cc-by-nc-sa-4.0",
        profile="cpu",
        commands=(Command("python -m train", ("mvtec-bottle",), {"profile": "cpu"}),),
        made=MADE,
    ),
    dataset=DatasetFacts(
        name="MVTec AD",
        license="cc-by-nc-sa-4.0",
        homepage="https://www.mvtec.com",
        split=Split(official=True),
        train=Photographs(178, "aa"),
        held_out=Photographs(31, "bb"),
        test=TestPhotographs(2, 4),
    ),
    maps={"aggregation": MapFigures(i_auroc=0.9, fnr=0.25), "cosine": MapFigures(i_auroc=0.8, fnr=0.5)},
    training=TrainingFacts(
        settings={"seed": 0}, steps=500, seconds=60.0, final_losses={}, precision="no", starting_weights=StartingPoint()
    ),
    files={"model.safetensors": FileFacts("cc", 1, "float16")},
    test_scores=TestScores((0.01, 0.02), ANOMALOUS),
    curves={"aggregation": {"pixels": (0.0, 1.0)}},
)
SEED = SeedFigures(seed=1, made=MADE, maps={"aggregation": MapFigures(i_auroc=0.7, fnr=0.3)})


def with_fnr(fnr: float, anomaly_map: str = "cosine") -> Results:
    """Results whose map has this share of missed photographs at its threshold."""
    return dataclasses.replace(RESULTS, maps={**RESULTS.maps, anomaly_map: MapFigures(i_auroc=0.8, fnr=fnr)})


def words(text: str) -> str:
    """Without line breaks and marks of quotation."""
    return " ".join(text.split()).replace("> ", "")
