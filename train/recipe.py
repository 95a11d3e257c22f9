"""Recipes: which settings make a model of the zoo. Profiles are in `profiles.yaml`, each data set has a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stlm_hub.errors import ConfigError
from stlm_hub.models.stlm.config import STLMConfig
from stlm_hub.training.config import TrainingConfig

RECIPES = Path(__file__).parent / "recipes"
PROFILES = Path(__file__).parent / "profiles.yaml"


@dataclass(frozen=True)
class Recipe:
    """One model of the zoo: alias, e.g. "mvtec-bottle", its settings and where its photographs come from."""

    alias: str
    category: str
    profile: str
    family: str
    dataset: str  # name of the data set
    license: str  # of the weights, as the Hub names licences
    homepage: str
    note: str  # what a reader of the figures must know
    original_size: int  # px; the data set ships no photograph whose longer side is shorter, 0: not known
    original_suffix: str  # of the files that it ships, "": not known
    model: STLMConfig
    training: TrainingConfig


def load_recipe(alias: str, profile: str) -> Recipe:
    """The recipe of an alias.

    Raises:
        ConfigError: no recipe makes this alias, it has no such profile, or a field does not exist.
    """
    families = {data["family"]: data for data in map(_read, sorted(RECIPES.glob("*.yaml")))}
    family, _, category = alias.partition("-")
    if family not in families or category not in families[family]["categories"]:
        known = [f"{name}-{c}" for name, data in families.items() for c in data["categories"]]
        raise ConfigError(f"No recipe makes {alias!r}; there are recipes for {', '.join(known)}.")
    data = families[family]
    if profile not in data["profiles"]:
        raise ConfigError(f"{alias} has no profile {profile!r}; choose one of {', '.join(data['profiles'])}.")
    base, changes = _read(PROFILES)[profile], data["profiles"][profile]
    own = dict(data["categories"][category] or {})
    notes = (data.get("note"), changes.get("note"), own.pop("notes", {}).get(profile))
    note = " ".join(filter(None, notes))
    named = {"category": category, "dataset": data["dataset"]}
    own_model, own_training = (own.pop(kind, {}).get(profile, {}) for kind in ("models", "trainings"))
    model: dict[str, Any] = {**base["model"], **changes.get("model", {}), **own_model, **named}
    training: dict[str, Any] = {**base["training"], **changes.get("training", {}), **own, **own_training}
    return Recipe(
        alias=alias,
        category=category,
        profile=profile,
        family=family,
        dataset=data["dataset"],
        license=data["license"],
        homepage=data["homepage"],
        note=note,
        original_size=data.get("original_size", 0),
        original_suffix=data.get("original_suffix", ""),
        model=STLMConfig.from_dict(model),
        training=TrainingConfig.from_dict(training),
    )


def read_paper() -> dict[str, Any]:
    """Figures of the STLM paper, as `paper.yaml` holds them."""
    return _read(Path(__file__).parent / "paper.yaml")


def _read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))
