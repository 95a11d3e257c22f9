"""benchmarks.md, experiments.md and ablations.md show the figures that the files of measurements hold."""

from __future__ import annotations

import json
from statistics import fmean
from typing import Any

import pytest
from documents import MAPS, QUALITY, ROOT, card, card_maps, mean, peers, percent, rows, section

from benchmarks.data_sets import MVTEC, SETS
from benchmarks.quality_report import TITLES
from benchmarks.references import summary
from stlm_hub.model_folder.zoo import list_models

FIVE = [entry.alias for entry in list_models() if entry.alias.startswith("mvtec-")]
CATEGORIES = ("bottle", "grid")


def ablation(table: str) -> list[dict[str, Any]]:
    """Rows of a table's files, each with its category."""
    found = sorted((ROOT / "benchmarks" / "ablations").glob(f"mvtec-*-cpu-short-{table}*.json"))
    files = [json.loads(path.read_text()) for path in found]
    return [
        row | {"category": file["category"].partition("-")[2]}
        for file in files
        for row in file["rows"]
        if "metrics" in row
    ]


@pytest.mark.parametrize(
    ("heading", "table"),
    [("Table 4", "4"), ("Table 6", "6"), ("Table 11", "11"), ("Recipe", "recipe"), ("Options", "options")],
)
def test_the_tables_of_ablations_are_those_of_the_files(heading: str, table: str) -> None:
    measured = ablation(table)
    assert measured
    category = "bottle"
    shown = []
    for cells in rows(section("docs/ablations.md", heading)):
        figures = [cell for cell in cells if cell.replace(".", "").isdigit() and "." in cell]
        if len(figures) < 5:
            continue
        if cells[0] in CATEGORIES:
            category = cells[0]
        same = [
            row
            for row in measured
            if row["category"] == category and percent(row["metrics"], (*QUALITY, "fnr"), 2) == figures[:5]
        ]
        assert same, f"{heading}: no file has {cells}"
        streams = next((cell for cell in cells if cell.count(" / ") == 3), None)
        if streams is not None:
            others = [card_maps(row["other_maps"])["cosine"] for row in same]
            assert streams in [" / ".join(percent(other, QUALITY, 1)) for other in others], cells
        shown.append(figures[:5])
    assert all(percent(row["metrics"], (*QUALITY, "fnr"), 2) in shown for row in measured)


def test_the_table_of_peers_is_that_of_the_measurements() -> None:
    names = {**TITLES, "memory-efficientnet": "memory, EfficientNet-lite0"}
    names |= {method: f"{TITLES[method]}, EfficientNet-lite0" for method in ("patchcore", "padim")}
    expected = []
    for row in peers():
        facts, measured = row["facts"], row["measured"]
        cost = (
            f"{measured['fit_seconds']:.0f}",
            f"{measured['latency_ms']['median']:.0f}",
            f"{measured['size_bytes'] / 1e6:.1f}",
            f"{measured['predict_memory_bytes'] / 1e6:.0f}",
        )
        place = [facts["category"], names[facts["method"]], str(facts["size"])]
        expected.append([*place, *cost, *percent(measured["metrics"], QUALITY, 1)])
    shown = [cells for cells in rows(section("docs/benchmarks.md", "What came out")) if len(cells) == len(expected[0])]
    assert sorted(shown[1:]) == sorted(expected)


def test_the_means_of_peers_are_those_of_the_measurements() -> None:
    methods = {"STLM": "stlm", "memory on EfficientNet-lite0": "memory-efficientnet"}
    methods |= {"memory on MobileSAM": "memory-mobilesam", "PaDiM": "padim"}
    shown = {cells[0]: cells[1:] for cells in rows(section("docs/benchmarks.md", "What came out")) if len(cells) == 5}
    for title, method in methods.items():
        assert shown[title] == mean([row["measured"]["metrics"] for row in peers() if row["facts"]["method"] == method])


