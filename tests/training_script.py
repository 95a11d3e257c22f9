"""A training in a process of its own, or in several under a launcher; it can be killed at any step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

import stlm_hub
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.training.config import TrainingConfig

SCRIPT = """
import json, os, signal, sys
from pathlib import Path

import torch

from stlm_hub.cli.console import exit_on_error
from stlm_hub.cli.progress import RunProgress
from stlm_hub.models.stlm.config import NetworkConfig
from stlm_hub.models.stlm.aggregation import FeatureAggregation
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.models.stlm.network import STLMNetwork
from stlm_hub.training.config import TrainingConfig
from stlm_hub.training.loop import train
from stlm_hub.pseudo_anomalies.textures import TextureSource

job = json.loads(Path(sys.argv[1]).read_text())
rank, asked = os.environ.get("RANK", "0"), []
torch.set_num_threads(job["threads"])
config = NetworkConfig.from_dict(job["model"])
network = STLMNetwork(config)
torch.manual_seed(0)
network.aggregation = FeatureAggregation(config.aggregation_in_channels, config.aggregation_channels)


def on_step(report):
    print(f"step {report.step} of {report.total}", flush=True)


def should_stop():
    asked.append(1)
    if rank == job["killed_rank"] and len(asked) == job["kill_at"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return rank == job["stopped_rank"]


with exit_on_error(), RunProgress("part"):
    train(
        network,
        [Path(path) for path in job["photographs"]],
        TrainingConfig.from_dict(job["config"]),
        StartingWeights.load(Path(job["weights"])),
        Path(job["folder"]),
        textures=TextureSource(looks=("checker", "spots", "stripes")),
        on_step=on_step,
        should_stop=should_stop,
    )
total = sum(parameter.double().abs().sum().item() for parameter in network.parameters())
print(f"weights {total!r}", flush=True)
"""

TWO_PROCESSES = [
    *("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
    *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
]


def run_script(
    command: list[str],
    tmp_path: Path,
    weights: StartingWeights,
    paths: list[Path],
    folder: Path,
    config: TrainingConfig,
    kill_at: int = 0,
    killed_rank: str = "0",
    stopped_rank: str = "none",
) -> subprocess.CompletedProcess[str]:
    """Trains at 64 px. `command` is what stands before the script: nothing, or `TWO_PROCESSES`."""
    weights.save(tmp_path / "starting.safetensors")
    job = {
        "model": {"input_size": [64, 64], "aggregation_channels": 8},
        "config": config.to_dict(),
        "photographs": [str(path) for path in paths],
        "weights": str(tmp_path / "starting.safetensors"),
        "folder": str(folder),
        "threads": torch.get_num_threads(),
        "kill_at": kill_at,
        "killed_rank": killed_rank,
        "stopped_rank": stopped_rank,
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    (tmp_path / "script.py").write_text(SCRIPT)
    result = subprocess.run(
        [sys.executable, *command, str(tmp_path / "script.py"), str(tmp_path / "job.json")],
        env={**os.environ, "PYTHONPATH": str(Path(stlm_hub.__file__).parents[1]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    (tmp_path / "starting.safetensors").unlink()
    return result
