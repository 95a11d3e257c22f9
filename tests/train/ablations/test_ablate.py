"""The paper's tables as data, and one of them trained for a step on small photographs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from stlm_hub.errors import ConfigError, STLMError, StorageError, TrainingError, WeightsError
from stlm_hub.models.stlm.image_encoder import ImageEncoder
from stlm_hub.models.stlm.mask_decoder import MaskDecoder
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.stlm import STLM
from train.ablations import ablate, report, tables
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
        for kind, base in (("model", recipe.model.to_dict()), ("training", recipe.training.to_dict())):
            settings = getattr(variant, kind).to_dict()
            changed = {key: value for key, value in settings.items() if value != base[key]}
            asked = data[name].get(kind, {})
            assert changed.keys() <= asked.keys(), name
            for key, value in asked.items():
                expected = base[key] | value if isinstance(value, dict) else value
                assert settings[key] == expected, name
        assert variant.objective.name == data[name].get("objective", "paper")
        variant.objective.check_fits(variant.model, variant.training)


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
    assert recipe.model.feature_levels == ("embedding", "decoder")
    assert recipe.training.synthesis.families == ("perlin",)
    assert (recipe.training.plain_stream, recipe.training.frozen_stages) == ("trained", 0)


def test_the_reference_profile_is_as_long_as_the_zoos_and_otherwise_the_short_one() -> None:
    reference, cpu, short = (load_recipe("mvtec-bottle", profile) for profile in ("cpu-paper", "cpu", "cpu-short"))
    length = ("steps", "warmup_steps", "checkpoint_every")
    assert reference.model == short.model.replace(image_size=cpu.model.image_size)
    assert reference.training == dataclasses.replace(
        short.training, **{name: getattr(cpu.training, name) for name in length}
    )


@pytest.mark.parametrize(
    ("variant", "alias"),
    [
        ("cpu-recipe", "mvtec-carpet"),
        ("kept-plain-stream", "mvtec-bottle"),
    ],  # bottle is of before the plain stream was trained
)
def test_all_changes_of_the_recipe_together_are_the_zoos(variant: str, alias: str) -> None:
    """But for the memory and the map, which change no training."""
    together, cpu = variants("recipe", "cpu-paper")[variant], load_recipe(alias, "cpu")
    assert together.training == cpu.training
    assert together.model == cpu.model.replace(
        category="bottle", memory_entries=0, memory_encoder="plain", anomaly_map="aggregation"
    )


def test_the_table_gives_no_column_to_what_is_the_same_in_all_rows_or_in_none() -> None:
    row = {"label": "a", "teacher": "mobile", "metrics": {"ap": 0.5}, "paper": {}, "paper_category": {}}
    made = {"title": "T", "category": "c", "profile": "p", "rows": [row, {"label": "b", "not_run": "why"}]}

    def columns(**changes: Any) -> list[str]:
        rows = [*made["rows"], {**row, **changes}]
        return [str(column.header) for column in report.shown({**made, "rows": rows}).columns]

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
    assert variants("4")["no-aggregation"].model.anomaly_map == "cosine"
    changed = tmp_path / "tables.yaml"
    changed.write_text(ABLATIONS.read_text().replace("anomaly_map: cosine, objective", "objective"))
    monkeypatch.setattr(tables, "ABLATIONS", changed)
    _, _, rows = load_table("4", load_recipe("mvtec-bottle", "cpu-short"))
    (row,) = [row for row in rows if isinstance(row, Impossible)]
    assert row.name == "no-aggregation" and 'stays random; set anomaly_map "cosine"' in row.reason


def test_without_a_teacher_no_checkpoint_is_needed() -> None:
    rows = variants("7", "paper-gpu")
    assert (rows["no-teacher"].teacher, rows["stlm"].teacher) == ("none", "vit_h")


def test_a_row_is_of_the_code_that_makes_it() -> None:
    for pattern in ablate.CODE:
        assert list(ablate.ROOT.glob(pattern)), pattern
    names = {str(path.relative_to(ablate.ROOT)) for path in ablate.code()}
    assert {f"stlm_hub/training/{name}" for name in ablate.NO_CODE}.isdisjoint(names)
    assert all((ablate.ROOT / "stlm_hub/training" / name).is_file() for name in ablate.NO_CODE)
    assert {"stlm_hub/training/objective.py", "stlm_hub/training/pseudo_anomalies/nsa.py"} <= names


def test_rows_with_the_same_settings_are_one_training() -> None:
    table = variants("4")
    assert table["teacher-mobile"].digest("data") == table["stlm"].digest("data") != table["stlm"].digest("other data")
    assert len({variant.digest() for variant in table.values()}) == len(table) - 1
    for other, name in (("5", "two-stage"), ("7", "no-teacher"), ("8", "random-encoders"), ("9", "distil-masks")):
        rows = variants(other)
        assert rows[name].digest() != rows["stlm"].digest() == table["stlm"].digest()
    longer = dataclasses.replace(table["stlm"], training=dataclasses.replace(table["stlm"].training, steps=300))
    assert longer.digest() != table["stlm"].digest()


@pytest.fixture
def bottles(tmp_path: Path) -> Path:
    """A category folder of noise, 64 px; anomalous ones have a white square."""
    rng = np.random.default_rng(0)

    def write(path: Path, pixels: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    folder = tmp_path / "mvtec_ad" / "bottle"
    for i in range(6):
        write(folder / "train" / "good" / f"{i}.png", rng.integers(90, 110, (64, 64, 3), np.uint8))
    for i in range(2):
        write(folder / "test" / "good" / f"{i}.png", rng.integers(90, 110, (64, 64, 3), np.uint8))
        broken = rng.integers(90, 110, (64, 64, 3), np.uint8)
        broken[16:32, 16:32] = 255
        write(folder / "test" / "broken" / f"{i}.png", broken)
        write(folder / "ground_truth" / "broken" / f"{i}_mask.png", (broken[..., 0] == 255).astype(np.uint8) * 255)
    return folder.parent


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One step at 64 px from random starting weights; names of what was trained."""
    real = ablate.load_recipe
    trained: list[str] = []
    weights = StartingWeights(
        dict(ImageEncoder().state_dict()), dict(MaskDecoder().state_dict()), source="random", sha256="ab" * 32
    )
    real_run = ablate.run

    def load(alias: str, profile: str) -> Any:
        recipe = real(alias, profile)
        return dataclasses.replace(
            recipe,
            model=recipe.model.replace(image_size=64),
            training=dataclasses.replace(recipe.training, steps=2, precision="no"),
        )

    def run(split: Any, model: Any, training: Any, weights: Any, source: Any, **options: Any) -> Any:
        trained.append(source.alias)
        return real_run(split, model, training, weights, source, **options)

    monkeypatch.setattr(ablate, "load_recipe", load)
    monkeypatch.setattr(ablate, "run", run)
    monkeypatch.setattr(ablate, "starting_weights", lambda *args, **options: weights)
    return trained


