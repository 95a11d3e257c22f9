"""The paper's tables as data: what each row changes, and which rows are one training."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from stlm_hub.errors import ConfigError
from train.ablations import tables
from train.ablations.report import shown
from train.ablations.tables import ABLATIONS, Impossible, Variant, load_table
from train.recipe import load_recipe, read_paper

TABLES = (
    *("4", "teachers", "5", "6", "7", "8", "9", "10", "11", "fig5", "fig6", "fig10", "fig11"),  # of the paper
    *("hardest", "recipe", "options"),
)


def variants(table: str, profile: str = "cpu-short") -> dict[str, Variant]:
    _, _, rows = load_table(table, load_recipe("mvtec-bottle", profile))
    assert all(isinstance(row, Variant) for row in rows)
    return {row.name: row for row in rows if isinstance(row, Variant)}


def test_every_variant_stands_in_a_table_and_every_table_has_rows() -> None:
    data = yaml.safe_load(ABLATIONS.read_text())
    named = [row["variant"] for table in data["tables"].values() for row in table["rows"]]
    assert set(named) == set(data["variants"])
    assert tuple(data["tables"]) == TABLES


@pytest.mark.parametrize("table", TABLES)
def test_a_variant_changes_what_its_table_is_about_and_nothing_else(table: str) -> None:
    recipe = load_recipe("mvtec-bottle", "cpu-short")
    data = yaml.safe_load(ABLATIONS.read_text())["variants"]
    for name, variant in variants(table).items():
        assert data[name].keys() <= {"network", "training", "anomaly_map", "objective"}
        for kind, made, base in (
            ("network", variant.model.network.to_dict(), recipe.model.network.to_dict()),
            ("training", variant.training.to_dict(), recipe.training.to_dict()),
        ):
            asked = data[name].get(kind, {})
            for key, value in made.items():
                change = asked.get(key, base[key])
                assert value == (base[key] | change if isinstance(change, dict) else change), (name, key)
        assert variant.anomaly_map == data[name].get("anomaly_map", recipe.anomaly_map)
        assert variant.objective.name == data[name].get("objective", "paper")
        variant.objective.check_fits(variant.model.network, variant.training)
        assert variant.model.patch_memory is None


def test_the_papers_figures_of_the_category_stand_beside_the_two_rows_that_have_them() -> None:
    rows = variants("7")
    assert rows["no-teacher"].paper_category == {"i_auroc": 0.7413, "p_auroc": 0.7665, "aupro": 0.7463}
    assert rows["stlm"].paper_category == {"i_auroc": 1.0, "p_auroc": 0.9777, "aupro": 0.9092}
    assert not any(row.paper_category for name, row in variants("6").items() if name != "stlm")
    figures = read_paper()
    figures["mvtec"]["pill"]["i_auroc"] = 0.9720  # of Table 7, with which alone the paper's means come out
    for table, variant in (("mvtec", "stlm"), ("mvtec_no_teacher", "no-teacher")):
        assert len(figures[table]) == 15
        for name, mean in rows[variant].paper.items():
            assert sum(row[name] for row in figures[table].values()) / 15 == pytest.approx(mean, abs=1e-4)


def test_the_short_profile_is_the_papers_model() -> None:
    recipe = load_recipe("mvtec-bottle", "cpu-short")
    assert recipe.model.network.feature_levels == ("embedding", "decoder")
    assert recipe.training.synthesis.families == ("perlin",)
    assert (recipe.training.plain_stream, recipe.training.frozen_stages) == ("trained", 0)


def test_the_reference_profile_is_as_long_as_the_zoos_and_otherwise_the_short_one() -> None:
    reference, cpu, short = (load_recipe("mvtec-bottle", profile) for profile in ("cpu-paper", "cpu", "cpu-short"))
    length = ("steps", "warmup_steps", "checkpoint_every")
    larger = dataclasses.replace(short.model.network, input_size=cpu.model.network.input_size)
    assert reference.model == short.model.replace(network=larger)
    assert reference.training == dataclasses.replace(
        short.training, **{name: getattr(cpu.training, name) for name in length}
    )


@pytest.mark.parametrize(
    ("variant", "alias"),
    [
        ("cpu-recipe", "mvtec-carpet"),
        ("kept-plain-stream", "mvtec-bottle"),  # of before the plain stream was trained
    ],
)
def test_all_changes_of_the_recipe_together_are_the_zoos(variant: str, alias: str) -> None:
    """But for the memory and the map, which change no training, and the nuisance, which came after the table."""
    together, cpu = variants("recipe", "cpu-paper")[variant], load_recipe(alias, "cpu")
    assert together.training == dataclasses.replace(cpu.training, nuisance=None)
    assert together.model == cpu.model.replace(category="bottle", patch_memory=None)
    assert together.anomaly_map == "aggregation"


def test_the_table_gives_no_column_to_what_is_the_same_in_all_rows_or_in_none() -> None:
    row = {"label": "a", "teacher": "mobile", "metrics": {"ap": 0.5}, "paper": {}, "paper_category": {}}
    report = {"title": "T", "category": "c", "profile": "p", "rows": [row, {"label": "b", "not_run": "why"}]}

    def columns(**changes: Any) -> list[str]:
        rows = [*report["rows"], {**row, **changes}]
        return [str(column.header) for column in shown({**report, "rows": rows}).columns]

    figures = ["I-AUROC", "P-AUROC", "AUPRO", "AP", "FNR"]
    assert columns() == ["variant", *figures]
    assert columns(teacher="vit_h") == ["variant", "teacher", *figures]
    assert columns(paper={"ap": 0.1}) == ["variant", *figures, "paper"]


def test_with_the_papers_profile_a_row_that_cannot_be_is_a_sentence() -> None:
    """A ViT-H plain stream does not fit into the network."""
    _, _, rows = load_table("4", load_recipe("mvtec-bottle", "paper-gpu"))
    (row,) = [row for row in rows if isinstance(row, Impossible)]
    assert row.label == "without plain student stream"
    assert row.reason.startswith('no_plain_student needs teacher "mobile"')
    with pytest.raises(ConfigError, match=r"no table '12'; choose one of 4, teachers, 5"):
        load_table("12", load_recipe("mvtec-bottle", "paper-gpu"))
    with pytest.raises(ConfigError, match="'cpu' distils other levels than the paper; use cpu-short, cpu-paper"):
        load_table("4", load_recipe("mvtec-bottle", "cpu"))


def test_a_map_that_was_not_trained_must_not_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert variants("4")["no-aggregation"].anomaly_map == "cosine"
    changed = tmp_path / "tables.yaml"
    changed.write_text(ABLATIONS.read_text().replace("{anomaly_map: cosine, objective", "{objective"))
    monkeypatch.setattr(tables, "ABLATIONS", changed)
    _, _, rows = load_table("4", load_recipe("mvtec-bottle", "cpu-short"))
    (row,) = [row for row in rows if isinstance(row, Impossible)]
    assert row.name == "no-aggregation" and 'stays random; set anomaly_map "cosine"' in row.reason


def test_without_a_teacher_no_checkpoint_is_needed() -> None:
    rows = variants("7", "paper-gpu")
    assert (rows["no-teacher"].teacher, rows["stlm"].teacher) == ("none", "vit_h")


def test_rows_with_the_same_settings_are_one_training() -> None:
    table = variants("4")
    assert table["teacher-mobile"].digest("data") == table["stlm"].digest("data") != table["stlm"].digest("other data")
    assert len({variant.digest() for variant in table.values()}) == len(table) - 1
    for other, name in (("5", "two-stage"), ("7", "no-teacher"), ("8", "random-encoders"), ("9", "distil-masks")):
        rows = variants(other)
        assert rows[name].digest() != rows["stlm"].digest() == table["stlm"].digest()
    longer = dataclasses.replace(table["stlm"], training=dataclasses.replace(table["stlm"].training, steps=300))
    assert longer.digest() != table["stlm"].digest()
