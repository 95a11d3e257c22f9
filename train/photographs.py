"""The photographs of a recipe, from whichever data set they are."""

from __future__ import annotations

from pathlib import Path

from stlm_hub.errors import ConfigError
from stlm_hub.evaluation.evaluate import TestSet, check_both_kinds
from stlm_hub.model_folder.card.card import write_card
from stlm_hub.samples.parts import write_samples
from stlm_hub.stlm import STLM
from stlm_hub.training.processes import processes

from .datasets import dagm, mvtec_ad, visa
from .datasets.category import Category
from .datasets.folder import read_folder
from .recipe import Recipe

SAMPLE_SEED = 0
EXAMPLE_KINDS = ("crack", "stain", "good")


def read_photographs(recipe: Recipe, data: Path | None, runs: Path) -> Category:
    """Photographs of the recipe's category.

    Args:
        recipe: of the model.
        data: folder that the data set was unpacked to; sample photographs need none.
        runs: where sample photographs are written.

    Raises:
        ConfigError: `data` is missing.
        DataError: the photographs are not all there.
    """
    if recipe.family == "sample":
        return _samples(recipe, runs)
    if data is None:
        raise ConfigError(
            f"{recipe.alias} needs its photographs: pass --data with the folder that {recipe.dataset} was unpacked to."
        )
    category = _read(recipe, data)
    check_both_kinds(category.test, f"{recipe.alias} in {data}")
    return category


def write_examples(folder: Path, test: TestSet, repo_id: str) -> None:
    """Panels of the first test photograph of some kinds, and the card that shows them.

    Only for photographs that may be published.
    """
    model = STLM.from_pretrained(folder)
    for path in test.photographs:
        if path.parent.name in EXAMPLE_KINDS and path.stem == "000":
            model.predict(path).save(folder / f"example_{path.parent.name}.png", title=path.parent.name)
    write_card(folder, repo_id)


def _samples(recipe: Recipe, runs: Path) -> Category:
    size = max(recipe.model.network.frame_size)
    folder = runs / f"samples-{size}-{SAMPLE_SEED}"
    with processes().main_process_first():  # of a distributed training
        if not (folder / recipe.category).is_dir():
            write_samples(folder, part=recipe.category, size=size, seed=SAMPLE_SEED)
    return read_folder(folder / recipe.category)


def _read(recipe: Recipe, data: Path) -> Category:
    if recipe.family == "visa":
        return visa.read_category(data, recipe.category)
    if recipe.family == "dagm":
        return dagm.read_category(data / recipe.category.capitalize())
    return mvtec_ad.read_category(data / recipe.category)
