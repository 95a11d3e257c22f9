"""The tables of ablations, read from `tables.yaml`: which rows there are, and what each changes of a profile."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stlm_hub.errors import ConfigError, STLMError
from stlm_hub.models.stlm.config import NetworkConfig, STLMConfig
from stlm_hub.training.config import TrainingConfig
from stlm_hub.training.objective import PAPER, Objective

from ..recipe import Recipe, read_paper
from .objectives import OBJECTIVES

ABLATIONS = Path(__file__).parent / "tables.yaml"
LEVELS = ("embedding", "decoder")  # of the paper


@dataclass(frozen=True)
class Variant:
    """A row of a table.

    Args:
        label: what the paper calls it.
        name: of the variant in `tables.yaml`.
        model, anomaly_map, training: settings of the profile with what the variant changes.
        objective: what is minimised and moved.
        paper: the paper's figures, means over its categories, where its text has them.
        paper_category: the same of this category.
    """

    label: str
    name: str
    model: STLMConfig
    anomaly_map: str
    training: TrainingConfig
    objective: Objective
    paper: dict[str, float]
    paper_category: dict[str, float]

    @property
    def teacher(self) -> str:
        """Whose knowledge is distilled: "mobile", "vit_h" and so on, or "none"."""
        return self.objective.teacher_name(self.training)

    def digest(self, *facts: str) -> str:
        """Names the settings and whatever else decides the outcome: rows with the same ones are one training."""
        settings = [self.model.to_dict(), self.anomaly_map, self.training.to_dict(), self.objective.name, facts]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Impossible:
    """A row that the profile has no settings for, and why."""

    label: str
    name: str
    reason: str


def load_table(name: str, recipe: Recipe) -> tuple[str, str, list[Variant | Impossible]]:
    """Title, note and rows of a table, with the settings of a recipe.

    Raises:
        ConfigError: there is no such table, or the profile's levels are not the paper's, which the variants change.
    """
    if recipe.model.network.feature_levels != LEVELS:
        raise ConfigError(
            f"The profile {recipe.profile!r} distils other levels than the paper; use cpu-short, cpu-paper or "
            "paper-gpu."
        )
    data = yaml.safe_load(ABLATIONS.read_text(encoding="utf-8"))
    if name not in data["tables"]:
        raise ConfigError(f"There is no table {name!r}; choose one of {', '.join(data['tables'])}.")
    table = data["tables"][name]
    rows: list[Variant | Impossible] = []
    for row in table["rows"]:
        try:
            rows.append(_variant(row, data["variants"][row["variant"]], recipe))
        except STLMError as error:
            rows.append(Impossible(row["label"], row["variant"], str(error)))
    return table["title"], table.get("note", ""), rows


def _variant(row: dict[str, Any], changes: dict[str, Any], recipe: Recipe) -> Variant:
    network = recipe.model.network.to_dict() | changes.get("network", {})
    training = recipe.training.to_dict()
    for name, value in changes.get("training", {}).items():
        training[name] = training[name] | value if isinstance(value, dict) else value
    variant = Variant(
        label=row["label"],
        name=row["variant"],
        model=recipe.model.replace(network=NetworkConfig.from_dict(network)),
        anomaly_map=changes.get("anomaly_map", recipe.anomaly_map),
        training=TrainingConfig.from_dict(training),
        objective=OBJECTIVES[changes.get("objective", PAPER.name)],
        paper=row.get("paper", {}),
        paper_category=_paper_category(row["variant"], recipe.category),
    )
    variant.objective.check_fits(variant.model.network, variant.training)
    if variant.anomaly_map == "aggregation" and not variant.objective.trains_aggregation:
        raise ConfigError(f'The aggregation of {variant.objective.name} stays random; set anomaly_map "cosine".')
    return variant


def _paper_category(variant: str, category: str) -> dict[str, float]:
    table = {"stlm": "mvtec", "no-teacher": "mvtec_no_teacher"}.get(variant)
    return read_paper()[table][category] if table else {}
