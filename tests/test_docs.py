"""README and docs are true: figures are those of the files, and links, paths and commands lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.core import TyperGroup

from benchmarks.quality_report import TITLES
from stlm_hub.cli.main import app
from stlm_hub.model_folder.zoo import ZooEntry, list_models
from train.__main__ import make
from train.ablations.ablate import ablate
from train.recipe import load_recipe, read_paper

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (
    *("README.md", "ARCHITECTURE.md", "space/README.md"),
    *sorted(f"docs/{path.name}" for path in ROOT.glob("docs/*.md")),
)
MOST_WORDS = 1200  # of README, as `wc -w` counts

CATEGORIES = ("bottle", "grid")
MAPS = ("aggregation", "cosine", "memory", "combined")
QUALITY = ("i_auroc", "p_auroc", "aupro", "ap")
PICTURES = (  # what Git may hold: plots, samples that may be shown anywhere, and the pictures of README
    "model_cards/*/curves.png",
    "model_cards/*/losses.png",
    "model_cards/*/scores.png",
    "model_cards/sample-brick/example_*.png",
    "docs/page.png",
    "docs/panel.png",
)


# ---------------------------------------------------------------- reading documents


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def section(document: str, heading: str) -> list[str]:
    """Lines from a heading to the next one of its level or above."""
    lines = read(document).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("#") and line.lstrip("# ").startswith(heading))
    level = len(lines[start]) - len(lines[start].lstrip("#"))
    end = (i for i in range(start + 1, len(lines)) if lines[i].startswith("#") and lines[i].find(" ") <= level)
    return lines[start : next(end, len(lines))]


def rows(lines: list[str]) -> Iterator[list[str]]:
    """Cells of the tables' rows, without marks of emphasis."""
    for line in lines:
        if line.startswith("|") and not line.startswith("|---"):
            yield [cell.strip(" *`") for cell in line.strip("|").split("|")]


def without_code(text: str) -> str:
    """The document without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def spans(text: str) -> list[str]:
    """What stands between single backticks, each on one line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", without_code(text))]


@cache
def anchors(document: str) -> set[str]:
    """Names of the headings, as GitHub makes them."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#+ (.+)$", without_code(read(document)), flags=re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        found[name] = found.get(name, -1) + 1
        if found[name]:
            found[f"{name}-{found[name]}"] = 0
    return set(found)


# ---------------------------------------------------------------- reading results


def card_maps(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Figures of each map that results.json holds. The only place that knows where they stand."""
    if "maps" in results:
        return {name: results["maps"][name] for name in MAPS if name in results["maps"]}
    keys = {"aggregation": "metrics", "cosine": "metrics_without_aggregation"}
    keys |= {"memory": "metrics_memory", "combined": "metrics_combined"}
    return {name: results[key] for name, key in keys.items() if results.get(key)}


@dataclass(frozen=True)
class Card:
    """Of a model in model_cards/: figures of each map, what it missed and rejected, and of how many photographs."""

    maps: dict[str, dict[str, float]]
    missed: int
    anomalous: int
    rejected: int
    good: int
    held_out: int


@cache
def card(alias: str) -> Card:
    folder = ROOT / "model_cards" / alias
    results = json.loads((folder / "results.json").read_text())
    judging = folder / "calibration.json"
    calibration = (json.loads(judging.read_text()) if judging.is_file() else results)["calibration"]
    good, anomalous = results["test_scores"]["good"], results["test_scores"]["anomalous"]
    return Card(
        maps=card_maps(results),
        missed=sum(score < calibration["threshold"] for score in anomalous),
        anomalous=len(anomalous),
        rejected=sum(score >= calibration["threshold"] for score in good),
        good=len(good),
        held_out=calibration["n"],
    )


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


def peers() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((ROOT / "benchmarks" / "quality.json").read_text())["rows"]
    return rows


def percent(metrics: dict[str, Any], names: tuple[str, ...], digits: int) -> list[str]:
    return [f"{100 * metrics[name]:.{digits}f}" for name in names]


def mean(figures: list[dict[str, float]], names: tuple[str, ...] = QUALITY) -> list[str]:
    return [f"{100 * sum(one[name] for one in figures) / len(figures):.1f}" for name in names]


def zoo_rows(document: str, heading: str) -> dict[str, list[str]]:
    """Cells of the rows about models of the zoo, by alias."""
    return {cells[0].partition("`")[0]: cells for cells in rows(section(document, heading)) if "-" in cells[0]}


ZOO = {entry.alias: entry for entry in list_models()}
FIVE = [alias for alias in ZOO if alias.startswith("mvtec-")]


# ---------------------------------------------------------------- the zoo


def check_zoo_row(entry: ZooEntry, cells: list[str]) -> None:
    counts = card(entry.alias)
    joined = " | ".join(cells)
    assert " | ".join(percent(entry.metrics, QUALITY, 1)) in joined
    assert f"{entry.image_size} px" in cells
    assert f"{counts.missed} of {counts.anomalous}" in cells
    assert f"{counts.rejected} of {counts.good}" in cells
    assert ("not the official split" in joined) == (entry.official_split is False)


