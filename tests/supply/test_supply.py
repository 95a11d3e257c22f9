"""Bounds of what the library needs, what an audit says, and what an SBOM lists."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.requirements import Requirement
from supply import audit, platforms, sbom

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
NEEDS = sorted({*PROJECT["dependencies"], *(need for needs in EXTRAS.values() for need in needs)})


@pytest.mark.parametrize(
    "text", sorted({*PROJECT["dependencies"], *(need for needs in EXTRAS.values() for need in needs)})
)
def test_every_dependency_has_both_bounds(text: str) -> None:
    need = Requirement(text)
    kinds = {bound.operator for bound in need.specifier}
    assert need.name == "stlm_hub" or kinds in ({">=", "<"}, {"=="}), f"{text}: give it a lower and an upper bound"


def package(name: str, *ids: str, skipped: bool = False) -> dict[str, Any]:
    if skipped:
        return {"name": name, "skip_reason": "Dependency not found on PyPI"}
    return {"name": name, "version": "1.0", "vulns": [{"id": id, "fix_versions": ["1.1"]} for id in ids]}


def test_an_audit_tells_vulnerable_clean_and_unasked_packages_apart() -> None:
    assert audit.summary([]) is None
    assert audit.summary([package("a", skipped=True)]) is None
    clean = audit.summary([package("a"), package("b", skipped=True)])
    assert clean is not None and clean[1] == 0
    assert clean[0] == "Audited 1 of 2 packages, 0 known vulnerabilities.\nNo advisories could be had of: b."
    bad = audit.summary([package("a", "CVE-1", "CVE-2")])
    assert bad is not None and bad[1] == 1 and "a 1.0: CVE-1, mended in 1.1" in bad[0] and ", 2 known" in bad[0]


def test_an_audit_without_advisories_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {"pypi": json.dumps({"dependencies": [package("a", skipped=True)]}), "osv": "Traceback"}
    monkeypatch.setattr(subprocess, "run", lambda command, **_: SimpleNamespace(stdout=answers[command[-1]]))
    assert audit.main() == 0 and capsys.readouterr().out.strip() == audit.NOT_AUDITED
    answers["osv"] = json.dumps({"dependencies": [package("a", "CVE-1")]})
    assert audit.main() == 1 and "CVE-1" in capsys.readouterr().out


def test_an_sbom_leaves_out_what_only_developers_need() -> None:
    needs = {"Torch": ["numpy"], "numpy": [], "pytest": ["pluggy"], "pluggy": [], "root-component": ["Torch", "pytest"]}
    bom = {
        "components": [{"bom-ref": ref, "name": ref} for ref in needs if ref != "root-component"],
        "dependencies": [{"ref": ref, "dependsOn": on} for ref, on in needs.items()],
        "specVersion": "1.6",
    }
    made = sbom.shipped(bom, {"torch"})
    assert [part["name"] for part in made["components"]] == ["Torch", "numpy"] and made["specVersion"] == "1.6"
    assert {entry["ref"]: entry["dependsOn"] for entry in made["dependencies"]} == {
        "Torch": ["numpy"],
        "numpy": [],
        "root-component": ["Torch"],
    }


def test_a_platform_without_a_wheel_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        assert command[-1] == ".[runtime]" and "--dry-run" in command
        lacking = "win_amd64" in command and "3.12" in command
        return subprocess.CompletedProcess(command, int(lacking), "", "ERROR: No wheel of onnxruntime\n")

    monkeypatch.setattr(platforms.subprocess, "run", run)
    assert platforms.main() == 1
    told = capsys.readouterr().out.splitlines()
    assert told[1] == "Windows, Python 3.12: ERROR: No wheel of onnxruntime"
    assert [line for line in told if not line.endswith(": ok")] == [told[1]]
    assert "macOS on ARM, Python 3.13: ok" in told