def test_the_table_of_maps_is_that_of_the_cards() -> None:
    shown: dict[str, list[list[str]]] = {}
    for cells in rows(section("docs/benchmarks.md", "A memory beside the streams")):
        if cells[0].startswith("mvtec-"):
            alias = cells[0].partition(" ")[0]
            shown[alias] = []
        elif cells[0] in ("mean", "memory, combination"):
            break
        if shown:
            shown[alias].append(cells[2:])
    assert set(shown) == set(FIVE)
    for alias, table in shown.items():
        for name, cells in zip(MAPS, table, strict=True):
            figures = card(alias).maps[name]
            # Maps that do not judge may have no threshold of their own.
            fnr = percent(figures, ("fnr",), 1) if "fnr" in figures else ["-"]
            assert cells == [*percent(figures, QUALITY, 1), *fnr], (alias, name)


HEADINGS_OF_TRAININGS = (
    *("Pseudo anomalies on the part", "The plain stream trained", "Losses over the worst positions"),
    *("Windows at the part", "What each choice did"),
)
OF_OLDER_CARDS = (  # of commit 5c2d6f7, as the text says
    "97.1 | 98.3 | 97.2 | 74.0 | 56.7",
    "83.4 | 98.6 | 93.4 | 28.7 | 84.0",
)


@pytest.mark.parametrize("heading", HEADINGS_OF_TRAININGS)
def test_the_tables_of_trainings_are_those_of_the_files(heading: str) -> None:
    paths = (ROOT / "benchmarks" / "trainings").glob("mvtec-*.json")
    models = [*(card_maps(json.loads(path.read_text())) for path in paths), *(card(alias).maps for alias in FIVE)]
    measured = set(OF_OLDER_CARDS)
    for figures in (figures for maps in models for figures in maps.values()):
        if "fnr" in figures:
            measured.add(" | ".join(percent(figures, (*QUALITY, "fnr"), 1)))
        measured.add(" | ".join([*percent(figures, QUALITY, 1), "-"]))  # "-": its FNR said nothing then
    cells = [cells[-5:] for cells in rows(section("docs/experiments.md", heading))]
    shown = [" | ".join(row) for row in cells if row[0].replace(".", "").isdigit()]
    assert len(shown) >= 4 and [row for row in shown if row not in measured] == []


def test_the_hazelnuts_are_those_of_the_file() -> None:
    trainings = json.loads((ROOT / "benchmarks" / "trainings" / "hazelnut-toy.json").read_text())["trainings"]
    lines = section("docs/experiments.md", "Hazelnuts")
    shown = [cells for cells in rows(lines) if cells[0] != "map"]
    expected = []
    for training in trainings:
        for figures in card_maps(training).values():
            counts = "-"
            if figures.get("fnr") is not None:
                counts = f"{round(17 * figures['fnr'])} of 17, {figures['good_rejected']} of 6"
            expected.append([*percent(figures, QUALITY, 1), counts])
    assert len(expected) == 12
    for cells, row in zip(shown, expected, strict=True):
        assert cells[1:5] == row[:4] and cells[5] in (row[4], "-"), cells  # "-": its threshold said nothing then


def test_the_verdicts_are_those_of_the_file() -> None:
    measured = []
    for row in json.loads((ROOT / "benchmarks" / "verdicts.json").read_text())["rows"]:
        rules, judged = row["rules"], row["verdicts"]["anomalous"]
        regrets = {name: f"{row['best'] - rules[name]['balanced']:.1f}" for name in rules}
        shares = (*(rules["stlm_hub"][key] for key in ("rejected", "missed")), passed(judged))
        assert rules["nonconform"] == rules["conformal"]
        measured.append(
            [
                *(row["set"], str(row["photographs"]), str(row["steps"]), f"{row['i_auroc']:.1f}", regrets["stlm_hub"]),
                *(f"{share:.1f} %" for share in shares),
                *(regrets["highest"], regrets["log-odds t"]),
            ]
        )
    shown = [cells for cells in rows(section("docs/benchmarks.md", "Verdicts")) if cells[1].isdigit()]
    assert shown == measured and len(shown) > 30


def passed(judged: dict[str, int]) -> float:
    """Percent of anomalous photographs that nobody is told to look at."""
    return 100 * judged.get("pass", 0) / sum(judged.values())


