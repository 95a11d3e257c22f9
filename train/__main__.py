"""Makes one model of the zoo: `python -m train mvtec-bottle --profile cpu --data DIR`.

Trains from the recipe, calibrates, evaluates on the test split and leaves model_cards/<alias>/ complete. A run that
was cut off goes on from its last checkpoint when the same command is given again. `python -m train ablate` is another
program, see `ablations/ablate.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from stlm_hub.cli.console import exit_on_error, say
from stlm_hub.cli.progress import RunProgress
from stlm_hub.errors import ConfigError
from stlm_hub.model_folder import zoo_files
from stlm_hub.model_folder.results import Results
from stlm_hub.models.stlm.scales import MAP_LABELS
from stlm_hub.pseudo_anomalies.textures import TextureSource
from stlm_hub.starting_weights.sources import starting_weights
from stlm_hub.training.data import split_normals
from stlm_hub.training.job import Job
from stlm_hub.training.pipeline import run
from stlm_hub.training.teacher import SAM_FILES
from stlm_hub.training.trained import read_trained

from .ablations.ablate import ablate
from .describe import command_of, dataset_facts, provenance_of
from .photographs import read_photographs, write_examples
from .recipe import Recipe, change_recipe, load_recipe, paper_figures
from .seeds import Told, folder_of, tell_other_seeds, told_before

ROOT = Path(__file__).resolve().parent.parent
ABLATIONS = ("cpu-short", "cpu-paper")  # profiles that make no model for the zoo


def make(
    alias: Annotated[str, typer.Argument(help="Which model, e.g. mvtec-bottle or sample-brick.")],
    profile: Annotated[str, typer.Option(help="Settings of the recipe: cpu or paper-gpu.")] = "cpu",
    data: Annotated[
        Path | None, typer.Option(help="Folder that the data set was unpacked to, e.g. .../mvtec_ad.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where checkpoints and logs go.")] = ROOT / "runs",
    output: Annotated[Path, typer.Option(help="Where <alias>/ is written.")] = ROOT / "model_cards",
    org: Annotated[str, typer.Option(help="Organisation on the Hub that the model is meant for.")] = "stlm-hub",
    textures: Annotated[Path | None, typer.Option(help="Folder of textures; default: the built-in ones.")] = None,
    teacher_checkpoint: Annotated[
        Path | None, typer.Option(help="Segment Anything's .pth, for the ViT teachers.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Starting weights; default: fetched and kept.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Loader processes; 0 without a GPU.")] = 0,
    seed: Annotated[int | None, typer.Option(help="Another seed; its figures go into the zoo's card.")] = None,
    memory_entries: Annotated[
        int | None,
        typer.Option(help="Normal patches to remember beside the streams, 0 for none. A kept training serves again."),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="Whose features these are: efficientnet_lite0 or mobile_sam. A kept training serves again."),
    ] = None,
    network: Annotated[
        Path | None,
        typer.Option(help="Model folder of the same recipe, whose network is taken over instead of trained."),
    ] = None,
) -> None:
    """Trains, calibrates, evaluates and writes one model of the zoo."""
    recipe = load_recipe(alias, profile)
    _check_options(recipe, teacher_checkpoint, network, (textures, teacher_checkpoint, weights))
    other_seed = seed not in (None, recipe.training.seed)
    if other_seed and (memory_entries is not None or backbone is not None):
        raise ConfigError(
            "--seed trains the recipe as it is once more; leave out --memory-entries and --backbone, or --seed."
        )
    recipe = change_recipe(recipe, seed=seed, memory_entries=memory_entries, backbone=backbone)
    work = folder_of(runs, alias, profile, recipe.training.seed) if other_seed else runs / f"{alias}-{profile}"
    made = work / "model" if other_seed else output / alias
    category = read_photographs(recipe, data, runs)
    split = split_normals(category.train, recipe.training.held_out, recipe.training.seed)
    trained = (
        read_trained(network, recipe.model, recipe.anomaly_map, recipe.training, split, recipe.nuisance)
        if network
        else None
    )
    command = command_of(
        recipe,
        seed=recipe.training.seed if other_seed else None,
        textures=textures,
        teacher_checkpoint=teacher_checkpoint,
        weights=weights,
        memory_entries=memory_entries,
        backbone=backbone,
        more=trained.options if trained else {},
    )
    provenance, commit = provenance_of(recipe, command, f"{org}/stlm-{alias}", ROOT)
    before = told_before(output / alias)
    with RunProgress(alias) as observer:
        results = run(
            Job(
                split=split,
                config=recipe.model,
                anomaly_map=recipe.anomaly_map,
                training=recipe.training,
                nuisance=recipe.nuisance,
                draw_by=recipe.draw_by,
                careful=recipe.careful,
                weights=None if network else starting_weights(weights, on_message=observer.on_message),
                provenance=provenance,
                dataset=dataset_facts(recipe, category),
                paper=paper_figures(recipe),
                commit=commit,
                work=work,
                output=made,
                trained=trained,
                test=category.test,
                textures=TextureSource.from_folder(textures) if textures else None,
                teacher_checkpoint=teacher_checkpoint,
                workers=workers,
            ),
            observer,
        )
    if results is None:
        return
    if recipe.family == "sample":
        write_examples(made, category.test, provenance.repo_id)
    _tell_seeds(output / alias, made, runs, recipe, before, other_seed)
    if not other_seed and output.resolve() == ROOT / "model_cards":
        zoo_files.register(output / alias, alias, provenance.repo_id, recipe.license)
    _print_figures(results)


def _check_options(
    recipe: Recipe, teacher_checkpoint: Path | None, network: Path | None, training: tuple[Path | None, ...]
) -> None:
    if recipe.profile in ABLATIONS:
        raise ConfigError(
            f"The profile {recipe.profile} is for `python -m train ablate`; a model of the zoo takes cpu or paper-gpu."
        )
    if teacher_checkpoint and recipe.training.teacher not in SAM_FILES:
        raise ConfigError(
            f"The teacher of the profile {recipe.profile} is {recipe.training.teacher}, which needs no "
            "--teacher-checkpoint; leave it out."
        )
    if network and any(training):
        raise ConfigError("--network trains nothing; leave out --textures, --teacher-checkpoint and --weights.")


def _tell_seeds(model: Path, made: Path, runs: Path, recipe: Recipe, before: Told | None, other_seed: bool) -> None:
    """Brings the figures of other seeds into the published model's card."""
    if (model / "results.json").is_file():
        told = tell_other_seeds(model, runs, recipe.alias, recipe.profile, say, before=before)
        if told:
            say(f"The card of {recipe.alias} tells of {told} more {'seed' if told == 1 else 'seeds'}.")
    elif other_seed:
        say(f"{made} stays beside the zoo; {recipe.alias} itself is not trained yet, so no card tells of it.")


def _print_figures(results: Results) -> None:
    for name, figures in results.maps.items():
        shown = ", ".join(f"{key} {100 * value:.2f}" for key, value in figures.to_dict().items())
        say(f"{MAP_LABELS[name]}: {shown}")
    split = results.dataset.split
    if split and not split.official:
        say(f"The split is {split.words}.")


def main() -> None:
    """Entry point: `ablate` is a word of its own, anything else names a model."""
    command: Callable[..., None] = make
    if sys.argv[1:2] == ["ablate"]:
        command = ablate
        sys.argv[:2] = [f"{sys.argv[0]} ablate"]
    with exit_on_error():
        typer.run(command)


if __name__ == "__main__":
    main()
