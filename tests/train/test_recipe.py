from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from stlm_hub.errors import ConfigError
from stlm_hub.models.stlm.config import PatchMemoryConfig
from stlm_hub.pseudo_anomalies.nuisance import Nuisance
from stlm_hub.training.options import small_machine
from train.datasets import dagm, mvtec_ad, visa
from train.recipe import RECIPES, load_recipe

ALIASES = [
    *(f"mvtec-{name}" for name in mvtec_ad.OFFICIAL_COUNTS),
    *(f"visa-{name}" for name in visa.OFFICIAL_COUNTS),
    *(f"dagm-{name.lower()}" for name in dagm.COUNTS),
]


BEFORE_NUISANCE = tuple(f"mvtec-{name}" for name in ("bottle", "grid", "pill", "screw", "toothbrush"))
"""Whose streams were trained before photographs were disturbed."""


def test_every_recipe_and_profile_is_valid() -> None:
    seen = []
    for path in RECIPES.glob("*.yaml"):
        data = yaml.safe_load(path.read_text())
        for profile in data["profiles"]:
            for category in data["categories"]:
                recipe = load_recipe(f"{data['family']}-{category}", profile)
                assert recipe.model.category == category and recipe.model.dataset == data["dataset"]
                seen.append((recipe.alias, profile))
    assert ("mvtec-bottle", "cpu") in seen and ("sample-brick", "cpu") in seen


def test_the_paper_profile_is_the_papers_setting() -> None:
    recipe = load_recipe("mvtec-bottle", "paper-gpu")
    assert recipe.model.network.input_size == (1024, 1024) and recipe.model.network.feature_levels == (
        "embedding",
        "decoder",
    )
    training = recipe.training
    assert (training.epochs, training.batch_size, training.teacher) == (200, 2, "vit_h")
    assert (training.learning_rate, training.betas) == (5e-4, (0.5, 0.999))
    assert (training.residual_learning_rate, training.head_learning_rate) == (0.1, 0.01)
    assert training.plain_stream == "trained" and training.frozen_stages == 0
    assert training.synthesis.probability == 0.5 and training.synthesis.families == ("perlin",)
    assert training.total_steps(209) == 20900


@pytest.mark.parametrize("alias", ALIASES)
def test_each_category_of_the_papers_data_sets_has_a_recipe(alias: str) -> None:
    paper, cpu = load_recipe(alias, "paper-gpu"), load_recipe(alias, "cpu")
    assert paper.model.network.input_size == (1024, 1024) and paper.model.network.feature_levels == (
        "embedding",
        "decoder",
    )
    assert (paper.training.epochs, paper.training.steps, paper.training.teacher) == (200, 0, "vit_h")
    assert cpu.model.network.feature_levels == ("stage1", "stage2", "embedding", "decoder")
    kept = alias in ("mvtec-bottle", "mvtec-pill", "mvtec-toothbrush")
    assert cpu.training.plain_stream == ("frozen" if kept else "trained")
    assert (cpu.training.frozen_stages, cpu.training.teacher) == (1, "mobile")
    fine = alias in ("mvtec-grid", "mvtec-screw", "mvtec-toothbrush", "mvtec-pill")
    assert cpu.model.network.input_size == (2 * (384,) if alias.startswith("mvtec") and not fine else 2 * (512,))
    assert paper.training.rotation == cpu.training.rotation
    assert paper.license == ("cc-by-nc-sa-4.0" if alias.startswith("mvtec") else "cc-by-4.0")
    assert paper.homepage.startswith("https://") and paper.original_size > 0


def test_there_are_no_other_recipes_and_all_train_on_a_cpu_as_fine_tuning_does() -> None:
    data = {path.stem: yaml.safe_load(path.read_text()) for path in RECIPES.glob("*.yaml")}
    assert len(ALIASES) == 37
    found = {f"{d['family']}-{c}" for name, d in data.items() for c in d["categories"] if name != "samples"}
    assert found == set(ALIASES)
    for alias in ALIASES:
        training = load_recipe(alias, "cpu").training
        same = small_machine(training.steps, training.seed, training.rotation)
        if alias in ("mvtec-bottle", "mvtec-pill", "mvtec-toothbrush"):  # trained before the plain stream was
            same = dataclasses.replace(same, plain_stream="frozen")
        if alias in BEFORE_NUISANCE:
            same = dataclasses.replace(same, nuisance=None)
        if alias in ("mvtec-screw", "mvtec-pill"):
            assert "erase" in training.synthesis.families and training.synthesis.on_part
            training = dataclasses.replace(training, synthesis=same.synthesis)
        assert training == same, alias