def test_the_regret_of_every_rule_is_that_of_the_file() -> None:
    found = [row for row in json.loads((ROOT / "benchmarks" / "verdicts.json").read_text())["rows"] if not row["steps"]]
    text = " ".join(section("docs/benchmarks.md", "Verdicts"))
    named = {"highest": "the highest score", "gaussian": "a normal distribution", "pareto": "a Pareto tail"}
    named |= {"log-odds t": "the rule before", "nonconform": "that has it) is"}
    for rule, name in {"stlm_hub": "mean regret is", **named}.items():
        regrets = [row["best"] - row["rules"][rule]["balanced"] for row in found]
        figures = f"{sum(regrets) / len(regrets):.1f}", f"{max(regrets):.1f}"
        joined = " points, the worst ".join(figures) if rule == "stlm_hub" else " and ".join(figures)
        assert f"{name} {joined}" in text, rule
    rejected = [row["rules"]["stlm_hub"]["rejected"] for row in found]
    assert f"{sum(rejected) / len(rejected):.1f} % of good ones are rejected" in text and f"Of the {len(found)}" in text


def test_what_finetuning_regrets_is_that_of_the_file() -> None:
    rows_of_all = json.loads((ROOT / "benchmarks" / "verdicts.json").read_text())["rows"]
    found = [row for row in rows_of_all if row["steps"]]
    regrets = [row["best"] - row["rules"]["stlm_hub"]["balanced"] for row in found]
    rejected = {row["set"]: row["rules"]["stlm_hub"]["rejected"] for row in found}
    others = [share for name, share in rejected.items() if name != "magnetic_tile"]
    assert set(rejected) == set(SETS)
    assert (
        f"400 steps: mean regret {fmean(regrets):.1f} points, the worst {max(regrets):.1f} (bottle: 3 of 20 good ones "
        f"rejected); {fmean(rejected.values()):.1f} % of good ones are rejected, {fmean(others):.1f} % without the "
        "magnetic tiles"
    ) in " ".join(section("docs/benchmarks.md", "Verdicts"))


def test_the_disturbances_are_those_of_the_file() -> None:
    found = json.loads((ROOT / "benchmarks" / "robustness.json").read_text())["rows"]
    head, *shown = rows(section("docs/benchmarks.md", "Disturbances and foreign pictures"))
    assert head[1:] == [f"{row['model']} (of {row['good']} / {row['anomalous']})" for row in found]
    for name, *cells in shown:
        counts = [row["disturbances"][name] for row in found]
        assert cells == [f"{c['rejected'] + c['unfamiliar']} / {c['missed']}" for c in counts], name
    assert len(shown) == len(found[0]["disturbances"])
    ours = {row["model"]: row["foreign"] for row in found if row["model"] in (*FIVE, "sample-brick")}
    let_through = {(name, kind): n for name, kinds in ours.items() for kind, c in kinds.items() if (n := c.get("pass"))}
    assert set(ours) == {*FIVE, "sample-brick"} and let_through == {("mvtec-grid", "inverted"): 2}


def test_the_smallest_defects_are_those_of_the_file() -> None:
    measured = json.loads((ROOT / "benchmarks" / "smallest_defect.json").read_text())
    n, expected = measured["photographs"], []
    for tiles, row in measured["rows"].items():
        found = [row[f"{px} px"] for px in (6, 12, 24)]
        cells = [f"{100 * one['i_auroc']:.1f}, {one['rejected']} of {n}" for one in found]
        frame = f"{row['frame'][0]} x {row['frame'][1]} px"
        expected.append([tiles, frame, *cells, f"{row['good_rejected']} of {n}"])
    shown = [cells for cells in rows(section("docs/benchmarks.md", "The smallest defect")) if "x" in cells[1]]
    assert shown == expected and len(shown) == 3