@pytest.mark.parametrize(("document", "heading"), [("README.md", "The zoo"), ("docs/zoo.md", "Figures")])
def test_the_figures_of_the_zoo_are_those_of_the_models(document: str, heading: str) -> None:
    shown = zoo_rows(document, heading)
    for alias, entry in ZOO.items():
        check_zoo_row(entry, shown[alias])


def test_the_means_are_those_of_models_paper_and_peers() -> None:
    shown = {cells[0]: cells for cells in rows(section("docs/zoo.md", "Figures"))}
    assert len(FIVE) == 5
    assert shown["mean of the five MVTec categories"][3:7] == mean([ZOO[alias].metrics for alias in FIVE])
    paper = read_paper()["mvtec"]
    for alias in FIVE:
        category = alias.partition("-")[2]
        assert shown[f"the paper's {category}"][3:6] == mean([paper[category]], QUALITY[:3])
    of_these = [paper[alias.partition("-")[2]] for alias in FIVE]
    assert shown["the paper's mean of these five"][3:6] == mean(of_these, QUALITY[:3])
    named = {"memory-efficientnet": "a memory on EfficientNet-lite0", "memory-mobilesam": "a memory on MobileSAM"}
    for method, name in {**named, "padim": "PaDiM on EfficientNet-lite0"}.items():
        measured = [row["measured"]["metrics"] for row in peers() if row["facts"]["method"] == method]
        assert len(measured) == 5
        assert shown[f"mean of {name}"][3:7] == mean(measured)


def test_other_thresholds_of_the_pill_are_those_of_its_card() -> None:
    shown = [line for line in section("docs/guide.md", "The threshold") if re.search(r"^\|.*\d %", line)]
    of_the_card = read("model_cards/mvtec-pill/README.md").splitlines()
    assert len(shown) == 4 and all(line in of_the_card for line in shown)
    ten = next(cells for cells in rows(shown) if cells[0] == "10 %")
    for document in ("README.md", "docs/zoo.md"):
        text = " ".join(read(document).split())
        assert all(part in text for part in (ten[1], f"misses {ten[3].split()[0]}", "rejects none")), document
    assert ten[2].startswith("0 of ")


def test_another_map_misses_and_outlines_as_the_cards_say() -> None:
    shown = [cells for cells in rows(section("docs/guide.md", "Another map")) if cells[0].startswith("mvtec-")]
    assert {cells[0].partition("`")[0] for cells in shown} == set(FIVE)
    for cells in shown:
        known = card(cells[0].partition("`")[0])
        combined, other = known.maps["combined"], known.maps["aggregation"]
        missed = [f"{round(figures['fnr'] * known.anomalous)} of {known.anomalous}" for figures in (combined, other)]
        assert cells[1:] == [*percent(combined, ("ap",), 1), *percent(other, ("ap",), 1), *missed]


def test_held_out_photographs_are_as_many_as_the_cards_say() -> None:
    text = " ".join(section("docs/zoo.md", "Thresholds"))
    names = ("toothbrush", "brick", "bottle", "grid", "pill", "screw")
    counted = {name: card(alias).held_out for alias in ZOO for name in names if alias.endswith(f"-{name}")}
    assert len(counted) == len(ZOO)
    for name, n in counted.items():
        assert re.search(rf"\b{n} (held-out )?{name}", text), name


def test_a_training_step_costs_what_was_measured() -> None:
    settings = json.loads((ROOT / "benchmarks" / "training.json").read_text())["settings"]
    measured = [
        [
            f"{row['before']['seconds_per_step']:.2f} s" if "before" in row else "-",
            f"{row['after']['seconds_per_step']:.2f} s",
            f"{row['after']['peak_gb']:.1f} GB",
        ]
        for row in settings
        if "crop" not in row["training"]  # windows are gone
    ]
    lines = section("docs/zoo.md", "What a training step costs")
    assert [cells[1:] for cells in rows(lines) if cells[0].startswith(("profile", "the"))] == measured


# ---------------------------------------------------------------- benchmarks and ablations


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
        assert table == [percent(card(alias).maps[name], (*QUALITY, "fnr"), 1) for name in MAPS], alias


# ---------------------------------------------------------------- links, paths, commands


def test_readme_stays_short() -> None:
    assert len(read("README.md").split()) <= MOST_WORDS


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(read(document))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / document).parent / name if name else ROOT / document
        assert path.exists(), f"{document}: there is no {target}"
        if anchor:
            there = path.resolve().relative_to(ROOT).as_posix()
            assert anchor in anchors(there), f"{document}: {there} has no heading {anchor}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_paths_exist(document: str) -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"demo", "runs", "artefacts", "report"}
    paths = [span for span in spans(read(document)) if re.fullmatch(r"[\w.<>*-]+(/[\w.<>*-]*)+", span)]
    named = {path: re.sub(r"<[^>]*>", "*", path).rstrip("/") for path in paths if path.partition("/")[0] in folders}
    missing = [path for path, pattern in named.items() if not any(ROOT.glob(pattern))]
    assert not missing, f"{document} names what is not there: {missing}"


