"""`make sbom`: what an installed wheel consists of, as CycloneDX JSON.

    python tests/supply/sbom.py ENVIRONMENT.json OUTPUT.json

cyclonedx-py lists the whole environment. What only `dev` brings is no part of the product and is left out.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from stlm_hub.cli.health import requirements

ROOT_REF = "root-component"


def shipped(bom: dict[str, Any], direct: set[str]) -> dict[str, Any]:
    """The document without what `direct` does not lead to.

    Args:
        bom: a CycloneDX document of an environment.
        direct: canonical names of what the library and its extras need.
    """
    names = {part["bom-ref"]: canonicalize_name(part["name"]) for part in bom["components"]}
    needs = {entry["ref"]: entry.get("dependsOn", []) for entry in bom["dependencies"]}
    first = sorted(ref for ref, name in names.items() if name in direct)
    kept: set[str] = set()
    waiting = list(first)
    while waiting:
        ref = waiting.pop()
        if ref not in kept:
            kept.add(ref)
            waiting += needs.get(ref, [])
    entries = [entry for entry in bom["dependencies"] if entry["ref"] in kept]
    return {
        **bom,
        "components": [part for part in bom["components"] if part["bom-ref"] in kept],
        "dependencies": [*entries, {"ref": ROOT_REF, "dependsOn": first}],
    }


def main(environment: str, output: str) -> None:
    """Reads one document, writes the other."""
    core, extras = requirements(distribution("stlm_hub"))
    direct = {canonicalize_name(need.name) for needs in (core, *extras.values()) for need in needs}
    bom = shipped(json.loads(Path(environment).read_text(encoding="utf-8")), {str(name) for name in direct})
    Path(output).write_text(json.dumps(bom, indent=1) + "\n", encoding="utf-8")
    print(f"{output} lists {len(bom['components'])} packages.")


if __name__ == "__main__":
    main(*sys.argv[1:])
