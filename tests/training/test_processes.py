"""A training in two processes of one machine, started by `accelerate launch`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from training_script import TWO_PROCESSES, run_script

from stlm_hub.models.stlm.network import STLMNetwork
from stlm_hub.pseudo_anomalies.textures import TextureSource
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.training import checkpoint
from stlm_hub.training.config import TrainingConfig
from stlm_hub.training.loop import train

LOSSES = ("plain", "denoising", "focal", "l1", "total")


def settings(batch_size: int, steps: int, **fields: object) -> TrainingConfig:
    common = {"teacher": "mobile", "precision": "no", "warmup_steps": 2, "gradient_clip": 1.0}
    return TrainingConfig(steps=steps, batch_size=batch_size, **{**common, **fields})  # type: ignore[arg-type]


def test_two_processes_train_as_one_with_the_batch_of_both(
    photographs: list[Path],
    starting_weights: StartingWeights,
    make_network: Callable[..., STLMNetwork],
    textures: TextureSource,
    run_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = (TWO_PROCESSES, tmp_path, starting_weights, photographs, run_folder, settings(2, 3, checkpoint_every=1))
    killed = run_script(*script, kill_at=2, killed_rank="1")
    assert killed.returncode != 0
    assert "Another process of this training has ended" in killed.stderr, killed.stderr[-3000:]
    assert checkpoint.latest(run_folder / "checkpoints") == run_folder / "checkpoints" / "step-0000001"

    resumed = run_script(*script)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    # only the first process speaks
    assert re.findall(r"^step \d", resumed.stdout, re.MULTILINE) == ["step 2", "step 3"]
    weights = re.findall(r"weights ([\d.]+)", resumed.stdout)  # on one line where both speak at once
    assert len(weights) == 2 and weights[0] == weights[1], resumed.stdout  # both hold the same network
    log = [json.loads(line) for line in (run_folder / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in log] == [1, 2, 3]

    monkeypatch.setattr(checkpoint, "save", lambda *_: None)
    alone = train(make_network(), photographs, settings(4, 3), starting_weights, tmp_path / "alone", textures=textures)
    losses = [[[record[name] for name in LOSSES] for record in each] for each in (log, alone)]
    assert np.abs(np.subtract(*losses)).max() < 1e-4


@pytest.mark.slow
def test_a_stop_of_one_process_is_that_of_both(
    photographs: list[Path], starting_weights: StartingWeights, run_folder: Path, tmp_path: Path
) -> None:
    script = (TWO_PROCESSES, tmp_path, starting_weights, photographs, run_folder, settings(2, 2))
    stopped = run_script(*script, stopped_rank="1")  # the other process hears of it, and writes the checkpoint
    assert stopped.returncode == 0, stopped.stderr[-3000:]
    assert stopped.stdout.count("step 1 of 2") == 1
    assert checkpoint.latest(run_folder / "checkpoints") == run_folder / "checkpoints" / "step-0000001"
