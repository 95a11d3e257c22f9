"""What is installed of what `stlm_hub` can use, each with how to get it. What is around it: surroundings.py."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version
from importlib.util import find_spec
from types import ModuleType
from typing import Literal, TypeAlias

from packaging.requirements import Requirement

OLDEST_PYTHON = (3, 10)
RUNTIMES = {"torch": "torch", "onnxruntime": "runtime", "openvino": "openvino"}
"""What can judge, and the extra that brings it."""
NATIVE = ("cv2", *RUNTIMES)
"""Modules with libraries of the system behind them: they may be installed and yet not open."""
FORMATS = {"jpg": "JPEG", "zlib": "PNG", "libtiff": "TIFF", "webp": "WebP", "avif": "AVIF"}
"""Codecs of Pillow by the names that it gives them."""
PURPOSES = {
    "torch": "judging with PyTorch",
    "runtime": "judging with ONNX Runtime",
    "openvino": "judging with OpenVINO",
    "export": "stlm export",
    "train": "stlm finetune, report, samples",
    "space": "the page",
    "line": "stlm watch",
}
Opened: TypeAlias = ModuleType | str | None
"""A module; what hinders it, in one line; None: it is not installed."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    state: "ok"; "optional", something that some work needs is not there; "missing", something that nothing goes
    without. mend: what to do about it, one line; empty where nothing is to be done.
    """

    name: str
    state: Literal["ok", "optional", "missing"]
    found: str
    mend: str = ""


def installed() -> list[Finding]:
    """Python, packages, and whether they open."""
    modules = {name: opened(name) for name in NATIVE}
    return [python(), *packages(), *broken(modules), judging(modules), *codecs()]


def python() -> Finding:
    """The interpreter."""
    found = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] < OLDEST_PYTHON:
        return Finding("Python", "missing", found, "Install Python 3.10 or newer.")
    return Finding("Python", "ok", found)


def packages() -> list[Finding]:
    """The library itself, one finding for each extra, and one for each version that was never tested."""
    try:
        own = distribution("stlm_hub")
    except PackageNotFoundError:
        return [Finding("stlm_hub", "missing", "a checkout that is not installed", 'pip install -e ".[torch]"')]
    core, extras = requirements(own)
    absent = [need.name for need in core if _version(need) is None]
    findings = [
        Finding("stlm_hub", "missing", f"without {', '.join(absent)}", f"pip install {' '.join(absent)}")
        if absent
        else Finding("stlm_hub", "ok", own.version)
    ]
    for extra, needs in extras.items():
        absent = [need.name for need in needs if _version(need) is None]
        label = f"[{extra}] {PURPOSES.get(extra, '')}".strip()
        mend = f'pip install "stlm_hub[{extra}]"'
        findings.append(
            Finding(label, "optional", f"without {', '.join(absent)}", mend) if absent else Finding(label, "ok", "")
        )
    return findings + untested([*core, *(need for needs in extras.values() for need in needs)])


def requirements(own: Distribution) -> tuple[list[Requirement], dict[str, list[Requirement]]]:
    """What a distribution always needs, and what each of its extras adds; `dev` is for those who change the library."""
    extras: dict[str, list[Requirement]] = {name: [] for name in own.metadata.get_all("Provides-Extra") or []}
    extras.pop("dev", None)
    core = []
    for need in map(Requirement, own.requires or []):
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            core.append(need)
            continue
        for extra in extras:
            if need.name != own.name and need.marker.evaluate({"extra": extra}):
                extras[extra].append(need)
    return core, extras


def untested(needs: list[Requirement]) -> list[Finding]:
    """Packages whose installed version none of these allows."""
    findings = {}
    for need in needs:
        found = _version(need)
        allowed = [other.specifier for other in needs if other.name == need.name]
        if found and not any(spec.contains(found, prereleases=True) for spec in allowed):
            mend = f'pip install "{need.name}{need.specifier}"'
            findings[need.name] = Finding(need.name, "optional", f"{found}, which was never tested", mend)
    return list(findings.values())


def broken(modules: dict[str, Opened]) -> list[Finding]:
    """Packages that are installed and do not open."""
    return [
        Finding(name, "missing", f"does not open ({why})", f"pip install --force-reinstall {_distribution(name)}")
        for name, why in modules.items()
        if isinstance(why, str)
    ]


def judging(modules: dict[str, Opened]) -> Finding:
    """What there is to judge with."""
    usable = [f"{name} {version(name)}" for name in RUNTIMES if isinstance(modules[name], ModuleType)]
    if usable:
        return Finding("Judging", "ok", ", ".join(usable))
    return Finding("Judging", "missing", "neither PyTorch nor another runtime", 'pip install "stlm_hub[torch]"')


def codecs() -> list[Finding]:
    """Kinds of pictures that can be read."""
    from PIL import features

    able = [name for codec, name in FORMATS.items() if features.check(codec)]
    lacking = [name for name in FORMATS.values() if name not in able]
    mend = "pip install --force-reinstall pillow"
    pictures = (
        Finding("Pictures", "missing" if {"JPEG", "PNG"} & {*lacking} else "optional", f"no {', '.join(lacking)}", mend)
        if lacking
        else Finding("Pictures", "ok", ", ".join(able))
    )
    if find_spec("pillow_heif") is None:
        return [pictures, Finding("HEIC", "optional", "photographs of phones", "pip install pillow-heif")]
    return [pictures, Finding("HEIC", "ok", f"pillow-heif {version('pillow-heif')}")]


def opened(name: str) -> Opened:
    """Tries to import a module."""
    if find_spec(name) is None:
        return None
    try:
        return import_module(name)
    except (ImportError, OSError) as error:  # libraries that are not there, or of another processor
        return " ".join(str(error).split())[:150]


def _version(need: Requirement) -> str | None:
    try:
        return version(need.name)
    except PackageNotFoundError:
        return None


def _distribution(module: str) -> str:
    return "opencv-python-headless" if module == "cv2" else re.sub("_", "-", module)
