"""The page in a browser: pictures of it, and whether everyone can use it."""

from __future__ import annotations

import pytest

from benchmarks.page_process import ROOT

sync_api = pytest.importorskip("playwright.sync_api")

AXE = ROOT / ".venv" / "axe" / "package" / "axe.min.js"
ARTEFACTS = ROOT / "artefacts"
WIDTHS = {"narrow": 360, "wide": 1440}
JUDGED = 60_000  # ms until a verdict must be there, on a busy machine


def picture(tab: sync_api.Page, name: str) -> None:
    ARTEFACTS.mkdir(exist_ok=True)
    tab.wait_for_timeout(400)  # transitions
    tab.screenshot(path=ARTEFACTS / f"{name}.png", full_page=True)


def expect_accessible(tab: sync_api.Page, name: str) -> None:
    """No serious violation that axe-core knows of, and nothing wider than the screen."""
    if not AXE.is_file():
        pytest.skip("axe-core is not installed; `make browser` installs it")
    tab.add_script_tag(content=AXE.read_text(encoding="utf-8"))
    found = tab.evaluate("async () => (await axe.run(document, {resultTypes: ['violations']})).violations")
    bad = [
        f"{v['id']} ({v['impact']}): {node['target']} {node['html'][:160]} {node.get('failureSummary', '')[:200]}"
        for v in found
        if v["impact"] in ("serious", "critical")
        for node in v["nodes"]
    ]
    assert not bad, f"{name}:\n" + "\n".join(bad)
    overflow = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0, f"{name}: the page is {overflow} px wider than the screen"
