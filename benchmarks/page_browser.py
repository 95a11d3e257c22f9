"""The page in Debian's chromium: when a visitor sees something, and how long a verdict takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from page_server import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WAIT_MS = 120_000
_ARGUMENTS = ["--no-sandbox", "--disable-background-networking"]

# Polls every 5 ms: the model row is usable when its list takes input and says something about the model.
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

# From the moment at which the input has the file to the moment at which the verdict is in the document.
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
    """Why nothing can be measured in a browser; empty where it can."""
    if find_spec("playwright") is None:
        return "playwright is not installed"
    return "" if chromium() else "chromium is not installed"


@contextmanager
def launched() -> Iterator[Browser]:
    """Debian's chromium, until the block ends."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=_ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, url: str) -> Iterator[Page]:
    """The page in a context of its own, i.e. with an empty cache, once its model row is usable."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.add_init_script(_WATCH_MODEL_ROW)
    tab = context.new_page()
    tab.set_default_timeout(WAIT_MS)
    tab.goto(url)
    tab.wait_for_function("window.usableAt")
    yield tab
    context.close()


def first_paint(browser: Browser, url: str, visits: int, settle: Callable[[], None]) -> dict[str, list[float]]:
    """Opens the page `visits` times after one visit that does not count.

    Args:
        browser: chromium.
        url: of the page.
        visits: each with an empty cache.
        settle: called before each; returns when the server has nothing to do.

    Returns:
        Milliseconds after the address was opened: "first_contentful_paint" and "model_row_usable" of each visit.
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
    """Gives the page a photograph, as a visitor does, and waits for the verdict.

    Args:
        tab: the page, as `opened` gives it.
        photograph: one that the page has not had before.
        settle: returns when the server has nothing to do; called before the photograph and after the verdict.

    Returns:
        Milliseconds after the file was chosen until the upload was through ("uploaded"), the verdict was asked for
        ("asked"), it was there ("verdict"), and the last picture was there ("pictures"); the milliseconds that the
        server itself states for the network ("judged"); and "is_anomalous".
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
    return {**tab.evaluate(_TIMES), "judged": float(stated[1]), "is_anomalous": "Looks anomalous" in words}