def test_the_map_of_the_repository_is_that_of_its_folders() -> None:
    text = read("ARCHITECTURE.md")
    block = text[text.index("    stlm_hub/ ") : text.index("## Who may")]
    above: list[tuple[int, Path]] = []  # folders around a line, with their indents
    shown = set()
    for line in filter(str.strip, block.splitlines()):
        indent = len(line) - len(line.lstrip())
        while above and above[-1][0] >= indent:
            above.pop()
        folder = above[-1][1] if above else ROOT
        names = line.strip().partition("  ")[0].split(", ")
        shown |= {folder / name for name in names}
        if names[0].endswith("/"):
            above.append((indent, folder / names[0]))
    assert not (missing := [path for path in shown if not path.exists()]), f"there is no {missing}"
    folders = {path.parent for path in ROOT.glob("stlm_hub/*/**/*.py")}
    assert not (left_out := folders - shown), f"ARCHITECTURE.md does not show {left_out}"


def commands(text: str) -> Iterator[list[str]]:
    """Words of the commands in blocks of code and between backticks, without comments and settings of variables."""
    blocks = re.findall(r"^```(?:bash)?\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    lines = [part for block in blocks for line in block.splitlines() for part in line.split("&&")]
    for line in [*lines, *spans(text)]:
        if not re.match(r"\s*([A-Z_]+=\S+ )*(stlm|make|python -m train) ", line):
            continue
        words = shlex.split(line, comments=True)
        yield words[next(i for i, word in enumerate(words) if "=" not in word) :]


def options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def train_command(function: Any) -> Any:
    program = typer.Typer(add_completion=False)
    program.command()(function)
    return typer.main.get_command(program)


def check_stlm(words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while isinstance(command, TyperGroup) and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"there is no {rest[0]}"
        command, rest = command.commands[rest[0]], rest[1:]
    check_options(command, rest)


def check_train(words: list[str]) -> None:
    rest = words[3:]
    if rest[:1] == ["ablate"]:
        check_options(train_command(ablate), rest[1:])
        tables = yaml.safe_load((ROOT / "train" / "ablations" / "tables.yaml").read_text())["tables"]
        assert rest[1:2] and (rest[1] in tables or rest[1].isupper()), f"there is no table {rest[1:2]}"
        return
    check_options(train_command(make), rest)
    if rest and not rest[0].isupper():
        load_recipe(rest[0], rest[rest.index("--profile") + 1] if "--profile" in rest else "cpu")


def check_make(words: list[str]) -> None:
    targets = re.findall(r"^([\w-]+):", read("Makefile"), flags=re.MULTILINE)
    assert words[1] in targets, f"there is no target {words[1]}"


def check_options(command: Any, words: list[str]) -> None:
    known = options(command) | {"--help"}
    for word in words:
        name = word.partition("=")[0]
        assert not name.startswith("-") or name in known, f"there is no option {name}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_exist(document: str) -> None:
    check = {"stlm": check_stlm, "make": check_make, "python": check_train}
    for words in commands(read(document)):
        try:
            check[words[0]](words)
        except Exception as error:
            raise AssertionError(f"{document}: {shlex.join(words)}: {error}") from error


@pytest.mark.parametrize(
    ("document", "heading", "command"),
    [("docs/guide.md", "Fine-tune", "finetune"), ("docs/zoo.md", "Train the zoo", "train")],
)
def test_tables_of_options_are_complete(document: str, heading: str, command: str) -> None:
    stlm: Any = typer.main.get_command(app)
    program = train_command(make) if command == "train" else stlm.commands[command]
    text = "\n".join(line for line in section(document, heading) if line.startswith("| `--"))
    shown = {span for line in text.splitlines() for span in spans(line.split("|")[1])}
    known = {name for name in options(program) if name.startswith("--")} - {"--help"}
    assert shown | {"--profile", "--data"} >= known, f"{document} does not name {known - shown}"
    assert shown <= known, f"there is no {shown - known}"


def test_the_guide_names_every_environment_variable() -> None:
    code = [path.read_text() for folder in ("stlm_hub", "space") for path in (ROOT / folder).rglob("*.py")]
    read_ones = set(re.findall(r"environ[^\n]*?[\"'](STLM_\w+)[\"']", "\n".join(code)))
    assert read_ones and read_ones == set(re.findall(r"STLM_\w+", read("docs/guide.md")))


def test_git_holds_no_photographs_of_data_sets() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is an unpacked archive, of which Git holds nothing")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    endings = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")
    pictures = [name for name in listed.stdout.split("\0") if name.lower().endswith(endings)]
    assert pictures and [name for name in pictures if not any(fnmatch(name, allowed) for allowed in PICTURES)] == []