def test_what_a_category_has_to_say_is_of_one_profile() -> None:
    pill, bottle = load_recipe("mvtec-pill", "cpu").note, load_recipe("mvtec-bottle", "cpu").note
    assert (
        pill.startswith(bottle)
        and pill.endswith("had been looked at.")
        and bottle.startswith("That models of this profile have a memory")
    )
    assert load_recipe("mvtec-pill", "paper-gpu").note == load_recipe("visa-candle", "cpu").note == ""


def test_the_cpu_profile_remembers_patches_and_the_papers_has_nothing_of_it() -> None:
    for alias in ALIASES:
        cpu, paper = load_recipe(alias, "cpu"), load_recipe(alias, "paper-gpu")
        assert cpu.model.patch_memory == PatchMemoryConfig(4096, 128, "efficientnet_lite0")
        assert cpu.anomaly_map == "combined"
        assert (paper.model.patch_memory, paper.anomaly_map) == (None, "aggregation")


def test_memory_and_calibration_see_disturbed_copies_also_where_the_streams_did_not() -> None:
    for alias in (*ALIASES, "sample-brick"):
        recipe = load_recipe(alias, "cpu")
        assert recipe.nuisance == Nuisance(), alias
        untouched = (*BEFORE_NUISANCE, "sample-brick")
        assert recipe.training.nuisance == (None if alias in untouched else recipe.nuisance), alias


def test_the_papers_profile_disturbs_nothing() -> None:
    paper = load_recipe("mvtec-bottle", "paper-gpu")
    assert paper.nuisance is None and paper.training.nuisance is None


def test_the_sample_part_is_made_like_the_others() -> None:
    recipe = load_recipe("sample-brick", "cpu")
    assert recipe.model.patch_memory == PatchMemoryConfig(4096, 128, "efficientnet_lite0")
    assert recipe.anomaly_map == "combined" and recipe.model.network.input_size == (256, 256)


def test_parts_that_lie_in_any_direction_are_turned() -> None:
    turned: dict[str, set[str]] = {}
    for alias in ALIASES:
        turned.setdefault(load_recipe(alias, "cpu").training.rotation, set()).add(alias.partition("-")[2])
    assert turned["quarter"] == {"bottle", "hazelnut", "leather", "tile", "carpet", "grid", "screw"}
    assert turned["slight"] == {"cable", "wood", "zipper"}
    assert turned["none"] == {
        *("capsule", "metal_nut", "pill", "toothbrush", "transistor"),
        *visa.OFFICIAL_COUNTS,
        *map(str.lower, dagm.COUNTS),
    }


def test_the_category_decides_the_rotation() -> None:
    assert load_recipe("mvtec-bottle", "cpu").training.rotation == "quarter"
    assert load_recipe("mvtec-bottle", "paper-gpu").training.rotation == "quarter"
    assert load_recipe("sample-brick", "cpu").training.rotation == "none"


@pytest.mark.parametrize(
    ("alias", "profile", "sentence"),
    [
        ("mvtec-botle", "cpu", "No recipe makes 'mvtec-botle'"),
        ("bottle", "cpu", "mvtec-bottle"),
        ("mvtec-bottle", "gpu", "choose one of paper-gpu, cpu"),
    ],
)
def test_unknown_names_are_refused(alias: str, profile: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_recipe(alias, profile)


@pytest.mark.parametrize("training", [{"learning_speed": 1}, {"nuisance": {"learning_speed": 1}}])
def test_an_unknown_field_is_refused(training: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = yaml.safe_load((RECIPES / "mvtec_ad.yaml").read_text())
    data["profiles"]["cpu"]["training"] = training
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(data))
    monkeypatch.setattr("train.recipe.RECIPES", tmp_path)
    with pytest.raises(ConfigError, match="learning_speed"):
        load_recipe("mvtec-cable", "cpu")
