"""Makes one model of the zoo: `python -m train mvtec-bottle --profile cpu --data DIR`.

Trains from the recipe, calibrates, evaluates on the test split and leaves model_cards/<alias>/ complete. A run that
was cut off goes on from its last checkpoint when the same command is given again. `python -m train ablate` is another
program, see `ablate.py`.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from accelerate import PartialState

from stlm_hub.cli.progress import RunProgress, console, exit_on_error
from stlm_hub.errors import ConfigError
from stlm_hub.evaluation.evaluate import TestSet, check_both_kinds
from stlm_hub.model_folder import zoo_files
from stlm_hub.model_folder.card.card import write_card
from stlm_hub.model_folder.card.text import official_split
from stlm_hub.models.stlm.anomaly_maps import KINDS
from stlm_hub.predict.images import load_image
from stlm_hub.samples.parts import write_samples
from stlm_hub.starting_weights.sources import starting_weights
from stlm_hub.stlm import STLM
from stlm_hub.training.data import split_normals
from stlm_hub.training.pipeline import Source, run
from stlm_hub.training.pseudo_anomalies.textures import TextureSource
from stlm_hub.training.teacher import SAM_FILES
from stlm_hub.training.trained import read_trained

from .ablations.ablate import ablate
from .datasets import dagm, mvtec_ad, visa
from .datasets.category import Category
from .datasets.folder import read_folder
from .recipe import Recipe, load_recipe, read_paper
from .seeds import folder_of, tell_other_seeds

ROOT = Path(__file__).resolve().parent.parent
SAMPLE_SEED = 0
ABLATIONS = ("cpu-short", "cpu-paper")  # profiles that make no model for the zoo
EXAMPLE_KINDS = ("crack", "stain", "good")


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
    memory_encoder: Annotated[
        str | None,
        typer.Option(help="Whose features these are: efficientnet_lite0 or plain. A kept training serves again."),
    ] = None,
    network: Annotated[
        Path | None,
        typer.Option(help="Model folder of the same recipe, whose network is taken over instead of trained."),
    ] = None,
) -> None:
    """Trains, calibrates, evaluates and writes one model of the zoo."""
    if profile in ABLATIONS:
        raise ConfigError(
            f"The profile {profile} is for `python -m train ablate`; a model of the zoo takes cpu or paper-gpu."
        )
    recipe = load_recipe(alias, profile)
    command = f"python -m train {alias} --profile {profile}"
    work, made, other_seed = runs / f"{alias}-{profile}", output / alias, seed not in (None, recipe.training.seed)
    if other_seed and (memory_entries is not None or memory_encoder is not None):
        raise ConfigError(
            "--seed trains the recipe as it is once more; leave out --memory-entries and --memory-encoder, or --seed."
        )
    if teacher_checkpoint and recipe.training.teacher not in SAM_FILES:
        raise ConfigError(
            f"The teacher of the profile {profile} is {recipe.training.teacher}, which needs no --teacher-checkpoint; "
            "leave it out."
        )
    if network and (textures or teacher_checkpoint or weights):
        raise ConfigError("--network trains nothing; leave out --textures, --teacher-checkpoint and --weights.")
    changes: dict[str, Any] = {}
    if memory_entries is not None:
        changes = {"memory_entries": memory_entries, "anomaly_map": "combined" if memory_entries else "aggregation"}
    if memory_encoder is not None:
        if not changes.get("memory_entries", recipe.model.memory_entries):
            raise ConfigError(f"{alias} has no memory, whose encoder could be named; add --memory-entries 4096.")
        changes["memory_encoder"] = memory_encoder
    recipe = dataclasses.replace(recipe, model=recipe.model.replace(**changes))
    if seed is not None and other_seed:
        recipe = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, seed=seed))
        work = folder_of(runs, alias, profile, seed)
        made = work / "model"
        command += f" --seed {seed}"
    if recipe.family == "sample":
        category = _samples(recipe, runs)
        source_license = "cc0-1.0"
    else:
        if data is None:
            raise ConfigError(
                f"{alias} needs its photographs: pass --data with the folder that {recipe.dataset} was unpacked to."
            )
        category = _read(recipe, data)
        check_both_kinds(category.test, f"{alias} in {data}")
        source_license = recipe.license
        command += " --data DIR"
    if textures:
        command += " --textures DIR"
    if teacher_checkpoint:
        command += f" --teacher-checkpoint {teacher_checkpoint.name}"
    if weights:
        command += f" --weights {weights.name}"
    if memory_entries is not None:
        command += f" --memory-entries {memory_entries}"
    if memory_encoder is not None:
        command += f" --memory-encoder {memory_encoder}"
    before = _results(output / alias / "results.json")
    split = split_normals(category.train, recipe.training.held_out, recipe.training.seed)
    trained = read_trained(network, recipe.model, recipe.training, split) if network else None
    if trained:
        command += trained.options
    source = Source(
        alias=alias,
        dataset={
            "name": recipe.dataset,
            "license": source_license,
            "homepage": recipe.homepage,
            "split": category.split,
            "note": _note(recipe, category.train[0]),
        },
        weights_license=recipe.license,
        repo_id=f"{org}/stlm-{alias}",
        command=command,
        profile=profile,
        paper=_paper(recipe),
        commit=_commit(),
    )
    with RunProgress(alias) as observer:
        results = run(
            split,
            recipe.model,
            recipe.training,
            None if network else starting_weights(weights, on_message=observer.on_message),
            source,
            work=work,
            output=made,
            trained=trained,
            test=category.test,
            textures=TextureSource.from_folder(textures) if textures else None,
            teacher_checkpoint=teacher_checkpoint,
            workers=workers,
            observer=observer,
        )
    if not results:
        return
    if recipe.family == "sample":
        _example_panels(made, category.test)
        write_card(made, source.repo_id)
    if (output / alias / "results.json").is_file():
        told = tell_other_seeds(output / alias, runs, alias, profile, console.print, before=before)
        if told:
            console.print(f"The card of {alias} tells of {told} more {'seed' if told == 1 else 'seeds'}.")
    elif other_seed:
        console.print(f"{made} stays beside the zoo; {alias} itself is not trained yet, so no card tells of it.")
    if not other_seed and output.resolve() == ROOT / "model_cards":
        zoo_files.register(output / alias, alias, source.repo_id, recipe.license)
    for kind in KINDS.values():
        measured = results.get(kind.figures) or {}
        figures = ", ".join(f"{key} {100 * value:.2f}" for key, value in measured.items() if value is not None)
        if figures:
            console.print(f"{kind.label}: {figures}")
    if official_split(results) is False:
        console.print(f"The split is {category.split}.")


def _results(path: Path) -> dict[str, Any] | None:
    """Of the model that is there already, if it has any that can be read."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _samples(recipe: Recipe, runs: Path) -> Category:
    folder = runs / f"samples-{recipe.model.image_size}-{SAMPLE_SEED}"
    with PartialState().main_process_first():  # of a distributed training
        if not (folder / recipe.category).is_dir():
            write_samples(folder, part=recipe.category, size=recipe.model.image_size, seed=SAMPLE_SEED)
    return read_folder(folder / recipe.category)


