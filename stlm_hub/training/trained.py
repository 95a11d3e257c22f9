"""A network that was trained before, out of a model folder, with what its results say of the training."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..fingerprint import fingerprint
from ..model_folder import hub
from ..model_folder.card.card import read_results
from ..models.stlm.config import STLMConfig
from ..stlm import STLM
from .config import TrainingConfig
from .data import Split

FACTS = ("steps", "seconds", "final_losses", "precision", "starting_weights")
"""Of results.json, what only the training knows."""


@dataclass(frozen=True)
class Trained:
    """
    Args:
        network: as it was trained, in eval mode, without a memory.
        facts: of results.json: `FACTS`, other seeds if there are any that judge in the same way, and under "trained"
            date, hardware and versions of the training itself, even if an earlier run took it over too.
        losses: the plot of the training's losses, if there is one.
        options: what the training's command names besides the recipe: " --textures DIR", say, or nothing.
    """

    network: STLM
    facts: dict[str, Any]
    losses: Path | None
    options: str


def read_trained(folder: Path, model_config: STLMConfig, training: TrainingConfig, split: Split) -> Trained:
    """
    Args:
        folder: of a model, with its results.json; a memory that it has is left behind.
        model_config, training, split: of the run that takes the network over.

    Raises:
        ConfigError: its results do not tell, or it was trained in another way or on other photographs.
        WeightsError, HubError: the folder holds no model.
    """
    loaded = STLM.from_pretrained(folder, device="cpu")
    results = read_results(folder / "results.json", folder / hub.WEIGHTS_NAME)
    try:
        before = TrainingConfig.from_dict(results["training"]).deciding
        changed = [name for name, value in training.deciding.items() if before[name] != value]
        differs = {
            f"training ({', '.join(changed)})": bool(changed),
            "model": _trained_part(loaded.config) != _trained_part(model_config),
            "photographs": results["dataset"]["train"]["sha256"] != fingerprint(split.train),
        }
        facts = {name: results[name] for name in FACTS}
        known = {name: results[name] for name in ("date", "hardware", "versions")}
        seeds = results.get("other_seeds")
        if seeds and _added_part(loaded.config) == _added_part(model_config):
            facts["other_seeds"] = seeds
        options = "".join(re.findall(r" --(?:textures|teacher-checkpoint|weights) \S+", results["command"]))
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{folder / 'results.json'} does not tell how the network was trained: {error}.") from None
    if other := [name for name, found in differs.items() if found]:
        raise ConfigError(
            f"The network in {folder} is of another recipe, its {' and '.join(other)} differ; train it anew, or take "
            "the recipe that it was made by."
        )
    model = STLM(model_config.for_training).eval()
    model.load_state_dict({name: value for name, value in loaded.state_dict().items() if name in model.state_dict()})
    losses = folder / "losses.png"
    facts["trained"] = results.get("trained") or known
    return Trained(model, facts, losses if losses.is_file() else None, options)


def _added_part(config: STLMConfig) -> tuple[int, str, str]:
    """What a run adds to the trained network."""
    return config.memory_entries, config.memory_encoder if config.memory_entries else "", config.anomaly_map


def _trained_part(config: STLMConfig) -> STLMConfig:
    # Another of its maps may judge since; whether the aggregation was trained is a field of the training.
    # What the part is called changes nothing.
    return config.for_training.replace(
        shared_stages=0, calibration=None, anomaly_map="aggregation", category="", dataset=""
    )
