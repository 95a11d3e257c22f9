"""Only results.py knows the format of results.json: nothing else looks into the file."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from stlm_hub.model_folder.results import Results

ROOT = Path(__file__).parents[2]
FIELDS = {field.name for field in dataclasses.fields(Results)} - {"files", "format_version", "parameters"}
EXPORTS = ROOT / "stlm_hub" / "runtime" / "facts.py"
"""Knows the results.json of an export, which is another file."""
PARSERS = ("json.load", "json.loads", "read_json", "parse_json")


def sources() -> list[Path]:
    """The code that people run, without the two files that know the formats."""
    found = [path for room in ("stlm_hub", "space", "train", "benchmarks") for path in (ROOT / room).rglob("*.py")]
    return sorted(set(found) - {ROOT / "stlm_hub" / "model_folder" / "results.py", EXPORTS})


def looked_up(tree: ast.AST) -> Iterator[str]:
    """Fields of results that are looked up as keys: `results["maps"]`, `results.get("maps")`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript):
            key, holder = node.slice, node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            key, holder = node.args[0], node.func.value
            if node.func.attr not in ("get", "pop", "setdefault"):
                continue
        else:
            continue
        if isinstance(key, ast.Constant) and key.value in FIELDS and "result" in ast.unparse(holder).lower():
            yield ast.unparse(node)


def parsed(tree: ast.AST) -> Iterator[str]:
    """Functions that name the file and parse JSON themselves."""
    for function in ast.walk(tree):
        if not isinstance(function, (ast.FunctionDef, ast.Lambda)):
            continue
        nodes = list(ast.walk(function))
        named = any(
            (isinstance(node, ast.Name) and node.id == "RESULTS_NAME")
            or (isinstance(node, ast.Constant) and str(node.value).endswith("results.json"))
            for node in nodes
        )
        calls = [ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)]
        if named and any(call in PARSERS for call in calls):
            yield ast.unparse(function).partition("\n")[0]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_else_indexes_into_results(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert [*looked_up(tree), *parsed(tree)] == []


@pytest.mark.parametrize(
    "code",
    [
        'x = results["maps"]["cosine"]',
        'x = self.results.get("dataset", {})',
        'x = read_results(path)["provenance"]',
        'def f():\n    return json.loads((folder / "results.json").read_text())',
        "def f():\n    known = folder / RESULTS_NAME\n    return read_json(known)",
        'f = lambda folder: json.loads((folder / "model/results.json").read_text())',
    ],
)
def test_the_test_sees_what_it_is_for(code: str) -> None:
    tree = ast.parse(code)
    assert len([*looked_up(tree), *parsed(tree)]) == 1
