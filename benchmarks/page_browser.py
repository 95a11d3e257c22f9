"""The page in chromium: when a visitor sees something, and how long a verdict takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .page_process import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WAIT_MS = 120_000  # until anything that the page should show is given up
_ARGUMENTS = ["--no-sandbox", "--disable-background-networking"]

# Sets window.usableAt when the list of models takes input and the facts of a model are shown. Looks every 5 ms.
_WATCH_MODEL_ROW = """
performance.setResourceTimingBufferSize(5000);
const look = () => {
  const list = document.querySelector('#model input');
  const facts = document.querySelector('#model-facts');
  if (list && !list.disabled && facts && facts.textContent.includes('Input:')) window.usableAt = performance.now();
  else setTimeout(look, 5);
};
look();
"""

# Sets window.chosenAt when the input has the file, verdictAt when the document shows the verdict, picturesAt when the
# last picture is loaded.
_WATCH_VERDICT = """() => {
  performance.clearResourceTimings();
  window.chosenAt = window.verdictAt = window.picturesAt = null;
  document.addEventListener('change', () => { window.chosenAt = performance.now(); }, {capture: true, once: true});
  new MutationObserver((_, observer) => {
    if (!document.querySelector('#verdict .word')) return;
    window.verdictAt = performance.now();
    observer.disconnect();
  }).observe(document.body, {childList: true, subtree: true, characterData: true});
  if (window.watchesPictures) return;
  window.watchesPictures = true;
  document.addEventListener('load', (event) => {
    if (event.target.closest && event.target.closest('#outline, #compare')) window.picturesAt = performance.now();
  }, {capture: true});
}"""

# Milliseconds after chosenAt.
_TIMES = """() => {
  const entries = performance.getEntriesByType('resource');
  const named = (end) => entries.find((entry) => new URL(entry.name).pathname.endsWith(end));
  const upload = named('/upload'), join = named('/queue/join');
  return {
    verdict: window.verdictAt - window.chosenAt,
    uploaded: upload ? upload.responseEnd - window.chosenAt : null,
    asked: join ? join.startTime - window.chosenAt : null,
    pictures: window.picturesAt ? window.picturesAt - window.chosenAt : null,
  };
}"""


def missing() -> str:
    """Says why nothing can be measured in a browser. Empty where everything is installed."""
    if find_spec("playwright") is None:
        return "playwright is not installed"
    return "" if chromium() else "chromium is not installed"


@contextmanager
def launched() -> Iterator[Browser]:
    """Starts chromium and closes it when the block ends."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=_ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, url: str) -> Iterator[Page]:
    """Opens the page with an empty cache and hands it over once a model can be chosen."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.add_init_script(_WATCH_MODEL_ROW)
    tab = context.new_page()
    tab.set_default_timeout(WAIT_MS)
    tab.goto(url)
    tab.wait_for_function("window.usableAt")
    yield tab
    context.close()


def first_paint(browser: Browser, url: str, visits: int, settle: Callable[[], None]) -> dict[str, list[float]]:
    """Opens the page several times and measures when something is shown.

    Args:
        browser: chromium.
        url: address of the page.
        visits: number of measured visits, each with an empty cache. One more comes first and is not measured.
        settle: called before each visit; returns when the server is idle.

    Returns:
        Milliseconds after the address was opened, one value for each visit: "first_contentful_paint" and
        "model_row_usable".
    """
    paints, usable = [], []
    for visit in range(visits + 1):
        settle()
        with opened(browser, url) as tab:
            if visit:
                paints.append(tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
                usable.append(tab.evaluate("window.usableAt"))
    return {"first_contentful_paint": paints, "model_row_usable": usable}


def judge_on_page(tab: Page, photograph: Path, settle: Callable[[], None]) -> dict[str, Any]:
    """Uploads a photograph as a visitor does and waits for the verdict and its pictures.

    Args:
        tab: the page, as `opened` hands it over.
        photograph: one that the page has not seen before.
        settle: called before the upload and after the verdict; returns when the server is idle.

    Returns:
        Milliseconds from choosing the file until the upload was complete ("uploaded"), the verdict was requested
        ("asked"), the verdict was shown ("verdict") and the last picture was shown ("pictures"); the milliseconds that
        the page itself states for the model ("judged"); and the verdict ("is_anomalous").

    Raises:
        RuntimeError: the page states no time of its own.
    """
    if tab.locator("#verdict .word").count():
        tab.get_by_role("button", name="Remove Image").click()
        tab.wait_for_function("!document.querySelector('#verdict .word')")
    settle()
    tab.evaluate(_WATCH_VERDICT)
    tab.locator("#photo input[type=file]").set_input_files(photograph)
    tab.wait_for_function("window.verdictAt && window.picturesAt")
    settle()
    words = tab.locator("#verdict").inner_text()
    stated = re.search(r"Judged in (\d+) ms", words)
    if stated is None:
        raise RuntimeError(f"The page states no time of its own: {words!r}")
    return {**tab.evaluate(_TIMES), "judged": float(stated[1]), "is_anomalous": "Reject" in words}
