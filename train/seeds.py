"""Other seeds of a model: trained beside it, kept in `runs/`, and told in the card of the one that is published."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stlm_hub.model_folder.card.card import write_card
from stlm_hub.models.stlm.anomaly_maps import KINDS
from stlm_hub.training.config import TrainingConfig


def folder_of(runs: Path, alias: str, profile: str, seed: int) -> Path:
    """Where a training with another seed than the recipe's leaves everything."""
    return runs / f"{alias}-{profile}-seed{seed}"


def tell_other_seeds(
    model: Path,
    runs: Path,
    alias: str,
    profile: str,
    on_message: Callable[[str], None] = lambda message: None,
    *,
    before: dict[str, Any] | None = None,
) -> int:
    """Writes the figures of all other seeds that were trained into a model's results and card.

    A run counts where it had the same recipe, test photographs and starting weights: it differs in the seed only.

    Args:
        model: folder of the published model.
        runs: where the other seeds' folders are.
        on_message: told of each run that does not count.
        before: results of the model that this one takes the place of; the seeds that they tell of are told of again
            where the recipe is the same.

    Returns:
        How many there are.
    """
    path = model / "results.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    if results.get("profile") != profile:
        return 0
    others = []
    for found in sorted(runs.glob(f"{alias}-{profile}-seed*/model/results.json")):
        other = json.loads(found.read_text(encoding="utf-8"))
        if other["seed"] == results["seed"] or _recipe(other) != _recipe(results):
            on_message(f"{found} is left out of the card: its recipe or photographs are others than those of {model}.")
            continue
        kept = ("seed", "date", "versions", "trained", *(kind.figures for kind in KINDS.values()))
        others.append({name: other[name] for name in kept if name in other} | {"weights": other["weights"]["sha256"]})
    known = results.get("other_seeds", [])
    if not known and before and _recipe(before) == _recipe(results):
        known = before.get("other_seeds", [])
    if others or known:  # runs of another checkout are not here, but were told of before
        told = {other["seed"] for other in others}
        others += [other for other in known if other["seed"] not in told]
        results["other_seeds"] = sorted(others, key=lambda other: other["seed"])
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        write_card(model, results["repo_id"])
    return len(others)


def _recipe(results: dict[str, Any]) -> tuple[Any, ...]:
    """What two seeds of one recipe have in common. Settings that older results do not name have their defaults."""
    training = TrainingConfig.from_dict(results["training"])
    same = dataclasses.replace(training, seed=0).deciding
    photographs = {name: results["dataset"][name]["n"] for name in ("train", "held_out")}
    return (
        same,
        results["image_size"],
        results.get("anomaly_map", "aggregation"),
        results.get("memory_entries", 0),
        results.get("memory_encoder") or "plain",
        results["feature_levels"],
        results["steps"],
        photographs,
        results["dataset"]["test"]["sha256"],
        results["starting_weights"]["sha256"],
        results["command"].replace(f" --seed {results['seed']}", ""),  # it names other textures
    )
