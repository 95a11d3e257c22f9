"""Other seeds of a model: trained beside it, kept in `runs/`, and told in the card of the one that is published."""

from __future__ import annotations

import json
from pathlib import Path

from stlm_hub.card import write_card


def folder_of(runs: Path, alias: str, profile: str, seed: int) -> Path:
    """Where a training with another seed than the recipe's leaves everything."""
    return runs / f"{alias}-{profile}-seed{seed}"


def tell_other_seeds(model: Path, runs: Path, alias: str, profile: str) -> int:
    """Writes the figures of all other seeds that were trained into a model's results and card.

    A run counts where it had the same recipe: it differs in the seed only.

    Args:
        model: folder of the published model.
        runs: where the other seeds' folders are.

    Returns:
        How many there are.
    """
    path = model / "results.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    others = []
    for found in sorted(runs.glob(f"{alias}-{profile}-seed*/model/results.json")):
        other = json.loads(found.read_text(encoding="utf-8"))
        if {**other["training"], "seed": results["seed"]} != results["training"] or other["seed"] == results["seed"]:
            continue
        kept = ("seed", "metrics", "metrics_without_aggregation", "date")
        others.append({name: other[name] for name in kept} | {"weights": other["weights"]["sha256"]})
    if others or "other_seeds" in results:
        results["other_seeds"] = sorted(others, key=lambda other: other["seed"])
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        write_card(model, results["repo_id"])
    return len(others)
