"""Other seeds of a model: trained beside it, kept in `runs/`, and told in the card of the one that is published."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stlm_hub.errors import ConfigError
from stlm_hub.model_folder import results as model_results
from stlm_hub.model_folder.card.card import write_card
from stlm_hub.model_folder.figures import SeedFigures
from stlm_hub.model_folder.folder import read_folder
from stlm_hub.model_folder.names import RESULTS_NAME, WEIGHTS_NAME
from stlm_hub.model_folder.results import Results
from stlm_hub.training.config import TrainingConfig


@dataclass(frozen=True)
class Told:
    """Other seeds that a model's card tells of, and the recipe that all of them have in common."""

    recipe: tuple[Any, ...]
    seeds: tuple[SeedFigures, ...]


def folder_of(runs: Path, alias: str, profile: str, seed: int) -> Path:
    """Where a training with another seed than the recipe's leaves everything."""
    return runs / f"{alias}-{profile}-seed{seed}"


def told_before(model: Path) -> Told | None:
    """What the card of a model tells before the model is made anew; None where there is none that can be read."""
    try:
        results = model_results.load(model / RESULTS_NAME)
        return Told(_recipe(results, model), results.other_seeds) if results.training else None
    except ConfigError:
        return None


def tell_other_seeds(
    model: Path,
    runs: Path,
    alias: str,
    profile: str,
    on_message: Callable[[str], None] = lambda message: None,
    *,
    before: Told | None = None,
) -> int:
    """Writes the figures of all other seeds that were trained into a model's results and card.

    A run counts where it had the same recipe, test photographs and starting weights: it differs in the seed only.

    Args:
        model: folder of the published model.
        runs: where the other seeds' folders are.
        alias, profile: of the recipe.
        on_message: called with a sentence for each run that does not count.
        before: what the card of the model told that this one takes the place of; kept where the recipe is the same.

    Returns:
        How many there are.
    """
    results = model_results.load(model / RESULTS_NAME)
    if results.provenance.profile != profile or results.training is None:
        return 0
    recipe = _recipe(results, model)
    others = []
    for found in sorted(runs.glob(f"{alias}-{profile}-seed*/model/{RESULTS_NAME}")):
        try:
            other = model_results.load(found)
            same_seed = other.training is None or other.training.seed == results.training.seed
            left_out = same_seed or _recipe(other, found.parent) != recipe
        except ConfigError as error:  # an older version's, or one that was cut off
            on_message(f"{found} is left out of the card: {error}")
            continue
        if left_out:
            on_message(f"{found} is left out of the card: its recipe or photographs are others than those of {model}.")
            continue
        others.append(_figures(other))
    known = results.other_seeds
    if not known and before and before.recipe == recipe:
        known = before.seeds
    if others or known:  # runs of another checkout are not here, but were told of before
        told = {other.seed for other in others}
        others += [other for other in known if other.seed not in told]
        seeds = tuple(sorted(others, key=lambda other: other.seed))
        model_results.save(dataclasses.replace(results, other_seeds=seeds), model / RESULTS_NAME)
        write_card(model, results.provenance.repo_id)
    return len(others)


def _figures(results: Results) -> SeedFigures:
    assert results.training is not None
    weights = results.files.get(WEIGHTS_NAME)
    return SeedFigures(
        seed=results.training.seed,
        made=results.training.made or results.provenance.made,
        maps=results.maps,
        weights_sha256=weights.sha256 if weights else "",
    )


def _recipe(results: Results, folder: Path) -> tuple[Any, ...]:
    """What two seeds of one recipe have in common: settings, photographs, weights, command, model, map, nuisance."""
    config, judging = read_folder(folder)
    training, dataset = results.training, results.dataset
    assert training is not None
    settings = dataclasses.replace(TrainingConfig.from_dict(dict(training.settings)), seed=0).deciding
    photographs = [part.n if part else None for part in (dataset.train, dataset.held_out)]
    commands = [
        (command.program, command.arguments, {k: v for k, v in command.options.items() if k != "seed"})
        for command in results.provenance.commands
    ]  # it names other textures
    test = dataset.test.sha256 if dataset.test else None
    weights = training.starting_weights.sha256
    return settings, training.steps, photographs, test, weights, commands, config, judging.judge_by, results.nuisance
