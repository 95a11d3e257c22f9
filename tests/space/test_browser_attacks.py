"""What strangers write, in a real browser: it is shown as text, runs nothing and fetches nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import HubServer

from benchmarks.page_process import Page, chromium
from stlm_hub.model_folder import zoo
from stlm_hub.model_folder.names import DECIDING

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

pytestmark = [
    pytest.mark.skipif(chromium() is None, reason="Chromium is not installed; `make browser` installs it"),
    pytest.mark.timeout(300),
]
SHOWN = 60_000  # ms
ELSEWHERE = "http://elsewhere.invalid"
PICTURE = f'<img src="{ELSEWHERE}/x.png">'


@pytest.fixture
def tab(page: Page) -> Iterator[sync_api.Page]:
    """The page in a browser. `tab.fetched` lists every request to another server, answered or not."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-background-networking"]
        )
        tab = browser.new_page()
        tab.set_default_timeout(SHOWN)
        tab.fetched = []
        tab.on("request", lambda sent: None if sent.url.startswith((page.url, "data:", "blob:")) else note(sent.url))
        note = tab.fetched.append
        tab.goto(page.url)
        expect(tab.locator("#model-facts")).to_contain_text("Image-level AUROC", timeout=SHOWN)
        yield tab
        browser.close()


def choose_model(tab: sync_api.Page, name: str) -> None:
    model = tab.get_by_label("Model").first
    model.fill(name)
    model.press("Enter")


def test_a_message_shows_the_name_of_a_file_as_text(tab: sync_api.Page, tmp_path: Path) -> None:
    for name in (f"<img src='{ELSEWHERE}:80'>.png".replace("/", ":"), "<b id='bold'>part&amp;.png"):
        (tmp_path / name).write_bytes(b"these are notes")
    message = tab.get_by_test_id("toast-text")
    choose_model(tab, f"someone {PICTURE}")
    expect(message.first).to_contain_text(f"someone {PICTURE}", timeout=SHOWN)
    assert tab.locator("[data-testid=toast-text] *").count() == 0
    tab.reload()
    tab.get_by_role("tab", name="Batch").click()
    tab.locator("#batch-files input[type=file]").set_input_files(list(tmp_path.iterdir()))
    tab.locator("#batch-start").click()
    expect(tab.locator("#batch-summary")).to_contain_text("2 could not be used", timeout=SHOWN)
    assert tab.locator("#batch-table td img, #batch-table #bold").count() == 0
    assert tab.fetched == []


def test_a_card_fetches_nothing(tab: sync_api.Page, hub: HubServer) -> None:
    folder = zoo.checkout_folder("sample-brick")
    assert folder is not None
    names = (*DECIDING, "scores.png")
    files = {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
    card = f"""# Card of a stranger

{PICTURE} <style>@import url({ELSEWHERE}/x.css); #card {{background: url({ELSEWHERE}/y.png)}}</style>
![a]({ELSEWHERE}/z.png) ![b][ref] [![c]({ELSEWHERE}/badge.svg)]({ELSEWHERE}/link)
<script>window.ran = true</script> <svg onload="window.ran = true"></svg>
$$\\includegraphics{{{ELSEWHERE}/latex.png}}$$

[ref]: {ELSEWHERE}/ref.png

```mermaid
graph TD; A["<img src='{ELSEWHERE}/mermaid.png'>"] --> B
```

![own](scores.png)
"""
    hub.put("someone/card", {**files, "README.md": card.encode()})
    choose_model(tab, "someone/card")
    tab.get_by_role("tab", name="About").click()
    expect(tab.locator("#card h2").first).to_contain_text("Card of a stranger", timeout=SHOWN)
    expect(tab.locator("#card img")).to_have_count(1)
    tab.wait_for_timeout(2000)
    assert tab.evaluate("window.ran") is None and tab.locator("#card svg").count() == 0
    assert tab.fetched == []


def test_what_gets_into_the_page_all_the_same_fetches_nothing(tab: sync_api.Page) -> None:
    blocked = tab.evaluate(
        """async (elsewhere) => {
            const blocked = new Set();
            document.addEventListener("securitypolicyviolation", (event) => blocked.add(event.effectiveDirective));
            const place = document.createElement("div");
            document.body.append(place);
            place.innerHTML = `<img src="${elsewhere}/a.png"><iframe src="${elsewhere}/b"></iframe>
                <video src="${elsewhere}/c.mp4"></video><object data="${elsewhere}/d"></object>
                <link rel="stylesheet" href="${elsewhere}/e.css">
                <style>@font-face {font-family: f; src: url(${elsewhere}/f.woff)} #text {font-family: f}</style>
                <p id="text">text</p>`;
            const script = document.createElement("script");
            script.src = `${elsewhere}/g.js`;
            document.head.append(script);
            await fetch(`${elsewhere}/h`).catch(() => null);
            navigator.sendBeacon(`${elsewhere}/i`, "x");
            await new Promise((resolve) => setTimeout(resolve, 1500));
            return [...blocked].sort();
        }""",
        ELSEWHERE,
    )
    assert {"img-src", "frame-src", "media-src", "object-src", "font-src", "connect-src"} <= set(blocked)
    assert {"style-src-elem", "script-src-elem"} <= set(blocked)


def test_the_page_itself_breaks_no_rule(tab: sync_api.Page, page: Page, photographs: Path) -> None:
    complaints: list[str] = []
    tab.on("console", lambda line: complaints.append(line.text) if "Content Security" in line.text else None)
    tab.reload()
    tab.locator("#photo input[type=file]").set_input_files(photographs / "crack.png")
    expect(tab.locator("#verdict .word")).to_contain_text("Reject", timeout=SHOWN)
    expect(tab.locator("#outline img")).to_be_visible()
    for name in ("Batch", "Your part", "About"):
        tab.get_by_role("tab", name=name).click()
    expect(tab.locator("#card img").first).to_be_visible()
    for name in ("Settings", "Use via API"):
        tab.goto(page.url)
        tab.get_by_role("button", name=name).click()
        expect(tab.get_by_role("dialog")).to_be_visible()
        tab.wait_for_timeout(1000)
    assert complaints == [] and tab.fetched == []