def _read(recipe: Recipe, data: Path) -> Category:
    if recipe.family == "visa":
        return visa.read_category(data, recipe.category)
    if recipe.family == "dagm":
        return dagm.read_category(data / recipe.category.capitalize())
    return mvtec_ad.read_category(data / recipe.category)


def _example_panels(folder: Path, test: TestSet) -> None:
    """Panels of the first test photograph of some kinds; only for photographs that may be published."""
    model = STLM.from_pretrained(folder)
    for path in test.photographs:
        if path.parent.name in EXAMPLE_KINDS and path.stem == "000":
            model.predict(path).save(folder / f"example_{path.parent.name}.png", title=path.parent.name)


def _note(recipe: Recipe, photograph: Path) -> str | None:
    """What the recipe says of the figures, and whether the photographs were scaled down, which has to be said too."""
    height, width = load_image(photograph).shape[:2]
    changes = [f"scaled down to {width}x{height} px"] if max(height, width) < recipe.original_size else []
    if recipe.original_suffix and photograph.suffix.lower() != recipe.original_suffix:
        changes.append(f"stored as {photograph.suffix.lower()} instead of {recipe.original_suffix}")
    changed = f"Trained and evaluated on photographs {' and '.join(changes)}; the data set ships others."
    return " ".join([recipe.note, *([changed] if changes else [])]).strip() or None


def _commit() -> str:
    """Of the code, "-dirty" behind it where code or recipes were changed since; empty where this is no checkout."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:  # model cards and zoo.json are what this program writes
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--", "*.py", "*.yaml") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _paper(recipe: Recipe) -> dict[str, object] | None:
    data = read_paper()
    figures = data.get(recipe.family, {}).get(recipe.category)
    return (
        {**figures, "image_size": data["image_size"], "teacher": data["teacher"], "source": data["source"]}
        if figures
        else None
    )


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
