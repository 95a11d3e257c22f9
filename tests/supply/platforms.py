"""Whether what judges without PyTorch has wheels for other machines: `make platforms` asks the package index.

pip resolves `.[runtime]` as it would there, from metadata alone, and installs nothing.
"""

from __future__ import annotations

import subprocess
import sys
from itertools import product

from packaging.tags import mac_platforms

PLATFORMS = {
    "Windows": ["win_amd64"],
    "Linux on ARM": [f"manylinux_2_{minor}_aarch64" for minor in (28, 27, 17)] + ["manylinux2014_aarch64"],
    "macOS on ARM": list(mac_platforms((14, 0), "arm64")),
}
PYTHONS = ("3.11", "3.12", "3.13")


def command(tags: list[str], python: str) -> list[str]:
    """What asks pip for one platform and one Python."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    tagged = [option for tag in tags for option in ("--platform", tag)]
    return [*pip, "--only-binary=:all:", "--target", "nowhere", "--python-version", python, *tagged, ".[runtime]"]


def main() -> int:
    failed = 0
    for (name, tags), python in product(PLATFORMS.items(), PYTHONS):
        done = subprocess.run(command(tags, python), capture_output=True, text=True)
        words = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        print(f"{name}, Python {python}: {'ok' if done.returncode == 0 else ' '.join(words[:2])}", flush=True)
        failed += done.returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
