"""Links, paths, commands and options in README and docs exist; the repository holds no photographs of data sets."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from documents import DOCUMENTS, ROOT, read, section, spans, without_code
from typer.core import TyperGroup

from stlm_hub.cli.main import app
from train.__main__ import make
from train.ablations.ablate import ablate
from train.recipe import load_recipe

MOST_WORDS = 1200  # of README, as `wc -w` counts
PICTURES = (  # what Git may hold: plots, samples that may be shown anywhere, and the pictures of README
    "model_cards/*/curves.png",
    "model_cards/*/losses.png",
    "model_cards/*/scores.png",
    "model_cards/sample-brick/example_*.png",
    "docs/page.png",
    "docs/panel.png",
)


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
    read_ones = set(re.findall(r"(?:environ[^\n]*?|^[A-Z_]+ = )[\"'](STLM_\w+)[\"']", "\n".join(code), re.MULTILINE))
    assert read_ones and read_ones == set(re.findall(r"STLM_\w+", read("docs/guide.md")))


def test_git_holds_no_photographs_of_data_sets() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is an unpacked archive, of which Git holds nothing")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    endings = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")
    pictures = [name for name in listed.stdout.split("\0") if name.lower().endswith(endings)]
    assert pictures and [name for name in pictures if not any(fnmatch(name, allowed) for allowed in PICTURES)] == []
