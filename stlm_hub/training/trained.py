"""A network that was trained before, out of a model folder, with what its results say of the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import hub
from ..card import read_results
from ..config import FORMAT_VERSION, STLMConfig
from ..errors import ConfigError
from ..stlm import STLM
from .config import TrainingConfig
from .data import Split, fingerprint

FACTS = ("steps", "seconds", "final_losses", "precision", "starting_weights")
"""Of results.json, what only the training knows."""


def read_trained(
    folder: Path, model_config: STLMConfig, training: TrainingConfig, split: Split
) -> tuple[STLM, dict[str, Any]]:
    """
    Args:
        folder: of a model, with its results.json; a memory that it has is left behind.
        model_config, training, split: of the run that takes the network over.

    Returns:
        The network as it was trained, in eval mode; and what results.json says of the training: `FACTS`, and under
        "trained" its date, hardware and versions, those of an earlier training where this one took it over too.

    Raises:
        ConfigError: its results do not tell, or it was trained in another way or on other photographs.
        WeightsError, HubError: the folder holds no model.
    """
    loaded = STLM.from_pretrained(folder, device="cpu")
    results = read_results(folder / "results.json", folder / hub.WEIGHTS_NAME)
    try:
        differs = {
            "training": TrainingConfig.from_dict(results["training"]) != training,
            "model": _of_training(loaded.config) != _of_training(model_config),
            "photographs": results["dataset"]["train"]["sha256"] != fingerprint(split.train),
        }
        facts = {name: results[name] for name in FACTS}
        known = {name: results[name] for name in ("date", "hardware", "versions")}
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{folder / 'results.json'} does not tell how the network was trained: {error}.") from None
    if other := [name for name, found in differs.items() if found]:
        raise ConfigError(
            f"The network in {folder} is of another recipe, its {' and '.join(other)} differ; train it anew, or take "
            "the recipe that it was made by."
        )
    model = STLM(model_config.for_training).eval()
    model.load_state_dict({name: value for name, value in loaded.state_dict().items() if name in model.state_dict()})
    return model, {**facts, "trained": results.get("trained") or known}


def _of_training(config: STLMConfig) -> STLMConfig:
    """What of a model's configuration the training knows."""
    return config.for_training.replace(shared_stages=0, calibration=None, format_version=FORMAT_VERSION)
