"""STLM for `benchmarks/quality.py`: a finished model folder, run by the code behind `STLM.predict`."""

from __future__ import annotations

import numpy as np

from benchmarks.peer_job import Job, Predict
from stlm_hub.predict.predictor import infer
from stlm_hub.stlm import STLM


def load(job: Job) -> Predict:
    """Loads the model of a folder. It is not fitted here: results.json says how long its training took."""
    model = STLM.from_pretrained(job.model, device="cpu")  # the peers run on the CPU, too
    which = model.judging.judge_by

    def judge(image: np.ndarray) -> tuple[np.ndarray, float]:
        scored = next(infer(model, [image], (which,))).maps[which]
        return scored.anomaly_map, scored.score

    return judge
