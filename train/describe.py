"""What a card says of a zoo model besides its figures: where it comes from and on what it was trained."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from stlm_hub.model_folder.provenance import Command, DatasetFacts, Provenance
from stlm_hub.predict.images import load_image

from .datasets.category import Category
from .recipe import Recipe


def command_of(
    recipe: Recipe,
    *,
    seed: int | None,
    textures: Path | None,
    teacher_checkpoint: Path | None,
    weights: Path | None,
    memory_entries: int | None,
    backbone: str | None,
    more: Mapping[str, bool | int | float | str],
) -> Command:
    """The command that makes the model again; paths of this machine are left out."""
    options: dict[str, bool | int | float | str | None] = {
        "profile": recipe.profile,
        "seed": seed,
        "data": None if recipe.family == "sample" else "DIR",
        "textures": "DIR" if textures else None,
        "teacher-checkpoint": teacher_checkpoint.name if teacher_checkpoint else None,
        "weights": weights.name if weights else None,
        "memory-entries": memory_entries,
        "backbone": backbone,
        **more,
    }
    given = {name: value for name, value in options.items() if value is not None}
    return Command("python -m train", (recipe.alias,), given)


def provenance_of(recipe: Recipe, command: Command, repo_id: str, root: Path) -> tuple[Provenance, str]:
    """Provenance of the model, and the commit of the code in `root`; empty where that is no checkout."""
    provenance = Provenance(
        alias=recipe.alias,
        repo_id=repo_id,
        weights_license=recipe.license,
        profile=recipe.profile,
        commands=(command,),
    )
    return provenance, _commit(root)


def dataset_facts(recipe: Recipe, category: Category) -> DatasetFacts:
    """What is known of the photographs besides their number."""
    height, width = load_image(category.train[0]).shape[:2]
    return DatasetFacts(
        name=recipe.dataset,
        license="cc0-1.0" if recipe.family == "sample" else recipe.license,
        homepage=recipe.homepage,
        split=category.split,
        note=_note(recipe, category.train[0], (height, width)),
        photograph=(height, width),
    )


def _note(recipe: Recipe, photograph: Path, shape: tuple[int, int]) -> str:
    """What the recipe says of the figures, and whether the photographs were scaled down, which has to be said too."""
    height, width = shape
    changes = [f"scaled down to {width}x{height} px"] if max(height, width) < recipe.original_size else []
    if recipe.original_suffix and photograph.suffix.lower() != recipe.original_suffix:
        changes.append(f"stored as {photograph.suffix.lower()} instead of {recipe.original_suffix}")
    changed = f"Trained and evaluated on photographs {' and '.join(changes)}; the data set ships others."
    return " ".join([recipe.note, *([changed] if changes else [])]).strip()


def _commit(root: Path) -> str:
    """Commit of the code, "-dirty" behind it where code or recipes were changed since."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:  # model cards and zoo.json are what this program writes
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--", "*.py", "*.yaml") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
