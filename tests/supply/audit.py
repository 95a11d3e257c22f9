"""`make audit`: what is installed against known vulnerabilities, by pip-audit.

Exit code 1: there are some. Where no advisories can be had, pip-audit ends well or with a traceback, so its report is
read: a package that nobody was asked about is not a clean one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

SERVICES = ("pypi", "osv")
NOT_AUDITED = "Not audited: the advisories of neither PyPI nor OSV could be reached."


def report_of(service: str) -> list[dict[str, Any]]:
    """What pip-audit says of each installed package; nothing where the service did not answer."""
    command = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable", "--format", "json"]
    command += ["--progress-spinner", "off", "--timeout", "10", "--vulnerability-service", service]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        return list(json.loads(done.stdout)["dependencies"])
    except ValueError:
        return []


def summary(packages: list[dict[str, Any]]) -> tuple[str, int] | None:
    """What to say of a report, and the exit code; None: nobody was asked about any package."""
    asked = [package for package in packages if "skip_reason" not in package]
    if not asked:
        return None
    lines = [
        f"{package['name']} {package['version']}: {found['id']}, mended in {', '.join(found['fix_versions']) or 'none'}"
        for package in asked
        for found in package["vulns"]
    ]
    code = 1 if lines else 0
    lines.append(f"Audited {len(asked)} of {len(packages)} packages, {len(lines)} known vulnerabilities.")
    if skipped := [package["name"] for package in packages if "skip_reason" in package]:
        lines.append(f"No advisories could be had of: {', '.join(skipped)}.")
    return "\n".join(lines), code


def main() -> int:
    """Asks one service after the other."""
    for service in SERVICES:
        if said := summary(report_of(service)):
            print(said[0])
            return said[1]
    print(NOT_AUDITED)
    return 0


if __name__ == "__main__":
    sys.exit(main())