def test_a_table_is_trained_once_and_printed_beside_the_papers(
    bottles: Path, tmp_path: Path, short: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    for _ in range(2):
        ablate.ablate("8", bottles, runs=runs)
        assert short == ["mvtec-bottle-random-encoders", "mvtec-bottle-stlm"]
    out = capsys.readouterr().out
    assert "98.93/98.41/94.57" in out and "99.05/98.26/94.92" in out
    assert "100.00/97.77/90.92" in out and "it took 141 epochs, with them 55" in " ".join(out.split())
    report = json.loads((runs / "ablations" / "mvtec-bottle-cpu-short" / "table-8.json").read_text())
    assert [row["label"] for row in report["rows"]] == ["random", "MobileSAM (STLM)"]
    assert report["split"].startswith("not the official one: 6 train") and f"The split is {report['split'][:20]}" in out
    assert report["command"] == "python -m train ablate 8 --category bottle --profile cpu-short --data DIR"
    folders = {path.parent.name: path for path in runs.glob("ablations/*/*/model")}
    for row in report["rows"]:
        assert row["steps"] == 2 and 0 <= row["metrics"]["p_auroc"] <= 1
        folder = next(path for name, path in folders.items() if name.startswith(row["variant"]))
        results = json.loads((folder / "results.json").read_text())
        assert row["metrics"] == results["metrics"]
        assert row["other_maps"] == {"metrics_without_aggregation": results["metrics_without_aggregation"]}
        assert STLM.from_pretrained(folder).predict(bottles / "bottle/test/good/0.png").score <= 1
        assert not (folder.parent / "checkpoints").exists()  # nothing needs them any more

    ablate.ablate("4", bottles, runs=runs)
    assert short[2:] == [
        "mvtec-bottle-no-plain-student",
        "mvtec-bottle-no-mask-decoder",
        "mvtec-bottle-no-aggregation",
    ]
    report = json.loads((runs / "ablations" / "mvtec-bottle-cpu-short" / "table-4.json").read_text())
    rows = {row["variant"]: row for row in report["rows"]}
    assert rows["teacher-mobile"]["metrics"] == rows["stlm"]["metrics"]
    folder = next(runs.glob("ablations/*/no-aggregation-*/model"))
    results = json.loads((folder / "results.json").read_text())
    assert rows["no-aggregation"]["metrics"] == results["metrics_without_aggregation"]


def test_a_teacher_that_is_not_there_is_said(
    bottles: Path, tmp_path: Path, short: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    ablate.ablate("teachers", bottles, runs=tmp_path / "runs")
    out = " ".join(capsys.readouterr().out.split())
    assert short == ["mvtec-bottle-teacher-mobile"]
    assert "Not run, ViT-H: it needs sam_vit_h_4b8939.pth" in out and "--teachers" in out


def test_a_variant_that_fails_stands_in_the_table_and_the_others_are_trained(
    bottles: Path, tmp_path: Path, short: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ablate.run

    def run(split: Any, model: Any, training: Any, *rest: Any, **options: Any) -> Any:
        if options["objective"].name == "random_encoders":
            raise TrainingError("The loss is not finite at step 2.")
        return real(split, model, training, *rest, **options)

    monkeypatch.setattr(ablate, "run", run)
    ablate.ablate("8", bottles, runs=tmp_path / "runs")
    assert short == ["mvtec-bottle-stlm"]
    assert "Not run, random: The loss is not finite at step 2." in " ".join(capsys.readouterr().out.split())
    report = json.loads((tmp_path / "runs/ablations/mvtec-bottle-cpu-short/table-8.json").read_text())
    assert ["not_run" in row for row in report["rows"]] == [True, False]

    def interrupted(*_: Any, **__: Any) -> Any:
        raise TrainingError("Training stopped after step 1 of 2.")

    monkeypatch.setattr(ablate, "run", interrupted)
    monkeypatch.setattr(
        ablate.RunProgress, "stopped", property(lambda self: True, lambda self, value: None), raising=False
    )
    with pytest.raises(TrainingError, match="stopped after step 1"):
        ablate.ablate("5", bottles, runs=tmp_path / "runs")


def test_a_full_disk_ends_the_table_and_an_unreadable_teacher_does_not(
    bottles: Path, tmp_path: Path, short: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(error: STLMError) -> Any:
        def run(*_: Any, **__: Any) -> Any:
            raise error from OSError("of the system")

        return run

    monkeypatch.setattr(ablate, "run", failing(StorageError("The checkpoint of step 1 cannot be written.")))
    with pytest.raises(StorageError, match="checkpoint of step 1"):
        ablate.ablate("8", bottles, runs=tmp_path / "runs")
    monkeypatch.setattr(ablate, "run", failing(WeightsError("The teacher cannot be read.")))
    ablate.ablate("8", bottles, runs=tmp_path / "runs")
    report = json.loads((tmp_path / "runs/ablations/mvtec-bottle-cpu-short/table-8.json").read_text())
    assert [row["not_run"] for row in report["rows"]] == ["The teacher cannot be read."] * 2


def test_single_rows_can_be_trained(
    bottles: Path, tmp_path: Path, short: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"Table 5 has no variant 'level-1'; choose of stlm, two-stage\."):
        ablate.ablate("5", bottles, variant=["level-1"], runs=tmp_path / "runs")
    ablate.ablate("5", bottles, variant=["two-stage", "two-stage"], runs=tmp_path / "runs")
    assert short == ["mvtec-bottle-two-stage"]
    assert "Not run, one stage: it is not among the chosen" in " ".join(capsys.readouterr().out.split())
    ablate.ablate("5", bottles, variant=["stlm"], runs=tmp_path / "runs")  # what was trained before stands beside it
    report = json.loads((tmp_path / "runs/ablations/mvtec-bottle-cpu-short/table-5.json").read_text())
    assert short[1:] == ["mvtec-bottle-stlm"] and not any("not_run" in row for row in report["rows"])

    short.clear()  # the first and the last row of this table are one training, of whichever name
    ablate.ablate("4", bottles, variant=["stlm"], runs=tmp_path / "other")
    report = json.loads((tmp_path / "other/ablations/mvtec-bottle-cpu-short/table-4.json").read_text())
    assert short == ["mvtec-bottle-teacher-mobile"]
    assert ["not_run" in row for row in report["rows"]] == [False, True, True, True, False]


def test_a_chosen_row_that_cannot_be_says_why(
    bottles: Path, tmp_path: Path, short: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    ablate.ablate("4", bottles, profile="paper-gpu", variant=["no-plain-student"], runs=tmp_path / "runs")
    out = " ".join(capsys.readouterr().out.split())
    assert not short and 'Not run, without plain student stream: no_plain_student needs teacher "mobile"' in out


def test_a_launcher_is_refused(bottles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other processes would end with the first variant, and the second one wait for them."""
    monkeypatch.setattr(ablate, "PartialState", lambda: SimpleNamespace(num_processes=2))
    with pytest.raises(ConfigError, match="start it without a launcher"):
        ablate.ablate("8", bottles, runs=tmp_path / "runs")
