"""`stlm doctor` on machines that lack something."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import features
from safetensors.numpy import save

from stlm_hub.cli import health, surroundings
from stlm_hub.cli.health import Finding

Stlm = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def found(findings: list[Finding], name: str) -> Finding:
    return next(finding for finding in findings if finding.name == name)


def distribution_of(*needs: str, extras: tuple[str, ...] = ()) -> Callable[[str], Any]:
    metadata = SimpleNamespace(get_all=lambda _: list(extras))
    return lambda name: SimpleNamespace(name=name, version="1.0", requires=list(needs), metadata=metadata)


def test_a_whole_machine_exits_with_0_and_a_broken_one_with_1(
    stlm: Stlm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "not yet" / "made"))
    code, out, _ = stlm("doctor", "--json")
    told = json.loads(out)
    assert code == 0 and told["healthy"] and not (tmp_path / "not yet").exists()
    assert {"Python", "stlm_hub", "Judging", "Pictures", "HEIC", "Graphics card", "Memory", "Disk", "Hub"} <= {
        finding["name"] for finding in told["findings"]
    }
    assert all(finding["mend"] for finding in told["findings"] if finding["state"] != "ok")
    assert all("\n" not in finding["mend"] + finding["found"] for finding in told["findings"])

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file" / "below"))
    code, out, _ = stlm("doctor")
    line = next(line for line in out.splitlines() if line.startswith("MISSING"))
    assert code == 1 and "HF_HOME" in line and line.endswith("-> Set HF_HOME to a folder of yours.")


def test_packages_that_an_extra_lacks_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = ("numpy>=1", 'nowhere-to-be-had>=1; extra == "line"', 'numpy; extra == "new"', 'nothing; extra == "dev"')
    monkeypatch.setattr(health, "distribution", distribution_of(*needs, extras=("line", "new", "dev")))
    assert health.packages() == [
        Finding("stlm_hub", "ok", "1.0"),
        Finding("[line] stlm watch", "optional", "without nowhere-to-be-had", 'pip install "stlm_hub[line]"'),
        Finding("[new]", "ok", ""),
    ]
    monkeypatch.setattr(health, "distribution", distribution_of("numpy", "nowhere-to-be-had"))
    [core] = health.packages()
    assert core == Finding("stlm_hub", "missing", "without nowhere-to-be-had", "pip install nowhere-to-be-had")


def test_needs_of_another_python_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "distribution", distribution_of('nowhere-to-be-had; python_version < "3"'))
    assert health.packages() == [Finding("stlm_hub", "ok", "1.0")]


def test_versions_outside_all_bounds_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = ("numpy<1", 'numpy<0.5; extra == "runtime"', 'pillow<1; extra == "runtime"', "pillow>=2")
    monkeypatch.setattr(health, "distribution", distribution_of(*needs, extras=("runtime",)))
    findings = health.packages()
    assert "never tested" in found(findings, "numpy").found
    assert found(findings, "numpy").mend in ('pip install "numpy<1"', 'pip install "numpy<0.5"')
    assert all(finding.name != "pillow" for finding in findings)  # one of its bounds holds


def test_a_checkout_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(health, "distribution", absent)
    [finding] = health.packages()
    assert finding.state == "missing" and finding.mend == 'pip install -e ".[torch]"'


def test_an_old_python_is_no_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    assert health.python() == Finding("Python", "missing", "3.9.18", "Install Python 3.10 or newer.")


def test_a_package_that_does_not_open_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torn_package.py").write_text("raise OSError('libgomp.so.1: no such\\nfile')")
    monkeypatch.syspath_prepend(tmp_path)
    assert health.opened("torn_package") == "libgomp.so.1: no such file"
    assert health.opened("nowhere_to_be_had") is None
    modules: dict[str, ModuleType | str | None] = {"cv2": "libGL.so.1: no such file", **dict.fromkeys(health.RUNTIMES)}
    [broken] = health.broken(modules)
    assert broken.state == "missing" and broken.mend == "pip install --force-reinstall opencv-python-headless"
    assert health.judging(modules).state == "missing"
    assert health.judging({**modules, "torch": pytest}).state == "ok"


def test_codecs_that_pillow_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "find_spec", lambda name: None)
    monkeypatch.setattr(features, "check", lambda codec: codec != "avif")
    pictures, heic = health.codecs()
    assert (pictures.state, pictures.found) == ("optional", "no AVIF") and heic.mend == "pip install pillow-heif"
    monkeypatch.setattr(features, "check", lambda codec: codec != "jpg")
    assert health.codecs()[0] == Finding("Pictures", "missing", "no JPEG", "pip install --force-reinstall pillow")


@pytest.mark.parametrize(
    ("available", "smi", "cuda", "state", "words"),
    [
        (True, None, "13.0", "ok", "H200, 150 GB"),
        (False, None, None, "optional", "none"),
        (False, "/usr/bin/nvidia-smi", None, "optional", "not built for"),
        (False, "/usr/bin/nvidia-smi", "13.0", "optional", "cannot use"),
    ],
)
def test_graphics_cards(
    available: bool, smi: str | None, cuda: str | None, state: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = SimpleNamespace(
        is_available=lambda: available,
        get_device_name=lambda _: "H200",
        get_device_properties=lambda _: SimpleNamespace(total_memory=150 * 10**9),
    )
    torch = SimpleNamespace(cuda=card, version=SimpleNamespace(cuda=cuda))
    monkeypatch.setattr(surroundings, "opened", lambda _: torch)
    monkeypatch.setattr(surroundings.shutil, "which", lambda _: smi)
    finding = surroundings.graphics_card()
    assert finding.state == state and words in finding.found and bool(finding.mend) == (state != "ok")


def test_little_memory_and_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "_free_memory", lambda: 10**9)
    monkeypatch.setattr(surroundings.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    for finding in (surroundings.memory(), surroundings.disk(tmp_path)):
        assert finding.state == "optional" and finding.found.startswith("1.0 GB free") and finding.mend


def test_starting_weights_that_are_not_there_or_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STLM_STARTING_WEIGHTS", raising=False)
    monkeypatch.setenv("STLM_CACHE", str(tmp_path))
    cache, weights = surroundings.starting_weights()
    assert cache.state == "ok" and (weights.state, weights.mend) == ("optional", "stlm weights fetch")
    whole = save({"a": np.zeros(9)})
    (tmp_path / "starting.safetensors").write_bytes(whole[:-1])
    torn = surroundings.starting_weights()[1]
    assert (torn.state, torn.mend) == ("optional", "stlm weights fetch --force")
    (tmp_path / "starting.safetensors").write_bytes(whole)
    assert surroundings.starting_weights()[1].state == "ok"
    monkeypatch.setenv("STLM_STARTING_WEIGHTS", str(tmp_path / "elsewhere.pt"))
    assert "Unset STLM_STARTING_WEIGHTS" in surroundings.starting_weights()[1].mend


def test_a_hub_that_hangs_refuses_or_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert surroundings.hub().found == "HF_HUB_OFFLINE is set"
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert surroundings.hub().state == "optional" and "refused" in surroundings.hub().found
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc/passwd")
    assert surroundings.hub().mend == "Set it to an https:// address."

    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example")
    monkeypatch.setattr(surroundings.urllib.request, "urlopen", lambda *_, **__: time.sleep(30))
    started = time.monotonic()
    assert "no answer within" in surroundings.hub(0.2).found and time.monotonic() - started < 5
