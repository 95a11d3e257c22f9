"""The input of a run of the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..calibration.threshold import DEFAULT_FALSE_ALARM_RATE
from ..evaluation.evaluate import TestSet
from ..model_folder.figures import PaperFigures
from ..model_folder.provenance import DatasetFacts, Provenance
from ..models.stlm.config import STLMConfig
from ..pseudo_anomalies.nuisance import Nuisance
from ..pseudo_anomalies.textures import TextureSource
from ..starting_weights.starting_weights import StartingWeights
from .config import TrainingConfig
from .data import Split
from .objective import PAPER, Objective
from .trained import Trained


@dataclass(frozen=True)
class Job:
    """Everything that a run of the pipeline needs to know.

    Args:
        split: photographs to train on and to calibrate with.
        config: of the model; `shared_stages` follow from the training.
        anomaly_map: that the model judges by.
        draw_by: map that is shown and outlined; "": the one that judges.
        training: settings of the training.
        weights: that the training starts from; None with `trained`, or without streams.
        provenance: of the model, for its card; the run adds when it was made.
        dataset: facts about the photographs; the run adds numbers and fingerprints.
        work: folder of checkpoints and logs; a run that was cut off goes on from there.
        output: the model folder to write.
        commit: of the code; "": not known.
        nuisance: how copies of photographs are disturbed for memory and calibration; None: the memory gets no copies.
        region: HxW bool of the frame, the part that counts; None: all of it. `config.region` must agree.
        minimum_area: see `Judging`.
        careful: whether the threshold stays above all photographs, see `calibration.threshold.choose_threshold`.
        refine: whether Segment Anything outlines what is rejected, one of `calibration.outlines.HOW`.
        objective: what the training minimises, and which weights it trains.
        trained: a network to take over instead of training one.
        test: photographs to evaluate on; None: the user has only good ones.
        paper: the paper's figures for the category; None: there are none.
        textures, teacher_checkpoint, workers: see `loop.train`.
        false_alarm_rate: that the threshold is calibrated for.
    """

    split: Split
    config: STLMConfig
    anomaly_map: str
    training: TrainingConfig
    weights: StartingWeights | None
    provenance: Provenance
    dataset: DatasetFacts
    work: Path
    output: Path
    commit: str = ""
    nuisance: Nuisance | None = None
    region: np.ndarray | None = None
    minimum_area: int = 0
    draw_by: str = ""
    careful: bool = False
    refine: str = "off"
    objective: Objective = PAPER
    trained: Trained | None = None
    test: TestSet | None = None
    paper: PaperFigures | None = None
    textures: TextureSource | None = None
    teacher_checkpoint: Path | None = None
    workers: int = 0
    false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE

    @property
    def maps_left_out(self) -> tuple[str, ...]:
        """Maps whose modules are not trained; they get neither thresholds nor figures."""
        return () if self.objective.trains_aggregation else ("aggregation",)
