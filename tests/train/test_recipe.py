from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from stlm_hub.errors import ConfigError
from train.recipe import RECIPES, load_recipe


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
    assert recipe.model.image_size == 1024 and recipe.model.feature_levels == ("embedding", "decoder")
    training = recipe.training
    assert (training.epochs, training.batch_size, training.teacher) == (200, 2, "vit_h")
    assert (training.learning_rate, training.betas) == (5e-4, (0.5, 0.999))
    assert (training.residual_learning_rate, training.head_learning_rate) == (0.1, 0.01)
    assert training.plain_stream == "trained" and training.frozen_stages == 0
    assert training.synthesis.probability == 0.5 and training.synthesis.families == ("perlin",)
    assert training.total_steps(209) == 20900


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


def test_an_unknown_field_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = yaml.safe_load((RECIPES / "mvtec_ad.yaml").read_text())
    data["profiles"]["cpu"]["training"]["learning_speed"] = 1
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(data))
    monkeypatch.setattr("train.recipe.RECIPES", tmp_path)
    with pytest.raises(ConfigError, match="learning_speed"):
        load_recipe("mvtec-bottle", "cpu")