def test_the_refined_outlines_are_those_of_the_file() -> None:
    expected, gains = [], []
    for row in json.loads((ROOT / "benchmarks" / "refine.json").read_text())["rows"]:
        test, pseudo = row["test"], row["pseudo"]
        before, after = test["plain"], test["refined"]
        gains.append(after["f1"] - before["f1"])
        expected.append(
            [
                row["set"],
                *(f"{before[name]:.1f}, {after[name]:.1f}" for name in ("f1", "iou", "boundary_f", "ap", "f1_max")),
                f"{test['extra_seconds_of_a_rejected']:.1f} s",
                f"{pseudo['gain']:+.1f} ± {pseudo['standard_error']:.1f}",
            ]
        )
    lines = section("docs/benchmarks.md", "Outlines by Segment Anything")
    assert [cells for cells in rows(lines) if cells[0] != "set"] == expected and len(expected) >= 5
    assert f"{sum(gains) / len(gains):+.1f} points" in " ".join(lines)


def test_the_references_are_those_of_the_file() -> None:
    found = summary(json.loads((ROOT / "benchmarks" / "references.json").read_text())["rows"])
    expected = []
    for row in found:
        figures = ["-" if row[name] is None else f"{row[name]:.1f}" for name in (*QUALITY, "rejected", "missed")]
        expected.append([row["set"], str(row["references"]), f"{figures[0]} ({row['lowest']:.1f})", *figures[1:]])
    lines = section("docs/benchmarks.md", "From one to four references")
    assert [cells for cells in rows(lines) if len(cells) == 8 and cells[1].isdigit()] == expected
    assert len(expected) >= 9
    (means,) = [cells for cells in rows(lines) if cells[0].startswith("references, the five")]
    for cell, n in zip(means[1:3], (1, 4), strict=True):
        five = [row for row in found if row["references"] == n and row["set"] in MVTEC]
        assert cell == " / ".join(f"{sum(row[name] for row in five) / 5:.1f}" for name in QUALITY[:3])


def test_what_many_photographs_take_is_that_of_the_file() -> None:
    measured = json.loads((ROOT / "benchmarks" / "bulk.json").read_text())
    lines = section("docs/deploy.md", "What a million takes")
    runs = [
        [str(r["workers"]), f"{r['photographs_per_second']:.2f}", f"{r['cpu_seconds']:.2f} s"] for r in measured["runs"]
    ]
    sizes = [
        [
            *(f"{size['photographs']:,}", f"{size['cpu_hours']:,}", f"{size['machine_days']:,}"),
            *(f"{size['machines_for_a_week']:,.0f}", f"{size['rows_gb']:g} GB", f"{size['maps_tb']:g} TB"),
            f"{size['parts']:,}",
        ]
        for size in measured["sizes"]
    ]
    shown = [cells for cells in rows(lines) if cells[0][0].isdigit()]
    assert shown == [*runs, *sizes] and [size["photographs"] for size in measured["sizes"]] == [10**6, 10**9]
    text = " ".join(lines)
    assert f"{measured['row_bytes']:.0f} bytes a row and {measured['map_bytes'] / 1e3:.0f} kB a map" in text
    assert f"for machines of {measured['cores']} such cores" in text


def test_the_tables_of_latency_are_those_of_the_measurements() -> None:
    measured: dict[str, dict[str, str]] = {}
    for run in json.loads((ROOT / "benchmarks" / "latency.json").read_text())["runs"]:
        for row in run["rows"]:
            threads = f"{row['threads']} thread{'s' if row['threads'] > 1 else ''}{', busy' if row['busy'] else ''}"
            cell = f"{row['ms']:.0f} ms, {row['times_torch']:.2f}x"
            measured.setdefault(f"{row['size']} px, {threads}", {})[row["backend"]] = cell
    seen = set()
    columns: list[str] = []
    for cells in rows(section("docs/deploy.md", "How long it takes")):
        if "px, " not in cells[0]:
            columns = cells
            continue
        for backend, cell in zip(columns[1:], cells[1:], strict=True):
            assert cell == measured[cells[0]].get(backend, "-"), (cells[0], backend)
            seen.add((cells[0], backend))
    assert seen >= {(row, backend) for row, found in measured.items() for backend in found}
