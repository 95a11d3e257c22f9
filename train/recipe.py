"""Recipes: which settings make a model of the zoo. Profiles are in `profiles.yaml`, each data set has a file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stlm_hub.errors import ConfigError
from stlm_hub.model_folder.figures import PaperFigures
from stlm_hub.models.stlm.config import NetworkConfig, PatchMemoryConfig, STLMConfig
from stlm_hub.models.stlm.scales import ANOMALY_MAPS
from stlm_hub.pseudo_anomalies.nuisance import Nuisance
from stlm_hub.training.config import TrainingConfig
from stlm_hub.validate import check_choice

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
    anomaly_map: str  # that judges
    training: TrainingConfig
    draw_by: str  # map that is shown and outlined; "": the one that judges
    careful: bool  # whether the threshold stays above all photographs
    nuisance: Nuisance | None  # how the copies are disturbed that memory and calibration see


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
    own_network, own_training = (own.pop(kind, {}).get(profile, {}) for kind in ("networks", "trainings"))
    network: dict[str, Any] = {**base["network"], **changes.get("network", {}), **own_network}
    training: dict[str, Any] = {**base["training"], **changes.get("training", {}), **own, **own_training}
    memory = changes.get("patch_memory", base.get("patch_memory"))
    anomaly_map = changes.get("anomaly_map", base.get("anomaly_map", "aggregation"))
    check_choice("anomaly_map", anomaly_map, ANOMALY_MAPS)
    draw_by = changes.get("draw_by", "")
    check_choice("draw_by", draw_by, ("", *ANOMALY_MAPS))
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
        model=STLMConfig(
            network=NetworkConfig.from_dict(network),
            patch_memory=PatchMemoryConfig.from_dict(memory) if memory else None,
            category=category,
            dataset=data["dataset"],
        ),
        anomaly_map=anomaly_map,
        training=TrainingConfig.from_dict(training),
        draw_by=draw_by,
        careful=changes.get("careful", False),
        nuisance=Nuisance.from_dict(base["nuisance"]) if "nuisance" in base else None,
    )


def change_recipe(
    recipe: Recipe, *, seed: int | None = None, memory_entries: int | None = None, backbone: str | None = None
) -> Recipe:
    """A recipe with another seed, or with another memory beside the streams.

    Raises:
        ConfigError: a backbone without a memory, or a value out of range.
    """
    memory, anomaly_map = recipe.model.patch_memory, recipe.anomaly_map
    if memory_entries is not None:
        memory = dataclasses.replace(memory or PatchMemoryConfig(), entries=memory_entries) if memory_entries else None
        anomaly_map = "combined" if memory else "aggregation"
    if backbone is not None:
        if memory is None:
            raise ConfigError(f"{recipe.alias} has no memory whose backbone could be named; add --memory-entries 4096.")
        memory = dataclasses.replace(memory, backbone=backbone)
    training = recipe.training if seed is None else dataclasses.replace(recipe.training, seed=seed)
    model = recipe.model.replace(patch_memory=memory)
    return dataclasses.replace(recipe, model=model, anomaly_map=anomaly_map, training=training)


def paper_figures(recipe: Recipe) -> PaperFigures | None:
    """The paper's figures for the category, if it has any."""
    data = read_paper()
    figures = data.get(recipe.family, {}).get(recipe.category)
    if not figures:
        return None
    return PaperFigures(**figures, image_size=data["image_size"], teacher=data["teacher"], source=data["source"])


def read_paper() -> dict[str, Any]:
    """Figures of the STLM paper, as `paper.yaml` holds them."""
    return _read(Path(__file__).parent / "paper.yaml")


def _read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))
